/* SPDX-License-Identifier: Apache-2.0 */
/* jansson with limits. */
#include "sources/json_text.h"

#include <errno.h>
#include <stdbool.h>

/* A manifest has six levels at most. jansson recurses. */
#define DEPTH_MAX 64U

static bool too_deep(const char *p, size_t len)
{
	unsigned int depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (quoted) {
			quoted = p[i] != '"';
			i += p[i] == '\\';
		} else if (p[i] == '"') {
			quoted = true;
		} else if (p[i] == '{' || p[i] == '[') {
			if (++depth > DEPTH_MAX) {
				return true;
			}
		} else if ((p[i] == '}' || p[i] == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

int json_text_parse(const char *what, const void *data, size_t len, json_t **ret, struct err *e)
{
	json_error_t why;
	json_t *json;

	if (too_deep(data, len)) {
		return err_set(e, -EBADMSG, "%s: nested too deeply", what);
	}
	json = json_loadb(data, len, JSON_REJECT_DUPLICATES, &why);
	if (!json) {
		bool twice = json_error_code(&why) == json_error_duplicate_key;

		return err_set(e, -EBADMSG, "%s: not JSON (line %d, column %d)%s", what, why.line,
			why.column, twice ? ": a key is there twice" : "");
	}
	*ret = json;
	return 0;
}

const char *json_text_get(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

void json_text_dropp(json_t **json)
{
	json_decref(*json);
}
