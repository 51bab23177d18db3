/* SPDX-License-Identifier: Apache-2.0 */
/* Files by their names, in one of two kinds of places. */
#include "sources/oci_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "sources/file.h"

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

int oci_files_init(
	struct oci_files *f, const char *spec, const struct source_archive *archive, struct err *e)
{
	size_t prefix = strcspn(spec, ":") + 1;
	size_t n = strcspn(spec + prefix, ":");
	const char *rest = spec + prefix + n;

	*f = (struct oci_files){ .archive = archive };
	if (n == 0) {
		return err_set(e, -EINVAL, "%.*s names no file", (int)prefix, spec);
	}
	f->path = strndup(spec + prefix, n);
	f->text = strdup(spec);
	f->ref = strdup(*rest ? rest + 1 : "");
	return f->path && f->text && f->ref ? 0 : no_memory(e);
}

void oci_files_clear(struct oci_files *f)
{
	free(f->text);
	free(f->path);
	free(f->ref);
	*f = (struct oci_files){ 0 };
}

int oci_files_open(const struct oci_files *f, const char *name, struct image **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;

	if (f->archive) {
		return f->archive->open(f->archive->ctx, f->path, name, ret, e);
	}
	if (asprintf(&path, "%s%s/%s", *f->path == '/' ? "" : "./", f->path, name) < 0) {
		path = NULL;
		return no_memory(e);
	}
	return file_open(path, ret, e);
}

int oci_files_read(const struct oci_files *f, const char *name, size_t limit, char **ret,
	size_t *ret_len, struct err *e)
{
	CLEANUP(image_closep) struct image *img = NULL;
	CLEANUP_FREE char *data = NULL;
	int r = oci_files_open(f, name, &img, e);

	if (r < 0) {
		return r;
	}
	if (img->size > limit) {
		return err_set(e, -EBADMSG, "%s: %s is larger than %zu MiB: refused", f->text, name,
			limit >> 20);
	}
	data = malloc(img->size + 1);
	if (!data) {
		return no_memory(e);
	}
	r = image_read_at(img, data, img->size, 0, e);
	if (r == 0) {
		data[img->size] = '\0';
		*ret_len = img->size;
		*ret = TAKE_PTR(data);
	}
	return r;
}
