/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a layout, in a directory or in an archive. */
#ifndef SOURCES_OCI_FILES_H
#define SOURCES_OCI_FILES_H

#include <stddef.h>

#include "core/err.h"
#include "core/image.h"
#include "sources/source.h"

struct oci_files {
	char *text;                           /* to show: "oci:DIR" */
	char *path;                           /* the directory or the archive */
	char *ref;                            /* what follows; "" for nothing */
	const struct source_archive *archive; /* NULL: a directory */
};

/* @spec: PREFIX:PATH[:REF]; the path ends at the first colon. -EINVAL. */
int oci_files_init(
	struct oci_files *f, const char *spec, const struct source_archive *archive, struct err *e);
void oci_files_clear(struct oci_files *f);

/* The file @name as an image. -ENOENT: there is none. */
int oci_files_open(const struct oci_files *f, const char *name, struct image **ret, struct err *e);

/* All of it, with a NUL behind; -EBADMSG: larger than @limit. */
int oci_files_read(const struct oci_files *f, const char *name, size_t limit, char **ret,
	size_t *ret_len, struct err *e);

#endif
