/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One copy: the disk of an image into a file or onto a block device, checked before, measured
 * afterwards. `lazydisk copy` and whoever fills many volumes in turn call copy_run().
 */
#ifndef TOOLS_COPY_H
#define TOOLS_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "tools/exitcode.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/sink.h"
#include "tools/stack.h"

struct copy_job {
	/* How to reach the source, which format it has, which cache it may use: what stack_open()
	 * reads of the options. What is said below is not read from there. */
	const struct options *options;
	const char *source;
	const struct stack_access *access; /* what the source alone needs; NULL: see the options */
	const char *overlay;               /* file of what was written over the source, or NULL */
	const char *target;
	uint64_t size; /* of a file target when it is done, bytes; 0: as large as the image. An
			  image that is larger is refused. A device is always filled to its end. */
	enum sink_prealloc preallocation;
	bool force;          /* an existing file may be replaced */
	bool target_is_zero; /* the caller promises that the target reads as zeros */
	bool verify;         /* read the target back when it is written */
	uint64_t rate;       /* bytes of the disk a second that are read at most; 0: no limit */
	enum progress_mode progress;
};

/* All in bytes. */
struct copy_result {
	enum exitcode exitcode; /* set in any case; 0 exactly when copy_run() returned 0 */
	uint64_t size;          /* of the image's disk */
	uint64_t target_size;
	uint64_t fetched; /* over the network */
	uint64_t read;    /* of the disk */
	uint64_t written;
	uint64_t zeroed;
	uint64_t skipped; /* found done by an earlier run */
	double seconds;
};

/* Blocks until the target is written and durable. SIGINT and SIGTERM end it soon, with -ECANCELED;
 * the same call continues later. @e is always filled on failure, and printed by nobody yet. */
int copy_run(const struct copy_job *job, struct copy_result *ret, struct err *e);

#endif
