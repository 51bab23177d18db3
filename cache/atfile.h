/* SPDX-License-Identifier: Apache-2.0 */
/* Small whole files in a directory that is open. */
#ifndef CACHE_ATFILE_H
#define CACHE_ATFILE_H

#include <stddef.h>

#include "core/err.h"

/* *ret is malloc()ed and NUL-terminated behind *ret_len bytes. -EFBIG when larger than @max. */
int atfile_read(
	int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *e);

/* Replaces the file as a whole, durably: after a crash there is the old one or the new one. */
int atfile_replace(int dirfd, const char *name, const void *data, size_t len, struct err *e);

#endif
