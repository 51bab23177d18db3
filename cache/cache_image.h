/* SPDX-License-Identifier: Apache-2.0 */
/* The structs behind cache.h, for cache.c (reading through the cache), serve.c (what goes on
 * beside the readers) and distrust.c (what is not to stay). */
#ifndef CACHE_CACHE_IMAGE_H
#define CACHE_CACHE_IMAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "cache/bits.h"
#include "cache/cache.h"
#include "cache/flight.h"
#include "cache/keeper.h"
#include "cache/lender.h"
#include "cache/memory.h"
#include "cache/pool.h"
#include "cache/readahead.h"
#include "cache/spool.h"
#include "cache/store.h"
#include "cache/units.h"
#include "cache/warm.h"

struct cache {
	struct cache_opts opts; /* without dir */
	struct store *store;    /* NULL in memory mode */
	struct keeper *keeper;  /* NULL in memory mode */
	struct memory *memory;
	struct pool pool;
	struct workq *queue;
	struct workq *storing;
};

struct cache_counts {
	_Atomic uint64_t hits;
	_Atomic uint64_t misses;
	_Atomic uint64_t joined;
	_Atomic uint64_t waits;
	_Atomic uint64_t wait_ns;
};

struct cache_image {
	struct image img;
	struct cache *cache;
	struct object *object;
	struct flight flight;
	struct spool *spool; /* of an image that only streams; else NULL */
	struct units *units; /* of an image that is decoded in units; else NULL */
	_Atomic bool
		hinted; /* a decoder reads it, and says what it will want: nothing is guessed */
	struct lender lender;
	struct warm *warm; /* of an image that is served; else NULL */
	char *key;         /* the object's; NULL: no memory */
	struct cache_counts counts;
	pthread_mutex_t guess_lock; /* protects all below */
	struct readahead guesses;
	struct readahead_limits limits; /* as of the last miss */
	struct bits damaged;            /* granules that go when it is closed; made when needed */
};

/* --- distrust.c --- */

/* Of struct image_ops. */
void cache_image_distrust(struct image *img, uint64_t off, uint64_t len);

/* Nobody reads any more, nothing is on its way. What is damaged goes, and all when it is @wrong. */
void cache_image_close_object(struct cache_image *ci, bool wrong);

/* Of struct image_ops: the report. */
void cache_image_tell(struct image *img, struct report *r);

#endif
