/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Granules in bounded memory, the least recently used forgotten first. One struct memory serves all
 * images of a cache, so that the bound holds for all of them together.
 */
#ifndef CACHE_MEMORY_H
#define CACHE_MEMORY_H

#include "cache/object.h"
#include "cache/pool.h"

struct memory;

/* At most @limit bytes of granules. */
int memory_new(uint64_t limit, struct pool *p, struct memory **ret);
/* All objects on it are closed. NULL is nothing. */
void memory_free(struct memory *m);

/* An empty object. @once: what was read is not read again, so the granules that came first are
 * forgotten first, read or not. */
int memory_open(struct memory *m, uint64_t size, bool once, struct object **ret);

uint64_t memory_limit(const struct memory *m);

#endif
