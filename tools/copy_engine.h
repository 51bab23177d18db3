/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out a plan: threads that take the next unit, read and decode it, leave its zeros out,
 * write the rest. Each thread has one buffer, so memory does not grow with the image. There are
 * more of them than may read at a time: while the target stands still, for a flush for example, the
 * others go on until all buffers are full. The network is kept busy by hints for the units that
 * come next.
 */
#ifndef TOOLS_COPY_ENGINE_H
#define TOOLS_COPY_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "tools/copy_agenda.h"
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
	_Atomic uint64_t expected; /* the same of all, going by what an agenda has brought so far */
	_Atomic uint64_t verified; /* in units of data that were read back */
};

struct copy_engine {
	struct image *image;
	struct sink *sink;
	struct copy_plan *plan; /* grows only by what an agenda brings */
	/* Brings the units of data, and zeros between them, while the copy goes on; then nothing is
	 * `known`, and `sums` grows. NULL: the plan has them all. */
	struct copy_agenda *agenda;
	unsigned int threads; /* so many units are in memory, */
	unsigned int readers; /* of which so many are being read or decoded at most */
	uint64_t rate;        /* bytes a second that are read at most; 0: no limit */
	uint64_t window; /* bytes of the source ahead of the readers that are hinted at; 0: no hints
			  */

	/* copy_sum() of what is on the target, one a unit; 0: not there yet. Written by this copy,
	 * entries of data units only, atomically. */
	uint64_t *sums;
	size_t sum_count; /* entries that there is room for */
	size_t sum_base;  /* sums[0] is of this unit: those before it are zeros and have none */
	/* The same of an earlier run, as it remembers it: such a unit is read back, and copied
	 * when that is not what is there. NULL: there was none. */
	const uint64_t *known;

	/* Units of data before it are done; 0: none is. */
	size_t first;

	/* Bytes that the target takes, where the image may turn out to be larger; 0: it fits. */
	uint64_t most;

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

/* Before copy_engine_run(), for @sink, which has to see what the image holds from 0 on and in
 * order: what is `known` is handed to it as the target has it, up to the first unit that is not
 * there; what is withheld is read from the image. All behind that will be, whatever is known of it.
 */
int copy_engine_reread(struct copy_engine *engine, image_sink_fn *sink, void *ctx,
	enum copy_side *ret_side, struct err *e);

/* Blocks until all units are done or one failed; the image is then interrupted, and only good for
 * being closed. The sink is not flushed. */
int copy_engine_run(struct copy_engine *engine, enum copy_side *ret_side, struct err *e);

/* For an image that is decoded in units: streams each of them once, several at a time, each byte to
 * its place as it comes. Of the plan, only the units of an image without extents are looked at; an
 * image whose size is provisional needs none, and `sums` then grows. *ret_size: how many bytes the
 * image really has. */
int copy_stream_run(
	struct copy_engine *engine, uint64_t *ret_size, enum copy_side *ret_side, struct err *e);

/* Writes [off, off + len) of the image where it belongs, but for what is withheld; @buf has room up
 * to the next multiple of SINK_ALIGN. */
int copy_engine_put(
	struct copy_engine *engine, uint8_t *buf, uint64_t off, size_t len, struct err *e);

/* Writes what was withheld. */
int copy_engine_release(struct copy_engine *engine, struct err *e);

/* Reads the whole target back. -ENOKEY: it is not what was written. */
int copy_engine_verify(struct copy_engine *engine, enum copy_side *ret_side, struct err *e);

/* Tells one content from another; never 0. Not against those who mean harm. */
uint64_t copy_sum(const void *buf, size_t len);

#endif
