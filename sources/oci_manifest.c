/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors out of JSON that nobody vouches for. */
#include "sources/oci_manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/json_text.h"
#include "sources/oci_digest.h"

#define ENTRIES_MAX     1024U
#define ANNOTATIONS_MAX 1024U
/* What every JSON library reads exactly. */
#define SIZE_LIMIT (1LL << 53)

enum kind {
	KIND_UNKNOWN,
	KIND_INDEX,
	KIND_MANIFEST,
	KIND_SCHEMA1,
	KIND_ARTIFACT
};

static enum kind kind_of_type(const char *type)
{
	static const struct {
		const char *type;
		enum kind kind;
	} known[] = {
		{ OCI_TYPE_INDEX, KIND_INDEX },
		{ OCI_TYPE_LIST, KIND_INDEX },
		{ OCI_TYPE_MANIFEST, KIND_MANIFEST },
		{ OCI_TYPE_SCHEMA2, KIND_MANIFEST },
		{ "application/vnd.docker.distribution.manifest.v1+json", KIND_SCHEMA1 },
		{ "application/vnd.docker.distribution.manifest.v1+prettyjws", KIND_SCHEMA1 },
		{ "application/vnd.oci.artifact.manifest.v1+json", KIND_ARTIFACT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i].type, type) == 0) {
			return known[i].kind;
		}
	}
	return KIND_UNKNOWN;
}

static const char *text_or_empty(const json_t *object, const char *key)
{
	const char *text = json_text_get(object, key);

	return text ? text : "";
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int read_annotations(const char *what, json_t *map, struct source_blob *blob, struct err *e)
{
	struct source_annotation *list;
	const char *key;
	json_t *value;
	size_t n = json_object_size(map);

	if (n == 0) {
		return 0;
	}
	if (n > ANNOTATIONS_MAX) {
		return err_set(e, -EBADMSG, "%s: more than %u annotations", what, ANNOTATIONS_MAX);
	}
	list = calloc(n, sizeof(*list));
	if (!list) {
		return no_memory(e);
	}
	n = 0;
	json_object_foreach(map, key, value)
	{
		if (json_is_string(value)) {
			list[n++] = (struct source_annotation){ key, json_string_value(value) };
		}
	}
	blob->annotations = list;
	blob->annotation_count = n;
	return 0;
}

static int read_descriptor(const char *what, const char *field, json_t *json,
	struct oci_descriptor *ret, struct err *e)
{
	const json_t *platform = json_object_get(json, "platform");
	const json_t *size = json_object_get(json, "size");
	struct oci_descriptor d = { 0 };
	struct err why;

	d.blob.digest = text_or_empty(json, "digest");
	d.blob.media_type = text_or_empty(json, "mediaType");
	d.data = json_text_get(json, "data");
	d.os = text_or_empty(platform, "os");
	d.architecture = text_or_empty(platform, "architecture");
	d.variant = text_or_empty(platform, "variant");
	if (oci_digest_check(d.blob.digest, &why) < 0) {
		return err_set(e, -EBADMSG, "%s: %s: %s", what, field, why.text);
	}
	if (!json_is_integer(size) || json_integer_value(size) < 0 ||
		json_integer_value(size) >= SIZE_LIMIT) {
		return err_set(e, -EBADMSG, "%s: %s: the size is not one", what, field);
	}
	d.blob.size = (uint64_t)json_integer_value(size);
	*ret = d;
	return read_annotations(what, json_object_get(json, "annotations"), &ret->blob, e);
}

static int read_items(const char *what, struct oci_manifest *m, struct err *e)
{
	const char *field = m->is_index ? "manifests" : "layers";
	const json_t *list = json_object_get(m->root, field);
	size_t most = m->is_index ? ENTRIES_MAX : OCI_LAYERS_MAX;
	int r = 0;

	if (!json_is_array(list)) {
		return err_set(e, -EBADMSG, "%s: %s is not a list", what, field);
	}
	if (json_array_size(list) > most) {
		return err_set(e, -EBADMSG, "%s: more than %zu %s", what, most, field);
	}
	m->items = calloc(json_array_size(list) + 1, sizeof(*m->items));
	if (!m->items) {
		return no_memory(e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		r = read_descriptor(what, field, json_array_get(list, i), &m->items[m->count++], e);
	}
	return r;
}

static int refuse_schema1(const char *what, struct err *e)
{
	return err_set(e, -ENOTSUP,
		"%s: a Docker schema 1 manifest, which is obsolete and not supported: push the image "
		"again with a current tool",
		what);
}

/* What the fields say it is. One that could be read as either kind is an attack or a mistake. */
static int kind_by_fields(const char *what, const json_t *root, enum kind *ret, struct err *e)
{
	bool index = json_object_get(root, "manifests");
	bool manifest = json_object_get(root, "layers") || json_object_get(root, "config");
	bool schema1 = json_object_get(root, "fsLayers") || json_object_get(root, "history");

	if (index + manifest + schema1 > 1) {
		return err_set(e, -EBADMSG,
			"%s: has the fields of more than one kind of manifest: nobody knows which it is",
			what);
	}
	*ret = index      ? KIND_INDEX
	       : manifest ? KIND_MANIFEST
	       : schema1  ? KIND_SCHEMA1
			  : KIND_UNKNOWN;
	return 0;
}

static int find_kind(const char *what, const json_t *root, const char *media_type, bool *ret_index,
	const char **ret_type, struct err *e)
{
	const char *own = text_or_empty(root, "mediaType");
	const char *type = *own ? own : kind_of_type(media_type) ? media_type : "";
	enum kind fields = KIND_UNKNOWN;
	int r;

	if (kind_of_type(own) == KIND_SCHEMA1 || kind_of_type(media_type) == KIND_SCHEMA1 ||
		json_integer_value(json_object_get(root, "schemaVersion")) == 1) {
		return refuse_schema1(what, e);
	}
	if (kind_of_type(own) == KIND_ARTIFACT || kind_of_type(media_type) == KIND_ARTIFACT) {
		return err_set(e, -ENOTSUP,
			"%s: an OCI artifact manifest, which was withdrawn and is not supported: push "
			"it as an image manifest with an artifactType",
			what);
	}
	if (*own && kind_of_type(media_type) && strcmp(own, media_type) != 0) {
		return err_set(e, -EBADMSG, "%s: came as %s and calls itself %.100s", what,
			media_type, own);
	}
	r = kind_by_fields(what, root, &fields, e);
	if (r < 0) {
		return r;
	}
	if (fields == KIND_SCHEMA1) {
		return refuse_schema1(what, e);
	}
	if (fields == KIND_UNKNOWN || (*own && !kind_of_type(own))) {
		return err_set(e, -EBADMSG, "%s: not a manifest of an image%s%.100s", what,
			*own ? ", but " : "", own);
	}
	if (*type && kind_of_type(type) != fields) {
		return err_set(e, -EBADMSG, "%s: does not hold what %s has", what, type);
	}
	*ret_index = fields == KIND_INDEX;
	*ret_type = *type ? type : fields == KIND_INDEX ? OCI_TYPE_INDEX : OCI_TYPE_MANIFEST;
	return 0;
}

static int read_root(
	const char *what, const char *media_type, struct oci_manifest *m, struct err *e)
{
	json_t *config = json_object_get(m->root, "config");
	const char *type = "";
	int r = find_kind(what, m->root, media_type, &m->is_index, &type, e);

	if (r < 0) {
		return r;
	}
	if (json_integer_value(json_object_get(m->root, "schemaVersion")) != 2) {
		return err_set(e, -EBADMSG, "%s: the schemaVersion is not 2", what);
	}
	/* The caller's string may not last; ours does. */
	json_object_set_new(m->root, "mediaType", json_string(type));
	m->media_type = text_or_empty(m->root, "mediaType");
	m->artifact_type = text_or_empty(m->root, "artifactType");
	r = read_items(what, m, e);
	if (r == 0 && config) {
		r = read_descriptor(what, "config", config, &m->config, e);
	}
	return r;
}

int oci_manifest_parse(const char *what, const void *data, size_t len, const char *media_type,
	struct oci_manifest *ret, struct err *e)
{
	struct oci_manifest m = { 0 };
	int r;

	if (len > OCI_MANIFEST_MAX) {
		return err_set(e, -EBADMSG, "%s: the manifest is larger than %u MiB", what,
			OCI_MANIFEST_MAX >> 20);
	}
	m.config.blob.digest = m.config.blob.media_type = "";
	r = json_text_parse(what, data, len, &m.root, e);
	if (r == 0) {
		r = read_root(what, media_type, &m, e);
	}
	if (r < 0) {
		oci_manifest_clear(&m);
		return r;
	}
	*ret = m;
	return 0;
}

static void free_annotations(const struct source_blob *b)
{
	free((void *)(uintptr_t)b->annotations);
}

void oci_manifest_clear(struct oci_manifest *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free_annotations(&m->items[i].blob);
	}
	free_annotations(&m->config.blob);
	free(m->items);
	json_decref(m->root);
	*m = (struct oci_manifest){ 0 };
}

const char *source_blob_annotation(const struct source_blob *b, const char *key)
{
	for (size_t i = 0; i < b->annotation_count; i++) {
		if (strcmp(b->annotations[i].key, key) == 0) {
			return b->annotations[i].value;
		}
	}
	return NULL;
}
