/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for small named records (seek indexes, traces), so that formats/ can persist what it
 * learned without knowing the cache. A record is bytes; whoever reads one must not trust it: it
 * carries its own magic and checksum, and a bad one is as good as none.
 *
 * Names match [a-z0-9._-]{1,64}. All calls are thread-safe. The owner of the object outlives its
 * users.
 */
#ifndef CORE_BLOBS_H
#define CORE_BLOBS_H

#include <stddef.h>

#include "core/err.h"

struct blobs;

struct blobs_ops {
	int (*get)(struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e);
	int (*put)(struct blobs *b, const char *name, const void *data, size_t len, struct err *e);
};

struct blobs {
	const struct blobs_ops *ops;
};

/* *ret is malloc()ed, the caller frees it. -ENOENT: there is none. */
static inline int blobs_get(
	struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	return b->ops->get(b, name, ret, ret_len, e);
}

/* Replaces the record as a whole: a reader sees the old one or the new one. */
static inline int blobs_put(
	struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	return b->ops->put(b, name, data, len, e);
}

#endif
