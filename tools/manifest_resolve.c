/* SPDX-License-Identifier: Apache-2.0 */
/* Logins and headers from Secrets, authorities from ConfigMaps. */
#include "tools/manifest_resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base64.h"
#include "core/cleanup.h"

/* Of one volume, and of the bytes in them. */
#define HEADERS_MAX 256
#define PEM_MAX     (4U << 20)

struct resolver {
	const struct manifest *m;
	const struct manifest_object *volume;
	const struct manifest_spec *spec;
	struct manifest_access access;
	size_t header_count;
};

void manifest_access_clear(struct manifest_access *access)
{
	secret_clear(&access->login);
	secret_free_headers(access->headers);
	free(access->ca);
	free(access->login_from);
	*access = (struct manifest_access){ 0 };
}

/* The object that @ref names; *ret is NULL when it names none. */
static int find(const struct resolver *r, enum manifest_kind kind, const char *kind_name,
	const struct yamltree_node *ref, const char *field, const struct manifest_object **ret,
	struct err *e)
{
	const char *name = yamltree_text(ref);
	char where[80];

	*ret = NULL;
	if (!name || !*name) {
		return 0;
	}
	*ret = manifest_find(r->m, kind, r->volume->ns, name);
	if (!*ret) {
		snprintf(where, sizeof(where), "spec.source.%s.%s", r->spec->source_name, field);
		return manifest_error(e, -EINVAL, r->volume, ref, where,
			"there is no %s %s in namespace %s among the manifests", kind_name, name,
			r->volume->ns);
	}
	return 0;
}

static int find_login(struct resolver *r, const struct manifest_spec *spec, struct err *e)
{
	const struct manifest_object *secret = NULL;
	char where[512];
	int n = find(r, MANIFEST_SECRET, "Secret", spec->secret_ref, "secretRef", &secret, e);

	if (n < 0 || !secret) {
		return n;
	}
	snprintf(
		where, sizeof(where), "%s:%u: Secret %s", secret->file, secret->line, secret->name);
	n = secret_node_login(where, secret->root, &r->access.login, e);
	if (n == 0 && spec->source == MANIFEST_SOURCE_HTTP && r->access.login.docker_config &&
		!r->access.login.user) {
		n = manifest_error(e, -EINVAL, r->volume, spec->secret_ref,
			"spec.source.http.secretRef",
			"Secret %s is a docker config, which is for registries; accessKeyId and "
			"secretKey are wanted",
			secret->name);
	}
	if (n == 0 && asprintf(&r->access.login_from, "Secret %s", secret->name) < 0) {
		r->access.login_from = NULL;
		n = err_set(e, -ENOMEM, "out of memory");
	}
	return n;
}

static int add_header(struct resolver *r, const char *text, struct err *e)
{
	char **more;

	if (r->header_count == HEADERS_MAX) {
		return manifest_error(e, -EINVAL, r->volume, NULL, NULL, "too many headers");
	}
	more = reallocarray(r->access.headers, r->header_count + 2, sizeof(*more));
	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r->access.headers = more;
	more[r->header_count] = strdup(text);
	more[r->header_count + 1] = NULL;
	return more[r->header_count++] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* Each value of such a Secret is a whole header, whatever its key. */
static int add_secret_header(struct resolver *r, const struct manifest_object *secret,
	const struct yamltree_node *key, struct err *e)
{
	CLEANUP_SECRET char *value = NULL;
	int n = secret_node_value(secret->root, key->text, &value);

	if (n < 0) {
		return manifest_error(
			e, -EINVAL, secret, key, key->text, "the value is not base64 text");
	}
	if (!secret_is_header(value)) {
		return manifest_error(e, -EINVAL, secret, key, key->text,
			"the value is not a header; write \"Name: value\"");
	}
	return add_header(r, value, e);
}

static int add_secret_headers(
	struct resolver *r, const struct manifest_object *secret, struct err *e)
{
	const struct yamltree_node *plain = yamltree_get(secret->root, "stringData");
	const struct yamltree_node *parts[] = { plain, yamltree_get(secret->root, "data") };
	int n = 0;

	for (int part = 0; part < 2; part++) {
		const struct yamltree_node *map = parts[part];
		size_t count = map && map->kind == YAMLTREE_MAP ? map->count : 0;

		for (size_t i = 0; n == 0 && i < count; i++) {
			const struct yamltree_node *key = map->items[2 * i];

			/* stringData has had its turn. */
			if (part == 0 || !yamltree_get(plain, key->text)) {
				n = add_secret_header(r, secret, key, e);
			}
		}
	}
	return n;
}

static int find_headers(struct resolver *r, const struct manifest_spec *spec, struct err *e)
{
	const struct yamltree_node *list = spec->extra_headers;
	int n = 0;

	for (size_t i = 0; n == 0 && list && i < list->count; i++) {
		n = add_header(r, yamltree_text(list->items[i]), e);
	}
	list = spec->secret_extra_headers;
	for (size_t i = 0; n == 0 && list && i < list->count; i++) {
		const struct manifest_object *secret = NULL;

		n = find(r, MANIFEST_SECRET, "Secret", list->items[i], "secretExtraHeaders",
			&secret, e);
		if (n == 0 && secret) {
			n = add_secret_headers(r, secret, e);
		}
	}
	return n;
}

static int append_pem(struct resolver *r, const struct manifest_object *map,
	const struct yamltree_node *key, const char *text, struct err *e)
{
	char *joined = NULL;

	if (!strstr(text, "-----BEGIN ")) {
		return 0;
	}
	if (strlen(text) + (r->access.ca ? strlen(r->access.ca) : 0) > PEM_MAX) {
		return manifest_error(e, -EINVAL, map, key, NULL, "too many certificates");
	}
	if (asprintf(&joined, "%s%s\n", r->access.ca ? r->access.ca : "", text) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	free(r->access.ca);
	r->access.ca = joined;
	return 0;
}

/* Certificates stand under any key. */
static int add_certificates(
	struct resolver *r, const struct manifest_object *map, const char *part, struct err *e)
{
	const struct yamltree_node *data = yamltree_get(map->root, part);
	bool coded = strcmp(part, "binaryData") == 0;
	int n = 0;

	for (size_t i = 0; n == 0 && data && data->kind == YAMLTREE_MAP && i < data->count; i++) {
		const struct yamltree_node *key = data->items[2 * i];
		const char *text = yamltree_text(data->items[2 * i + 1]);
		CLEANUP_FREE char *decoded = coded && text ? base64_decode_text(text) : NULL;

		text = coded ? decoded : text;
		n = text ? append_pem(r, map, key, text, e) : 0;
	}
	return n;
}

static int find_authorities(struct resolver *r, const struct manifest_spec *spec, struct err *e)
{
	const struct manifest_object *map = NULL;
	int n = find(r, MANIFEST_CONFIG_MAP, "ConfigMap", spec->cert_config_map, "certConfigMap",
		&map, e);

	if (n < 0 || !map) {
		return n;
	}
	n = add_certificates(r, map, "data", e);
	if (n == 0) {
		n = add_certificates(r, map, "binaryData", e);
	}
	if (n == 0 && (!r->access.ca || !strstr(r->access.ca, "CERTIFICATE-----"))) {
		n = manifest_error(e, -EINVAL, map, NULL, "data",
			"ConfigMap %s holds no PEM certificate", map->name);
	}
	return n;
}

int manifest_resolve(const struct manifest *m, const struct manifest_object *volume,
	const struct manifest_spec *spec, struct manifest_access *ret, struct err *e)
{
	struct resolver r = { .m = m, .volume = volume, .spec = spec };
	int n = find_login(&r, spec, e);

	if (n == 0) {
		n = find_headers(&r, spec, e);
	}
	if (n == 0) {
		n = find_authorities(&r, spec, e);
	}
	if (n < 0) {
		manifest_access_clear(&r.access);
		return n;
	}
	*ret = r.access;
	return 0;
}
