/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compressed bytes of a run, in order, as far as they are needed. Where the index knows the
 * next seek point, what lies before it is read at once: it is needed as a whole, and nothing behind
 * it is, as far as anybody knows. Where it does not, they are fed piece by piece, with a hint at
 * what comes next.
 *
 * Belongs to one thread.
 */
#ifndef FORMATS_GZIP_INPUT_H
#define FORMATS_GZIP_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"

struct gzip_index;
struct gzip_input;

/* From @off on. @below and @index outlive it. -ENOMEM or 0. */
int gzip_input_new(
	struct image *below, struct gzip_index *index, uint64_t off, struct gzip_input **ret);

/* NULL is nothing. */
void gzip_input_free(struct gzip_input *in);

/* The next bytes, lent until the next call; *ret_n is 0 at the end of the file. */
int gzip_input_next(struct gzip_input *in, const uint8_t **ret, size_t *ret_n, struct err *e);

#endif
