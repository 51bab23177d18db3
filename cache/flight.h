/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is on its way: the table of fills of one image. A fill fetches a run of granules that are
 * neither present nor in another fill, on a thread of the queue; readers find the fill that covers
 * their bytes, by overlap, and are served from its buffer as soon as these have arrived, whatever
 * becomes of the rest. Thread-safe.
 */
#ifndef CACHE_FLIGHT_H
#define CACHE_FLIGHT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/bits.h"
#include "cache/meter.h"
#include "cache/object.h"
#include "cache/planner.h"
#include "cache/pool.h"
#include "core/image.h"
#include "core/listener.h"
#include "core/workq.h"

struct fill;

enum fill_class {
	FILL_DEMAND,    /* a reader waits */
	FILL_READAHEAD, /* a reader is expected soon */
	FILL_REPLAY,    /* a reader came here in earlier boots */
	FILL_HINT,      /* somebody said so */
	FILL_COMPLETE,  /* it is not here yet */
	FILL_CLASSES
};

#define FILL_GRANULES 128U /* of one fill at most: 8 MiB */

/* A range that somebody said will be read. */
struct flight_hint {
	uint64_t off;
	uint64_t end;
};
#define FLIGHT_HINTS 32U

struct flight_counts {
	_Atomic uint64_t fills;
	_Atomic uint64_t demanded;   /* bytes */
	_Atomic uint64_t prefetched; /* bytes */
	_Atomic uint64_t hinted;     /* bytes, fetched for flight_hint() */
	_Atomic uint64_t used;       /* bytes of the prefetched ones that were read */
	_Atomic uint64_t replayed;   /* bytes, fetched because of a trace */
	_Atomic uint64_t foreseen;   /* bytes of the replayed ones that were read */
	_Atomic uint64_t completed;  /* bytes, fetched because they were absent */
};

struct flight {
	struct image *below;
	struct object *object;
	struct pool *pool;
	struct workq *queue;   /* for fetching */
	struct workq *storing; /* for storing what was fetched */
	struct bits ahead;     /* granules that came before anybody asked, and nobody asked since */
	struct bits replayed;  /* the same of those that a trace foretold */
	struct flight_counts counts;
	struct listener withdrawn; /* told when bytes of `object` are */

	pthread_mutex_t lock; /* protects all below, and the fills */
	pthread_cond_t idle;
	pthread_cond_t progress; /* `steps` moved; CLOCK_MONOTONIC */
	struct fill *fills;
	unsigned int count;
	uint64_t steps;                /* moves when a fill ends, and when all is about to */
	unsigned int waiting;          /* readers in flight_serve() whose bytes have not come */
	uint64_t waited_ns;            /* when a reader last waited */
	uint64_t flying[FILL_CLASSES]; /* bytes of fills whose transfer has not ended */
	struct planner planner;
	struct meter meter;
	uint64_t quiet_until;  /* no fetching ahead before: the last one failed; ns */
	unsigned int failures; /* of fetching ahead, in a row */
	struct flight_hint hints[FLIGHT_HINTS]; /* a ring: first come, first served */
	unsigned int hint_first;
	unsigned int hint_count;
	unsigned int hint_fills; /* on their way for them */
	bool ending;
};

/* All but the counts are borrowed for the life of the flight. */
int flight_init(struct flight *fl, struct image *below, struct object *object, struct pool *pool,
	struct workq *queue, struct workq *storing);

/* Ends what can be ended: queued fills end without a request, others at their next byte, readers
 * get -ECANCELED. */
void flight_interrupt(struct flight *fl);

/* flight_interrupt(), then waits until no fill is left. */
void flight_fini(struct flight *fl);

/* Has [off, off + len), as far as it is absent and not on its way, fetched ahead of its readers in
 * fills of at most @chunk bytes. Returns how many bytes from @off on are taken care of: less than
 * @len when memory is short or fetching ahead makes no sense now. */
uint64_t flight_readahead(struct flight *fl, uint64_t off, uint64_t len, uint64_t chunk);

/* The same for the two classes of background work. */
uint64_t flight_work(
	struct flight *fl, uint64_t off, uint64_t len, uint64_t chunk, enum fill_class class);

/* Somebody will read [off, off + len) some time: it is fetched when nothing else is to be. When too
 * many such ranges wait, it is forgotten. */
void flight_hint(struct flight *fl, uint64_t off, uint64_t len);

/* Starts fills for hints; with the lock held. For fill.c. */
void flight_pump(struct flight *fl);

/* For a reader of [off, off + len): gets it on its way, as far as one reader may have at a time,
 * and
 * @ahead bytes more where a fetch of them can be one with the last. Returns the fill that covers
 * @off, to be given to flight_serve(); NULL: nothing is on its way there, either because it is
 * present or because there is no memory. *ret_began: whether a fetch was begun. */
struct fill *flight_join(
	struct flight *fl, uint64_t off, size_t len, uint64_t ahead, bool *ret_began);

/* Whether flight_interrupt() was called. */
bool flight_is_ending(struct flight *fl);

/* Waits for the part of [off, off + len) that @f covers and copies it; *ret is its length. Gives
 * @f up. -ECANCELED after flight_interrupt(). */
int flight_serve(struct flight *fl, struct fill *f, uint8_t *buf, size_t len, uint64_t off,
	size_t *ret, struct err *e);

#endif
