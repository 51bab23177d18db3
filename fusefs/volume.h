/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One image as a file: what its operations need beside the image itself. Knows no libfuse, so that
 * it can be tested without a mount. Results are 0 or a negative errno that a reader of the file may
 * see; what failed in the image has then been logged, once. Thread-safe.
 */
#ifndef FUSEFS_VOLUME_H
#define FUSEFS_VOLUME_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "core/err.h"
#include "fusefs/fusefs.h"

struct volume {
	struct fusefs_volume v; /* without the name, which is */
	char *name;
	bool writable;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t counted_cond;
	bool counted;             /* `allocated` is final, but of a writable image */
	bool countable;           /* the image could tell */
	uint64_t allocated;       /* bytes of data */
	struct timespec deadline; /* nobody waits for it longer */
	struct timespec written;  /* when the last write was, or all 0 */

	struct err last; /* what was logged last */
	time_t window;   /* when the present window of log lines began */
	unsigned int lines;
	uint64_t unlogged;
};

/* Copies @v. -ENOMEM or 0. */
int volume_init(struct volume *vol, const struct fusefs_volume *v);
void volume_clear(struct volume *vol);

/* All of [off, off + len), which is within the image. */
int volume_read(struct volume *vol, void *buf, size_t len, uint64_t off);
int volume_write(struct volume *vol, const void *buf, size_t len, uint64_t off);
int volume_zero(struct volume *vol, uint64_t off, uint64_t len);
int volume_flush(struct volume *vol);

/* lseek with SEEK_DATA or SEEK_HOLE. -ENXIO: at or behind the end, or no data up to it. -EINTR when
 * @interrupted(@ctx) says so, between two extents; it may be NULL. */
int volume_seek(struct volume *vol, uint64_t off, int whence, bool (*interrupted)(void *ctx),
	void *ctx, uint64_t *ret);

#define VOLUME_WAIT_MS 2000

/* Asks the image how much of it is data; called once, on a thread of its own. */
void volume_count(struct volume *vol);

/* The bytes that st_blocks tells of. Waits for volume_count(), but only until VOLUME_WAIT_MS after
 * volume_init(), so that a directory of slow images does not take that long for each; from then on
 * it is all of the size until it is known. *ret_final: it will not change any more. A writable
 * image is asked again each time. */
uint64_t volume_allocated(struct volume *vol, bool *ret_final);

/* True and *ret set when it has been written to: when, last. */
bool volume_written(struct volume *vol, struct timespec *ret);

/* What a reader of the file sees for @code. The block layers above know few errors: what has a
 * meaning for them is kept (ESTALE, ENOSPC, EDQUOT, EROFS, EINTR, ENOMEM, EOPNOTSUPP), the rest is
 * EIO, and the log has the words. */
int volume_errno(int code);

#endif
