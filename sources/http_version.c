/* SPDX-License-Identifier: Apache-2.0 */
/* Validators: taking, comparing, writing down. */
#include "sources/http_version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* RFC 9110, 8.8.2.2: a date is a strong validator when it is so much older than the answer. */
#define STRONG_DATE_AGE_S 60
/* A date this close to the answer's own may be that of its making, or hide a change within the same
 * second: not a validator at all. */
#define USELESS_DATE_AGE_S 2

struct http_version http_version_of(const struct http_headers *h, uint64_t size)
{
	struct http_version v = { .size = size };
	int64_t modified = http_parse_date(h->last_modified);

	memcpy(v.etag, h->etag, sizeof(v.etag));
	if (modified > 0 && (h->date == 0 || h->date - modified >= USELESS_DATE_AGE_S)) {
		memcpy(v.last_modified, h->last_modified, sizeof(v.last_modified));
		v.if_range = h->date != 0 && h->date - modified >= STRONG_DATE_AGE_S;
	}
	return v;
}

bool http_version_has_validator(const struct http_version *v)
{
	return v->etag[0] || v->last_modified[0];
}

bool http_version_strong(const struct http_version *v)
{
	return v->etag[0] == '"';
}

bool http_version_matches(const struct http_version *v, const struct http_headers *h)
{
	bool seen = false;

	if (v->etag[0] && h->etag[0]) {
		if (strcmp(v->etag, h->etag) != 0) {
			return false;
		}
		if (http_version_strong(v)) {
			return true;
		}
		seen = true;
	}
	if (v->last_modified[0] && h->last_modified[0]) {
		if (http_parse_date(v->last_modified) != http_parse_date(h->last_modified)) {
			return false;
		}
		seen = true;
	}
	return seen || !http_version_has_validator(v);
}

char *http_version_id(const struct http_version *v, const char *url, uint64_t nonce)
{
	char *id = NULL;
	int n;

	if (v->etag[0]) {
		n = asprintf(&id, "%s etag=%s size=%" PRIu64, url, v->etag, v->size);
	} else if (v->last_modified[0]) {
		n = asprintf(&id, "%s last-modified=\"%s\" size=%" PRIu64, url, v->last_modified,
			v->size);
	} else {
		n = asprintf(&id, "%s open=%016" PRIx64 " size=%" PRIu64, url, nonce, v->size);
	}
	return n < 0 ? NULL : id;
}

/* Takes KEY"VALUE" (and a space) off *@p; the value with its quotes and, for tags, W/. False when
 * *@p does not begin with @key. */
static bool take(const char **p, const char *key, char *ret, size_t room)
{
	size_t n = strlen(key);
	const char *v = *p + n;
	const char *open;
	const char *close;

	if (strncmp(*p, key, n) != 0) {
		return false;
	}
	open = strncmp(v, "W/", 2) == 0 ? v + 2 : v;
	close = *open == '"' ? strchr(open + 1, '"') : NULL;
	if (!close || close[1] != ' ' || (size_t)(close + 1 - v) >= room) {
		return false;
	}
	memcpy(ret, v, (size_t)(close + 1 - v));
	ret[close + 1 - v] = '\0';
	*p = close + 2;
	return true;
}

bool http_version_parse(const char *id, const char *url, struct http_version *ret)
{
	struct http_version v = { 0 };
	char date[HTTP_DATE_MAX + 2];
	size_t n = strlen(url);
	const char *p = id + n + 1;

	if (strncmp(id, url, n) != 0 || id[n] != ' ') {
		return false;
	}
	take(&p, "etag=", v.etag, sizeof(v.etag));
	if (take(&p, "last-modified=", date, sizeof(date)) && date[0] == '"') {
		memcpy(v.last_modified, date + 1, strlen(date) - 2);
	}
	if (strncmp(p, "size=", 5) != 0 || !http_parse_number(p + 5, &v.size) ||
		!http_version_has_validator(&v)) {
		return false;
	}
	*ret = v;
	return true;
}

const char *http_version_words(const struct http_version *v)
{
	return v->etag[0] ? v->etag : v->last_modified;
}
