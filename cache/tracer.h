/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records which granules readers touch first, hits and misses alike (a hit here is a miss on
 * another machine), until the boot is long over: so much time in which something was read, so many
 * bytes, or most of the image. Thread-safe.
 */
#ifndef CACHE_TRACER_H
#define CACHE_TRACER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/bits.h"
#include "cache/trace.h"

struct tracer {
	_Atomic bool on;
	uint64_t granules; /* of the image */
	size_t most;       /* entries */
	struct bits seen;
	pthread_mutex_t lock; /* protects all below */
	struct trace_entry *entries;
	size_t count;
	size_t room;
	uint64_t last_ns;  /* of the last touch; 0: none yet */
	uint64_t clock_ns; /* since the first touch, without what is long of pauses */
};

/* -ENOMEM. */
int tracer_init(struct tracer *t, uint64_t granules);
/* Of a zeroed struct: nothing. */
void tracer_fini(struct tracer *t);

/* Somebody reads [off, off + len), at @now_ns of a clock that never goes back. */
void tracer_touch(struct tracer *t, uint64_t off, uint64_t len, uint64_t now_ns);

/* Whether tracer_touch() has anything to record: cheap enough to ask at each read. */
static inline bool tracer_is_on(const struct tracer *t)
{
	return atomic_load_explicit(&t->on, memory_order_relaxed);
}

/* How many granules were touched, and how many of them are in @known. */
size_t tracer_count(struct tracer *t);
size_t tracer_foretold(struct tracer *t, const struct bits *known);

/* What was touched so far, merged into @old. -ENOMEM. */
int tracer_merge(struct tracer *t, const struct trace *old, struct trace *ret);

#endif
