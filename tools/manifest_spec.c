/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of DataVolumes, claims and PersistentVolumes. */
#include "tools/manifest_spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "tools/kube_name.h"
#include "tools/quantity.h"
#include "tools/secret.h"

/* As CDI has it. */
#define SIZE_MIN MIB(1)

/* A map, and how it is called in messages. */
struct section {
	const struct manifest_object *object;
	const struct yamltree_node *node;
	const char *field;
};

/* The sources that a DataVolume may have. */
static const struct {
	const char *name;
	bool usable;
	enum manifest_source source;
} sources[] = {
	{ "http", true, MANIFEST_SOURCE_HTTP },
	{ "pvc", true, MANIFEST_SOURCE_PVC },
	{ "blank", true, MANIFEST_SOURCE_BLANK },
	{ "registry", true, MANIFEST_SOURCE_REGISTRY },
	{ "s3", false, 0 },
	{ "gcs", false, 0 },
	{ "upload", false, 0 },
	{ "snapshot", false, 0 },
	{ "imageio", false, 0 },
	{ "vddk", false, 0 },
};

static int wrong(const struct section *s, const char *key, const char *why, struct err *e)
{
	const struct yamltree_node *node = yamltree_get(s->node, key);

	return manifest_error(e, -EINVAL, s->object, node ? node : s->node, NULL, "%s.%s: %s",
		s->field, key, why);
}

/* *ret is NULL when there is no such field. */
static int read_text(const struct section *s, const char *key, const char **ret, struct err *e)
{
	const struct yamltree_node *node = yamltree_get(s->node, key);

	if (node && node->kind != YAMLTREE_SCALAR) {
		return wrong(s, key, "is not text", e);
	}
	*ret = yamltree_text(node);
	return 0;
}

static int read_choice(
	const struct section *s, const char *key, enum manifest_choice *ret, struct err *e)
{
	static const char *const words[] = { "true", "yes", "on", "y", "false", "no", "off", "n" };
	const struct yamltree_node *node = yamltree_get(s->node, key);

	*ret = MANIFEST_UNSET;
	if (!node) {
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words) && node->plain; i++) {
		if (strcasecmp(node->text, words[i]) == 0) {
			*ret = i < 4 ? MANIFEST_YES : MANIFEST_NO;
			return 0;
		}
	}
	return wrong(s, key, "is neither true nor false", e);
}

static int read_size(const struct section *s, const char *key, uint64_t *ret, struct err *e)
{
	const struct yamltree_node *node = yamltree_get(s->node, key);
	const char *text = NULL;
	struct err why;
	int r = read_text(s, key, &text, e);

	if (r < 0 || !text) {
		return r;
	}
	r = quantity_parse(text, ret, &why);
	if (r < 0) {
		return manifest_error(
			e, -EINVAL, s->object, node, NULL, "%s.%s: %s", s->field, key, why.text);
	}
	return *ret < SIZE_MIN ? wrong(s, key, "is less than 1Mi", e) : 0;
}

/* FromStorageProfile asks the cluster, which is not there: a file it is. */
static int read_mode(const struct section *s, bool *ret_block, struct err *e)
{
	const char *mode = NULL;
	int r = read_text(s, "volumeMode", &mode, e);

	if (r < 0) {
		return r;
	}
	*ret_block = mode && strcmp(mode, "Block") == 0;
	if (mode && *mode && !*ret_block && strcmp(mode, "Filesystem") != 0 &&
		strcmp(mode, "FromStorageProfile") != 0) {
		return wrong(s, "volumeMode", "is neither Block nor Filesystem", e);
	}
	return 0;
}

static int read_name(const struct section *s, const char *key, const char **ret, struct err *e)
{
	int r = read_text(s, key, ret, e);

	if (r == 0 && *ret && !**ret) {
		*ret = NULL;
	}
	if (r == 0 && *ret && !kube_name_is_subdomain(*ret)) {
		r = wrong(s, key, "is not a name", e);
	}
	return r;
}

static int read_claim(const struct section *s, struct manifest_claim *ret, struct err *e)
{
	const struct yamltree_node *resources = yamltree_get(s->node, "resources");
	char field[128];
	struct section requests = { s->object, yamltree_get(resources, "requests"), field };
	int r;

	snprintf(field, sizeof(field), "%s.resources.requests", s->field);
	*ret = (struct manifest_claim){ .node = s->node };
	r = read_size(&requests, "storage", &ret->size, e);
	if (r == 0) {
		r = read_mode(s, &ret->block, e);
	}
	if (r == 0) {
		r = read_text(s, "storageClassName", &ret->storage_class, e);
	}
	if (r == 0) {
		r = read_name(s, "volumeName", &ret->volume_name, e);
	}
	return r;
}

int manifest_claim_read(
	const struct manifest_object *object, struct manifest_claim *ret, struct err *e)
{
	struct section s = { object, yamltree_get(object->root, "spec"), "spec" };
	struct manifest_claim claim;
	int r = read_claim(&s, &claim, e);

	if (r == 0) {
		*ret = claim;
	}
	return r;
}

/* @key where it belongs, or further out, where the documentation's examples have it. */
static const struct yamltree_node *find_outwards(
	const struct section *where, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++) {
		const struct yamltree_node *node = yamltree_get(where[i].node, key);

		if (node && i > 0) {
			manifest_warn(where[i].object, node, NULL,
				"%s.%s: taken as if it stood in %s, where it belongs",
				where[i].field, key, where[0].field);
		}
		if (node) {
			return node;
		}
	}
	return NULL;
}

static int check_reference(
	const struct section *s, const struct yamltree_node *node, const char *key, struct err *e)
{
	const char *name = yamltree_text(node);

	if (node && (!name || (*name && !kube_name_is_subdomain(name)))) {
		return manifest_error(
			e, -EINVAL, s->object, node, NULL, "%s.%s: is not a name", s->field, key);
	}
	return 0;
}

static int check_list(const struct section *s, const char *key, bool headers,
	const struct yamltree_node **ret, struct err *e)
{
	const struct yamltree_node *list = yamltree_get(s->node, key);

	if (list && list->kind != YAMLTREE_LIST) {
		return wrong(s, key, "is not a list", e);
	}
	for (size_t i = 0; list && i < list->count; i++) {
		const char *text = yamltree_text(list->items[i]);

		if (!text || !(headers ? secret_is_header(text) : kube_name_is_subdomain(text))) {
			return manifest_error(e, -EINVAL, s->object, list->items[i], NULL,
				"%s.%s: %s", s->field, key,
				headers ? "not a header; write \"Name: value\"" : "is not a name");
		}
	}
	*ret = list;
	return 0;
}

/* @schemes: what it may begin with; @words: the same for people. */
static int check_url(const struct section *s, const char *const schemes[2], const char *words,
	struct manifest_spec *spec, struct err *e)
{
	int r = read_text(s, "url", &spec->url, e);

	if (r < 0) {
		return r;
	}
	if (!spec->url) {
		return wrong(s, "url", "is missing", e);
	}
	for (int i = 0; i < 2; i++) {
		if (strncasecmp(spec->url, schemes[i], strlen(schemes[i])) == 0) {
			return 0;
		}
	}
	return wrong(s, "url", words, e);
}

/* @where: spec.source.http, spec.source, spec. */
static int read_references(const struct section *where, struct manifest_spec *spec, struct err *e)
{
	int r;

	spec->secret_ref = find_outwards(where, 3, "secretRef");
	spec->cert_config_map = find_outwards(where, 3, "certConfigMap");
	r = check_reference(&where[0], spec->secret_ref, "secretRef", e);
	return r < 0 ? r : check_reference(&where[0], spec->cert_config_map, "certConfigMap", e);
}

static int read_http(const struct section *where, struct manifest_spec *spec, struct err *e)
{
	static const char *const schemes[2] = { "http://", "https://" };
	const struct section *s = &where[0];
	enum manifest_choice insecure = MANIFEST_UNSET;
	int r = check_url(s, schemes, "does not begin with http:// or https://", spec, e);

	if (r == 0) {
		r = read_references(where, spec, e);
	}
	if (r == 0) {
		r = check_list(s, "extraHeaders", true, &spec->extra_headers, e);
	}
	if (r == 0) {
		r = check_list(s, "secretExtraHeaders", false, &spec->secret_extra_headers, e);
	}
	if (r == 0) {
		r = read_text(s, "checksum", &spec->checksum, e);
	}
	if (r == 0) {
		r = read_choice(s, "insecureSkipVerify", &insecure, e);
		spec->insecure = insecure == MANIFEST_YES;
	}
	return r;
}

/* How it is pulled is a cluster's business; what is in the end is the same. */
static int read_registry(const struct section *where, struct manifest_spec *spec, struct err *e)
{
	static const char *const schemes[2] = { "docker://", "oci-archive:" };
	const struct section *s = &where[0];
	struct section platform = { s->object, yamltree_get(s->node, "platform"),
		"spec.source.registry.platform" };
	int r;

	if (yamltree_get(s->node, "imageStream")) {
		return manifest_error(e, -ENOTSUP, s->object, yamltree_get(s->node, "imageStream"),
			"spec.source.registry.imageStream",
			"is known to a cluster only; give the image's url");
	}
	r = check_url(s, schemes, "does not begin with docker:// or oci-archive:", spec, e);
	if (r == 0) {
		r = read_references(where, spec, e);
	}
	if (r == 0) {
		r = read_text(&platform, "architecture", &spec->architecture, e);
	}
	return r;
}

static int read_clone(const struct section *s, struct manifest_spec *spec, struct err *e)
{
	int r = read_name(s, "name", &spec->clone_name, e);

	if (r == 0 && !spec->clone_name) {
		r = wrong(s, "name", "is missing", e);
	}
	if (r == 0) {
		r = read_name(s, "namespace", &spec->clone_ns, e);
	}
	if (r == 0 && spec->clone_ns && !kube_name_is_label(spec->clone_ns)) {
		r = wrong(s, "namespace", "is not a name", e);
	}
	if (r == 0 && !spec->clone_ns) {
		spec->clone_ns = s->object->ns;
	}
	return r;
}

/* The index in sources[] of the one that is there. */
static int find_source(const struct section *s, size_t *ret, struct err *e)
{
	size_t found = ARRAY_SIZE(sources);

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		if (!yamltree_get(s->node, sources[i].name)) {
			continue;
		}
		if (found < ARRAY_SIZE(sources)) {
			return manifest_error(e, -EINVAL, s->object,
				yamltree_get(s->node, sources[i].name), s->field,
				"has both %s and %s; a volume has one source", sources[found].name,
				sources[i].name);
		}
		found = i;
	}
	if (found == ARRAY_SIZE(sources)) {
		return manifest_error(e, -EINVAL, s->object, s->node, s->field,
			"names no source: http, registry, pvc or blank");
	}
	if (!sources[found].usable) {
		return manifest_error(e, -ENOTSUP, s->object,
			yamltree_get(s->node, sources[found].name), s->field,
			"%s sources are not supported by this version", sources[found].name);
	}
	*ret = found;
	return 0;
}

static int read_source(const struct section *top, struct manifest_spec *spec, struct err *e)
{
	struct section source = { top->object, yamltree_get(top->node, "source"), "spec.source" };
	char field[64];
	size_t i = 0;
	int r;

	if (!source.node && yamltree_get(top->node, "sourceRef")) {
		return manifest_error(e, -ENOTSUP, top->object,
			yamltree_get(top->node, "sourceRef"), "spec.sourceRef",
			"is known to a cluster only; give the volume a source");
	}
	if (!source.node) {
		return wrong(top, "source", "is missing", e);
	}
	r = find_source(&source, &i, e);
	if (r < 0) {
		return r;
	}
	spec->source = sources[i].source;
	spec->source_name = sources[i].name;
	spec->source_node = yamltree_get(source.node, sources[i].name);
	snprintf(field, sizeof(field), "spec.source.%s", sources[i].name);
	struct section where[] = { { top->object, spec->source_node, field }, source, *top };

	switch (spec->source) {
	case MANIFEST_SOURCE_HTTP:
		return read_http(where, spec, e);
	case MANIFEST_SOURCE_REGISTRY:
		return read_registry(where, spec, e);
	case MANIFEST_SOURCE_PVC:
		return read_clone(where, spec, e);
	case MANIFEST_SOURCE_BLANK:
		break;
	}
	return 0;
}

/* `storage` or `pvc`, which say the same in the same words. */
static int read_storage(const struct section *top, struct manifest_spec *spec, struct err *e)
{
	struct section storage = { top->object, yamltree_get(top->node, "storage"),
		"spec.storage" };
	struct section pvc = { top->object, yamltree_get(top->node, "pvc"), "spec.pvc" };
	const struct section where[] = { storage.node ? storage : pvc, *top };
	const struct yamltree_node *class;
	int r;

	if (storage.node && pvc.node) {
		return wrong(top, "pvc", "stands beside spec.storage; a volume has one of them", e);
	}
	if (!where[0].node) {
		return wrong(top, "storage", "is missing", e);
	}
	r = read_claim(&where[0], &spec->claim, e);
	if (r == 0 && spec->claim.size == 0 && spec->source != MANIFEST_SOURCE_PVC) {
		return manifest_error(e, -EINVAL, top->object, where[0].node, NULL,
			"%s.resources.requests.storage: is missing", where[0].field);
	}
	if (r == 0 && !spec->claim.storage_class) {
		class = find_outwards(where, 2, "storageClassName");
		spec->claim.storage_class = yamltree_text(class);
	}
	return r;
}

static int check_content(const struct section *top, struct err *e)
{
	const char *type = NULL;
	int r = read_text(top, "contentType", &type, e);

	if (r == 0 && type && *type && strcmp(type, "kubevirt") != 0) {
		r = manifest_error(e, -ENOTSUP, top->object, yamltree_get(top->node, "contentType"),
			"spec.contentType", "only kubevirt, a disk, is supported by this version");
	}
	return r;
}

int manifest_spec_read(
	const struct manifest_object *volume, struct manifest_spec *ret, struct err *e)
{
	struct section top = { volume, yamltree_get(volume->root, "spec"), "spec" };
	struct manifest_spec spec = { 0 };
	int r;

	if (!top.node) {
		return manifest_error(e, -EINVAL, volume, NULL, "spec", "is missing");
	}
	r = read_source(&top, &spec, e);
	if (r == 0) {
		r = read_storage(&top, &spec, e);
	}
	if (r == 0) {
		r = check_content(&top, e);
	}
	if (r == 0) {
		r = read_choice(&top, "preallocation", &spec.preallocation, e);
	}
	if (r == 0) {
		*ret = spec;
	}
	return r;
}

/* Both are local to a host; which host is not asked, it is this one. */
static int read_place(const struct section *spec, struct manifest_pv *pv, struct err *e)
{
	struct section local = { spec->object, yamltree_get(spec->node, "local"), "spec.local" };
	struct section host = { spec->object, yamltree_get(spec->node, "hostPath"),
		"spec.hostPath" };
	const struct section *s = local.node ? &local : &host;
	int r = read_text(s, "path", &pv->path, e);
	size_t len = pv->path ? strlen(pv->path) : 0;

	if (r < 0 || !pv->path) {
		return r;
	}
	if (len > 2 && pv->path[0] == '<' && pv->path[len - 1] == '>') {
		return wrong(s, "path", "is a placeholder: put a path of your own there", e);
	}
	return pv->path[0] == '/' ? 0 : wrong(s, "path", "is not an absolute path", e);
}

static int read_claim_ref(const struct section *spec, struct manifest_pv *pv, struct err *e)
{
	struct section ref = { spec->object, yamltree_get(spec->node, "claimRef"),
		"spec.claimRef" };
	int r;

	if (!ref.node) {
		return 0;
	}
	r = read_name(&ref, "name", &pv->claim_name, e);
	if (r == 0) {
		r = read_name(&ref, "namespace", &pv->claim_ns, e);
	}
	if (r == 0 && pv->claim_name && !pv->claim_ns) {
		pv->claim_ns = "default";
	}
	return r;
}

int manifest_pv_read(const struct manifest_object *object, struct manifest_pv *ret, struct err *e)
{
	struct section spec = { object, yamltree_get(object->root, "spec"), "spec" };
	struct section capacity = { object, yamltree_get(spec.node, "capacity"), "spec.capacity" };
	struct manifest_pv pv = { .object = object };
	int r = read_place(&spec, &pv, e);

	if (r == 0) {
		r = read_size(&capacity, "storage", &pv.capacity, e);
	}
	if (r == 0 && pv.capacity == 0) {
		r = manifest_error(
			e, -EINVAL, object, spec.node, "spec.capacity.storage", "is missing");
	}
	if (r == 0) {
		r = read_mode(&spec, &pv.block, e);
	}
	if (r == 0) {
		r = read_text(&spec, "storageClassName", &pv.storage_class, e);
	}
	if (r == 0) {
		r = read_claim_ref(&spec, &pv, e);
	}
	if (r == 0) {
		*ret = pv;
	}
	return r;
}
