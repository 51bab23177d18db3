/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `docker save` writes: a tar file whose manifest.json lists images, each with its config and
 * its layers by their paths in the archive (moby, image/spec/v1.2.md). Layers have no digests here,
 * unless they lie in blobs/, as newer versions have it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "sources/json_text.h"
#include "sources/oci_files.h"
#include "sources/oci_store.h"

#define MANIFEST_MAX 1048576U

struct docker_archive {
	struct oci_store store;
	struct oci_files files;
	json_t *images;       /* manifest.json */
	const json_t *chosen; /* of it */
};

static struct docker_archive *of(struct oci_store *s)
{
	return (struct docker_archive *)s;
}

/* What a reference means without saying it. */
static const char *short_name(const char *name)
{
	static const char *const prefixes[] = { "docker.io/library/", "docker.io/" };

	for (size_t i = 0; i < 2; i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], n) == 0) {
			return name + n;
		}
	}
	return name;
}

static bool has_tag(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strchr(slash ? slash : name, ':');
}

static bool same_name(const char *a, const char *b)
{
	CLEANUP_FREE char *whole = NULL;

	a = short_name(a);
	b = short_name(b);
	if (has_tag(a)) {
		return strcmp(a, b) == 0;
	}
	return asprintf(&whole, "%s:latest", a) >= 0 && strcmp(whole, b) == 0;
}

static bool is_called(const json_t *image, const char *name)
{
	const json_t *tags = json_object_get(image, "RepoTags");

	for (size_t i = 0; i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));

		if (tag && same_name(name, tag)) {
			return true;
		}
	}
	return false;
}

static int choose(struct docker_archive *d, struct err *e)
{
	const char *ref = d->files.ref;
	size_t count = json_array_size(d->images);
	size_t i = 0;
	char *end;

	if (*ref == '@') {
		i = strtoul(ref + 1, &end, 10);
		i = end > ref + 1 && !*end ? i : count;
	} else if (*ref) {
		while (i < count && !is_called(json_array_get(d->images, i), ref)) {
			i++;
		}
	} else if (count > 1) {
		return err_set(e, -EINVAL,
			"%s: the archive holds %zu images; choose one, :REPO:TAG or :@NUMBER",
			d->files.text, count);
	}
	d->chosen = json_array_get(d->images, i);
	return d->chosen ? 0
			 : err_set(e, -ENOENT, "%s: there is no such image in the archive",
				   d->files.text);
}

static int read_images(struct docker_archive *d, struct err *e)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0;
	int r = oci_files_read(&d->files, "manifest.json", MANIFEST_MAX, &data, &len, e);

	if (r < 0) {
		return err_wrap(e, r, "%s: not an archive of docker save", d->files.text);
	}
	r = json_text_parse(d->files.text, data, len, &d->images, e);
	if (r == 0 && !json_is_array(d->images)) {
		r = err_set(e, -EBADMSG, "%s: manifest.json is not a list", d->files.text);
	}
	return r;
}

/* The digest of "blobs/sha256/HEX", malloc()ed into the manifest's JSON; "" for other paths. */
static const char *digest_of(json_t *keep, const char *path)
{
	char digest[OCI_DIGEST_MAX] = "sha256:";

	if (strncmp(path, "blobs/sha256/", 13) != 0 || strlen(path) != 13 + 64) {
		return "";
	}
	memcpy(digest + 7, path + 13, 65);
	if (oci_digest_check(digest, NULL) < 0) {
		return "";
	}
	/* Layers may be the same, and what was handed out stays. */
	if (!json_object_get(keep, path)) {
		json_object_set_new(keep, path, json_string(digest));
	}
	return json_string_value(json_object_get(keep, path));
}

static int add_layer(
	struct docker_archive *d, const json_t *path, struct oci_manifest *m, struct err *e)
{
	CLEANUP(image_closep) struct image *img = NULL;
	struct oci_descriptor *item = &m->items[m->count];
	const char *name = json_string_value(path);
	int r;

	if (!name) {
		return err_set(e, -EBADMSG, "%s: a layer has no path", d->files.text);
	}
	r = oci_files_open(&d->files, name, &img, e);
	if (r < 0) {
		return r;
	}
	item->blob.digest = digest_of(m->root, name);
	item->blob.media_type = "";
	item->blob.size = img->size;
	item->os = item->architecture = item->variant = "";
	m->count++;
	return 0;
}

static int archive_list(struct oci_store *s, struct oci_manifest *ret, struct err *e)
{
	struct docker_archive *d = of(s);
	struct oci_manifest m = { .media_type = "", .artifact_type = "" };
	const json_t *layers;
	int r = read_images(d, e);

	if (r == 0) {
		r = choose(d, e);
	}
	if (r < 0) {
		return r;
	}
	layers = json_object_get(d->chosen, "Layers");
	if (!json_is_array(layers) || json_array_size(layers) > OCI_LAYERS_MAX) {
		return err_set(
			e, -EBADMSG, "%s: the image has no usable list of layers", d->files.text);
	}
	m.config.blob.digest = m.config.blob.media_type = "";
	m.root = json_object();
	m.items = calloc(json_array_size(layers) + 1, sizeof(*m.items));
	if (!m.root || !m.items) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
		r = add_layer(d, json_array_get(layers, i), &m, e);
	}
	if (r < 0) {
		oci_manifest_clear(&m);
		return r;
	}
	*ret = m;
	return 0;
}

static int archive_config(struct oci_store *s, const struct source_blob *b, char **ret,
	size_t *ret_len, struct err *e)
{
	struct docker_archive *d = of(s);
	const char *path = json_text_get(d->chosen, "Config");

	(void)b;
	if (!path) {
		return err_set(e, -EBADMSG, "%s: the image has no config", d->files.text);
	}
	return oci_files_read(&d->files, path, OCI_MANIFEST_MAX, ret, ret_len, e);
}

static int archive_blob(struct oci_store *s, const struct source_blob *b, size_t layer,
	enum source_here here, struct image **ret, struct err *e)
{
	struct docker_archive *d = of(s);
	const json_t *layers = json_object_get(d->chosen, "Layers");

	(void)b;
	(void)here;
	return oci_files_open(&d->files, json_string_value(json_array_get(layers, layer)), ret, e);
}

static void archive_free(struct oci_store *s)
{
	struct docker_archive *d = of(s);

	oci_files_clear(&d->files);
	json_decref(d->images);
	free(d);
}

static const struct oci_store_ops archive_ops = {
	.list = archive_list,
	.config = archive_config,
	.blob = archive_blob,
	.free = archive_free,
};

int docker_archive_open(
	const char *spec, const struct source_opts *opts, struct oci_store **ret, struct err *e)
{
	struct docker_archive *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	d->store.ops = &archive_ops;
	r = oci_files_init(&d->files, spec, opts->archive, e);
	if (r < 0) {
		archive_free(&d->store);
		return r;
	}
	*ret = &d->store;
	return 0;
}
