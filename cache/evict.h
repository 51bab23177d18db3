/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room in a cache directory: whole objects that nobody has open, least recently used first,
 * or segments of objects where that is enough or somebody has them open. Safe against readers and
 * writers in all processes: see map.h. Files that somebody reads past us (see lent.h) go last, as a
 * whole, and not while the object is open.
 */
#ifndef CACHE_EVICT_H
#define CACHE_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/store.h"

/* What clears and punches at a time: 4 MiB. */
#define EVICT_SEGMENT ((uint64_t)4 << 20)

struct evict_hooks {
	/* Whether segment @seg of an object was read of late; asking makes it forget. */
	bool (*recent)(void *ctx, const char *hash, uint64_t seg);
	/* @granules of the object went; nobody can have put any of them again yet. */
	void (*gone)(void *ctx, const char *hash, uint64_t granules);
	void *ctx;
};

/* Bytes on disk of all objects. */
uint64_t evict_used(struct store *s);

/* Bytes on disk of one object's directory. */
uint64_t evict_object_used(int dirfd);

/* Frees @need bytes, or as many as it can; returns how many. @hooks may be NULL. */
uint64_t evict_run(struct store *s, uint64_t need, const struct evict_hooks *hooks);

#endif
