/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI image layout (image specification, image-layout.md), in a directory (oci:) or in a tar
 * archive (oci-archive:): index.json names manifests, all blobs lie below blobs/ by their digests.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cleanup.h"
#include "sources/oci_files.h"
#include "sources/oci_store.h"

#define REF_NAME   "org.opencontainers.image.ref.name"
#define IMAGE_NAME "io.containerd.image.name"

struct oci_layout {
	struct oci_store store;
	struct oci_files files;
};

static const struct oci_files *files_of(const struct oci_store *s)
{
	return &((const struct oci_layout *)s)->files;
}

/* "blobs/sha256/HEX"; digests were checked, and lead nowhere else. */
static void blob_path(const char *digest, char *ret, size_t room)
{
	snprintf(ret, room, "blobs/%.6s/%s", digest, digest + 7);
}

static int read_blob(const struct oci_files *f, const struct source_blob *b, char **ret,
	size_t *ret_len, struct err *e)
{
	char path[160];
	int r;

	blob_path(b->digest, path, sizeof(path));
	r = oci_files_read(f, path, OCI_MANIFEST_MAX, ret, ret_len, e);
	if (r == 0) {
		r = oci_digest_verify(b->digest, *ret, *ret_len, f->text, e);
		if (r < 0) {
			free(*ret);
			*ret = NULL;
		}
	}
	return r;
}

static int layout_manifest(
	struct oci_store *s, const struct oci_descriptor *d, struct oci_bytes *ret, struct err *e)
{
	struct oci_bytes bytes = { 0 };
	int r = read_blob(files_of(s), &d->blob, &bytes.data, &bytes.len, e);

	if (r == 0) {
		snprintf(bytes.type, sizeof(bytes.type), "%.255s", d->blob.media_type);
		snprintf(bytes.digest, sizeof(bytes.digest), "%.135s", d->blob.digest);
		*ret = bytes;
	}
	return r;
}

static bool has_name(const struct source_blob *b, const char *name)
{
	const char *ref = source_blob_annotation(b, REF_NAME);
	const char *image = source_blob_annotation(b, IMAGE_NAME);

	return (ref && strcmp(ref, name) == 0) || (image && strcmp(image, name) == 0);
}

static int not_found(const struct oci_files *f, const struct oci_manifest *index, struct err *e)
{
	char list[240] = "";

	for (size_t i = 0; i < index->count; i++) {
		const char *name = source_blob_annotation(&index->items[i].blob, REF_NAME);
		size_t n = strlen(list);

		if (name && n + strlen(name) + 3 < sizeof(list)) {
			snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", name);
		}
	}
	if (index->count == 0) {
		return err_set(e, -ENOENT, "%s: the layout holds no image", f->text);
	}
	if (!*f->ref) {
		return err_set(e, -EINVAL,
			"%s: the layout holds %zu images; choose one, :NAME (%s) or :@NUMBER",
			f->text, index->count, list);
	}
	return err_set(e, -ENOENT, "%s: there is no such image in the layout; it has %s", f->text,
		*list ? list : "none with a name");
}

/* The entry that the user means. */
static int choose(
	const struct oci_files *f, const struct oci_manifest *index, size_t *ret, struct err *e)
{
	char *end;

	if (!*f->ref && index->count == 1) {
		*ret = 0;
		return 0;
	}
	if (*f->ref == '@') {
		*ret = strtoul(f->ref + 1, &end, 10);
		return end > f->ref + 1 && !*end && *ret < index->count
			       ? 0
			       : err_set(e, -ENOENT, "%s: the layout holds %zu images, from @0 on",
					 f->text, index->count);
	}
	for (size_t i = 0; *f->ref && i < index->count; i++) {
		if (has_name(&index->items[i].blob, f->ref)) {
			*ret = i;
			return 0;
		}
	}
	return not_found(f, index, e);
}

static int read_index(const struct oci_files *f, struct oci_manifest *ret, struct err *e)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0;
	int r = oci_files_read(f, "index.json", OCI_MANIFEST_MAX, &data, &len, e);

	if (r < 0) {
		return err_wrap(e, r, "%s: not an OCI image layout", f->text);
	}
	r = oci_manifest_parse(f->text, data, len, OCI_TYPE_INDEX, ret, e);
	if (r == 0 && !ret->is_index) {
		oci_manifest_clear(ret);
		r = err_set(e, -EBADMSG, "%s: index.json is not an index", f->text);
	}
	return r;
}

static int layout_top(struct oci_store *s, struct oci_bytes *ret, struct err *e)
{
	const struct oci_files *f = files_of(s);
	struct oci_manifest index;
	size_t i = 0;
	int r = read_index(f, &index, e);

	if (r < 0) {
		return r;
	}
	r = choose(f, &index, &i, e);
	if (r == 0) {
		r = layout_manifest(s, &index.items[i], ret, e);
	}
	oci_manifest_clear(&index);
	return r;
}

static int layout_config(struct oci_store *s, const struct source_blob *b, char **ret,
	size_t *ret_len, struct err *e)
{
	return read_blob(files_of(s), b, ret, ret_len, e);
}

/* The image's id keeps what tells the file from others: nobody has compared its bytes with the
 * digest, and what is derived from damaged ones must not be taken for what belongs to right ones.
 */
static int layout_blob(struct oci_store *s, const struct source_blob *b, size_t layer,
	enum source_here here, struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *img = NULL;
	const struct oci_files *f = files_of(s);
	char path[160];
	int r;

	(void)layer;
	(void)here;
	blob_path(b->digest, path, sizeof(path));
	r = oci_files_open(f, path, &img, e);
	if (r < 0) {
		return r;
	}
	if (img->size != b->size) {
		return err_set(e, -EBADMSG,
			"%s: %s has %llu bytes, but %llu by the image's manifest", f->text, path,
			(unsigned long long)img->size, (unsigned long long)b->size);
	}
	*ret = TAKE_PTR(img);
	return 0;
}

static void layout_free(struct oci_store *s)
{
	struct oci_layout *l = (struct oci_layout *)s;

	oci_files_clear(&l->files);
	free(l);
}

static const struct oci_store_ops layout_ops = {
	.top = layout_top,
	.manifest = layout_manifest,
	.config = layout_config,
	.blob = layout_blob,
	.free = layout_free,
};

int oci_layout_open(
	const char *spec, const struct source_opts *opts, struct oci_store **ret, struct err *e)
{
	struct oci_layout *l = calloc(1, sizeof(*l));
	bool archive = strncasecmp(spec, "oci-archive:", 12) == 0;
	int r;

	if (!l) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	l->store.ops = &layout_ops;
	r = oci_files_init(&l->files, spec, archive ? opts->archive : NULL, e);
	if (r < 0) {
		layout_free(&l->store);
		return r;
	}
	*ret = &l->store;
	return 0;
}
