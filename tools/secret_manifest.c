/* SPDX-License-Identifier: Apache-2.0 */
/* The login in a Kubernetes Secret, written as YAML or JSON (which YAML includes). */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/cleanup.h"
#include "tools/secret.h"

static const char *scalar(const yaml_node_t *node)
{
	return node && node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value
						      : NULL;
}

/* The value of @key in @map, or NULL. As for Kubernetes, the last of equal keys counts. */
static yaml_node_t *lookup(yaml_document_t *doc, const yaml_node_t *map, const char *key)
{
	yaml_node_t *found = NULL;

	if (!map || map->type != YAML_MAPPING_NODE) {
		return NULL;
	}
	for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
		pair < map->data.mapping.pairs.top; pair++) {
		const char *name = scalar(yaml_document_get_node(doc, pair->key));

		if (name && strcmp(name, key) == 0) {
			found = yaml_document_get_node(doc, pair->value);
		}
	}
	return found;
}

/* -1: no digit of base64 (RFC 4648, section 4) */
static int base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* Decodes @text, in which line ends are allowed, to a NUL-terminated string without NUL. */
static char *base64_decode(const char *text)
{
	char *out = malloc(strlen(text) + 1);
	uint32_t bits = 0;
	unsigned int count = 0;
	size_t n = 0;

	if (!out) {
		return NULL;
	}
	for (; *text && *text != '='; text++) {
		int digit = base64_digit(*text);

		if (*text == '\n' || *text == '\r' || *text == ' ') {
			continue;
		}
		if (digit < 0) {
			goto bad;
		}
		bits = bits << 6 | (uint32_t)digit;
		if (++count % 4 != 1) {
			out[n] = (char)(bits >> (count % 4 == 2 ? 4 : count % 4 == 3 ? 2 : 0));
			if (!out[n++]) {
				goto bad;
			}
		}
	}
	if (count % 4 == 1 || strspn(text, "=\r\n ") != strlen(text)) {
		goto bad;
	}
	out[n] = '\0';
	return out;
bad:
	explicit_bzero(out, n);
	free(out);
	return NULL;
}

/* One value: stringData wins over data. *ret stays NULL when there is no @key. */
static int read_key(const char *path, yaml_document_t *doc, const yaml_node_t *root,
	const char *key, char **ret, struct err *e)
{
	const char *plain = scalar(lookup(doc, lookup(doc, root, "stringData"), key));
	const char *coded = scalar(lookup(doc, lookup(doc, root, "data"), key));

	if (!plain && !coded) {
		return 0;
	}
	*ret = plain ? strdup(plain) : base64_decode(coded);
	if (!*ret) {
		return err_set(e, -EINVAL, "%s: the value of %s is not base64 text", path, key);
	}
	secret_strip_newline(*ret);
	return 0;
}

static int read_secret(const char *path, yaml_document_t *doc, const yaml_node_t *root,
	struct secret *ret, struct err *e)
{
	int r = read_key(path, doc, root, "accessKeyId", &ret->user, e);

	if (r == 0) {
		r = read_key(path, doc, root, "secretKey", &ret->password, e);
	}
	if (r == 0 && !ret->user) {
		r = read_key(path, doc, root, "username", &ret->user, e);
	}
	if (r == 0 && !ret->password) {
		r = read_key(path, doc, root, "password", &ret->password, e);
	}
	return r;
}

/* 1: the document was a Secret. */
static int read_document(
	const char *path, yaml_document_t *doc, bool seen, struct secret *ret, struct err *e)
{
	const yaml_node_t *root = yaml_document_get_root_node(doc);
	const char *kind = scalar(lookup(doc, root, "kind"));
	int r;

	if (!kind || strcmp(kind, "Secret") != 0) {
		return 0;
	}
	if (seen) {
		return err_set(e, -EINVAL, "%s: more than one Secret; give a file with one", path);
	}
	r = read_secret(path, doc, root, ret, e);
	return r < 0 ? r : 1;
}

int secret_manifest_parse(
	const char *path, const char *text, size_t len, struct secret *ret, struct err *e)
{
	yaml_parser_t parser;
	bool seen = false;
	bool more = true;
	int r = 0;

	if (!yaml_parser_initialize(&parser)) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (r >= 0 && more) {
		yaml_document_t doc;

		if (!yaml_parser_load(&parser, &doc)) {
			r = err_set(e, -EINVAL, "%s, line %zu: not YAML: %s", path,
				parser.problem_mark.line + 1,
				parser.problem ? parser.problem : "cannot be read");
			break;
		}
		more = yaml_document_get_root_node(&doc) != NULL;
		if (more) {
			r = read_document(path, &doc, seen, ret, e);
			seen = seen || r > 0;
		}
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	if (r >= 0 && !seen) {
		r = err_set(e, -EINVAL, "%s: not a Secret: no document of kind Secret in it", path);
	}
	return r < 0 ? r : 0;
}
