/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decodes a gzip file in order from some seek point on, and learns on the way: adds points to the
 * index where it has none yet, and checks what it gets where it has some. Decoded bytes are
 * compared with
 *
 *  - the CRC-32 and length in the trailer of each member that it comes to the end of, also when it
 *    began within the member;
 *  - the CRC up to each seek point that it passes. Where the next one is near enough, the bytes
 *    before it are held back until they are known to be right.
 *
 * So what is decoded for the first time is as good as gzip(1) makes it: whoever reads a member to
 * its end learns of damage there. A member of up to 64 KiB, as BGZF has them, is held back until
 * its trailer was found right. What is decoded again is never wrong.
 *
 * A run belongs to one thread.
 */
#ifndef FORMATS_GZIP_RUN_H
#define FORMATS_GZIP_RUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/gzip_index.h"

/* What runs share; outlives them. */
struct gzip_source {
	struct image *below;
	struct gzip_index *index;
	_Atomic bool stop; /* runs end with -ECANCELED */
};

struct gzip_run;

/* Begins at the last point at or before @off that can be used. */
int gzip_run_open(struct gzip_source *src, uint64_t off, struct gzip_run **ret, struct err *e);

/* NULL is nothing. */
void gzip_run_close(struct gzip_run *run);

/* Where the next piece begins, in decoded bytes. */
uint64_t gzip_run_offset(const struct gzip_run *run);

/* Whether all that was given is known to be right: it has come to a point that was known before. */
bool gzip_run_is_checked(const struct gzip_run *run);

/* How much of the compressed file it has read, from its beginning. */
uint64_t gzip_run_consumed(const struct gzip_run *run);

/* The next piece, some MiB at most; it lives until the next call. *ret_n is 0 at the end of the
 * file. -EBADMSG: the file is broken or cut off, or its bytes are not those that they were. */
int gzip_run_next(struct gzip_run *run, const uint8_t **ret, size_t *ret_n, struct err *e);

#endif
