/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local files and block devices as sources. A file that changes after it was opened (size or time
 * of modification) fails with -ESTALE; a device has no such mark, so its image is
 * IMAGE_UNVERSIONED. Holes are those that the file system tells.
 */
#ifndef SOURCES_FILE_H
#define SOURCES_FILE_H

#include "core/err.h"
#include "core/image.h"

/* The path that @spec (a path, or file:// with percent-encoding) means; malloc()ed. -EINVAL for a
 * file:// URL of another host. */
int file_path(const char *spec, char **ret, struct err *e);

/* -EINVAL for what is neither a regular file nor a block device. */
int file_open(const char *spec, struct image **ret, struct err *e);

/* As source_key(), source_name() and source_sibling(); the key is file:// and the absolute path. */
int file_key(const char *spec, char **ret, struct err *e);
int file_sibling(const char *spec, const char *name, char **ret, struct err *e);

#endif
