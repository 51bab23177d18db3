/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the granules of one image are kept: on disk (disk.c) or in bounded memory (memory.c). The
 * engine above knows only this table. All functions are thread-safe. A granule that cannot be kept
 * or read back is simply absent: nothing here fails, because everything can be fetched again.
 */
#ifndef CACHE_OBJECT_H
#define CACHE_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache.h"
#include "core/bytes.h"

struct object;

struct object_ops {
	/* Copies the beginning of [off, off + len) that is present; returns how many bytes. */
	size_t (*read)(struct object *o, uint8_t *buf, size_t len, uint64_t off);

	/* Whether a read of @granule would (very likely) find it. */
	bool (*present)(struct object *o, uint64_t granule);

	/* Keeps those of @count granules from @first on that are absent; @blocks hold their bytes,
	 * the last one of the image may be short. What is present stays as it is: it may have been
	 * proven since. Who calls has the claim, if there is one. */
	void (*put)(struct object *o, uint64_t first, uint8_t *const *blocks, size_t count);

	/* Makes granules absent: their bytes turned out to be wrong. */
	void (*forget)(struct object *o, uint64_t first, uint64_t count);

	/* Claims granules for fetching against other processes; false: somebody has some of them.
	 * NULL: there are no others. */
	bool (*claim)(struct object *o, uint64_t first, uint64_t count);
	void (*unclaim)(struct object *o, uint64_t first, uint64_t count);

	/* After a claim failed: whether that is because the file is lent. Then nobody is fetching
	 * them, and nobody can keep them. NULL: it never is. */
	bool (*is_lent)(struct object *o, uint64_t first, uint64_t count);

	/* Bytes of the image that are present. */
	uint64_t (*present_bytes)(struct object *o);

	/* Moves when granules that others fill, too, become absent: what is in their place later
	 * is not what was there before. NULL: there are no others. */
	uint64_t (*generation)(struct object *o);

	/* Lends the file that the granules are in, see struct image_ops; NULL: there is none. The
	 * first call may take as long as a flush of all of it: @may_wait. That one finds out only:
	 * its descriptor is handed to nobody. @closed: see return_file there. */
	int (*lend)(struct object *o, bool may_wait, int *ret_fd);
	void (*unlend)(struct object *o, bool closed);

	/* Nothing of it is evicted while it is open. NULL: it cannot be promised. */
	void (*pin)(struct object *o);

	void (*close)(struct object *o);
};

struct object {
	const struct object_ops *ops;
	uint64_t size;
	uint64_t granules;
	const char *mode;          /* "disk", "memory" */
	_Atomic uint64_t torn;     /* granules that were recorded as present and were not right */
	_Atomic uint64_t bypassed; /* granules that were not kept */
	_Atomic uint64_t absent;   /* granules not present, as far as this process knows */
	struct blobs *blobs;
};

static inline uint64_t object_granules(uint64_t size)
{
	return div_round_up(size, CACHE_GRANULE);
}

static inline uint64_t object_generation(struct object *o)
{
	return o->ops->generation ? o->ops->generation(o) : 0;
}

/* Bytes of granule @g: CACHE_GRANULE, less at the end of the image. */
static inline size_t object_granule_len(const struct object *o, uint64_t g)
{
	return min_u64(CACHE_GRANULE, o->size - g * CACHE_GRANULE);
}

#endif
