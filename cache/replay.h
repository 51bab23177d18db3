/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a boot trace ahead of the readers: in its order of time, neighbours merged to requests
 * within short windows, as much on its way at once as the link carries and no more, so that a
 * reader who wants something else does not wait behind it. One thread calls replay_begin() and
 * replay_step(); the rest is for any.
 */
#ifndef CACHE_REPLAY_H
#define CACHE_REPLAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/bits.h"
#include "cache/flight.h"
#include "cache/trace.h"

#define REPLAY_RUNS 512U /* of one window at most: 32 MiB */

struct replay {
	struct flight *flight;
	uint64_t ahead_most; /* bytes that may be here and unread; 0: any number */
	struct bits known;   /* granules that the trace foretells */
	_Atomic bool active;
	_Atomic uint64_t foretold; /* granules */
	_Atomic uint32_t boots;    /* of the trace; 0: there is none */
	/* The stepping thread's: */
	struct trace trace;
	size_t next; /* entry */
	struct trace_run runs[REPLAY_RUNS];
	size_t run;
	size_t run_count;
};

/* -ENOMEM. */
int replay_init(struct replay *r, struct flight *fl, uint64_t ahead_most);
void replay_fini(struct replay *r);

/* From now on @t is replayed, which is taken over. A trace before it is forgotten. */
void replay_begin(struct replay *r, struct trace *t);

/* Starts what may be on its way now. False: there is nothing left to do. Else to be called again
 * when the flight makes progress, or soon. */
bool replay_step(struct replay *r);

/* Whether granule @g is one that boots touch. */
static inline bool replay_knows(const struct replay *r, uint64_t g)
{
	return bits_test(&r->known, g);
}

/* Whether granule @g will be fetched by the replay under way: no guess around it is needed. */
static inline bool replay_foretells(const struct replay *r, uint64_t g)
{
	return atomic_load_explicit(&r->active, memory_order_relaxed) && replay_knows(r, g);
}

#endif
