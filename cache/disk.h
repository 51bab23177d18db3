/* SPDX-License-Identifier: Apache-2.0 */
/* An object whose granules are in a directory of the store: files `data` and `map`. */
#ifndef CACHE_DISK_H
#define CACHE_DISK_H

#include "cache/keeper.h"
#include "cache/memory.h"
#include "cache/object.h"
#include "cache/pool.h"
#include "cache/store.h"

#define DISK_FRESH  0x1U /* what is there is of no use */
#define DISK_PINNED 0x2U /* must not lose granules while it is open */
#define DISK_RESIZE 0x4U /* of the same id, but another size: the granules whole in both stay */

/* What the objects of a cache share. */
struct disk_env {
	struct store *store;
	struct keeper *keeper;
	struct memory *memory; /* takes what the disk does not */
	struct pool *pool;
};

/* Opens (or creates, or empties when it is of another id or size, or DISK_FRESH) the object
 * @want->key. -EBUSY: another process uses it under another id. Other errors: the store cannot be
 * used. */
int disk_open(const struct disk_env *env, const struct store_meta *want, unsigned int flags,
	struct object **ret, struct err *e);

#endif
