/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out a plan: threads that take the next unit, read and decode it, leave its zeros out,
 * write the rest. Each thread has one buffer, so memory does not grow with the image. The network
 * is kept busy by hints for the units that come next.
 */
#ifndef TOOLS_COPY_ENGINE_H
#define TOOLS_COPY_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "tools/copy_plan.h"
#include "tools/sink.h"

/* Counters of a copy under way; may be read at any time. Bytes. */
struct copy_counters {
	_Atomic uint64_t read;     /* of the image */
	_Atomic uint64_t written;  /* to the target */
	_Atomic uint64_t zeroed;   /* on the target, by whatever means */
	_Atomic uint64_t skipped;  /* done by an earlier run */
	_Atomic uint64_t changed;  /* of that, what was not there any more */
	_Atomic uint64_t data;     /* in units of data that are done */
	_Atomic uint64_t verified; /* in units of data that were read back */
};

struct copy_engine {
	struct image *image;
	struct sink *sink;
	const struct copy_plan *plan;
	unsigned int threads;
	uint64_t rate;   /* bytes a second that are read at most; 0: no limit */
	uint64_t window; /* bytes ahead of the readers that are hinted at; 0: no hints */

	/* copy_sum() of what is on the target, one a unit; 0: not there yet. Written by this copy,
	 * entries of data units only, atomically. */
	uint64_t *sums;
	/* The same of an earlier run, as it remembers it: such a unit is read back, and copied
	 * when that is not what is there. NULL: there was none. */
	const uint64_t *known;

	/* Set by anybody, a signal handler too: end soon, with -ECANCELED. */
	atomic_bool *stop;

	/* Bytes of the image from 0 on that are not written but kept in `head`, which has room for
	 * a multiple of SINK_ALIGN; at most COPY_UNIT. The target reads as zeros there. */
	uint64_t withhold;
	uint8_t *head;

	/* Called on the caller's thread every 50 ms. A negative return ends the copy with it, as
	 * the target's fault. */
	int (*tick)(void *ctx, struct err *e);
	void *ctx;

	struct copy_counters counters;
};

/* Whose fault a failure is decides about the exit code. */
enum copy_side {
	COPY_SIDE_SOURCE,
	COPY_SIDE_TARGET,
};

/* Blocks until all units are done or one failed; the image is then interrupted, and only good for
 * being closed. The sink is not flushed. */
int copy_engine_run(struct copy_engine *engine, enum copy_side *ret_side, struct err *e);

/* Writes what was withheld. */
int copy_engine_release(struct copy_engine *engine, struct err *e);

/* Reads the whole target back. -ENOKEY: it is not what was written. */
int copy_engine_verify(struct copy_engine *engine, enum copy_side *ret_side, struct err *e);

/* Tells one content from another; never 0. Not against those who mean harm. */
uint64_t copy_sum(const void *buf, size_t len);

#endif
