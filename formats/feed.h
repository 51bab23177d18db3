/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decoder eats: the bytes [off, end) of an image, in order. While the decoder works, the
 * image below is told what comes next (image_prefetch), at most FEED_AHEAD bytes of it and nothing
 * behind the end: a cache over a network has the next bytes on their way, and so download and
 * decoding overlap without a thread of the feed's own.
 *
 * A feed belongs to one thread at a time. The image outlives it. Memory: FEED_PIECE bytes.
 */
#ifndef FORMATS_FEED_H
#define FORMATS_FEED_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"

#define FEED_PIECE 262144U
#define FEED_AHEAD ((uint64_t)8 << 20)

struct feed;

/* Nothing is read yet. [off, end) is within @img. -ENOMEM or 0. */
int feed_open(struct image *img, uint64_t off, uint64_t end, struct feed **ret, struct err *e);

/* Where the first byte that was not taken yet stands in the image. */
uint64_t feed_offset(const struct feed *f);

/* Bytes that are still to come, taken ones excepted. */
uint64_t feed_left(const struct feed *f);

/* Lends the bytes at feed_offset(), at least one of them unless the end is reached (*ret_n is 0
 * then). They are valid until the next call of feed_peek(), feed_need() or feed_skip(). */
int feed_peek(struct feed *f, const uint8_t **ret, size_t *ret_n, struct err *e);

/* As feed_peek(), but all of @n bytes (up to FEED_PIECE) in one piece; -EBADMSG when the end comes
 * before. */
int feed_need(struct feed *f, size_t n, const uint8_t **ret, struct err *e);

/* The first @n lent bytes are taken. */
void feed_take(struct feed *f, size_t n);

/* Passes over @n bytes without reading what was not read yet; -EBADMSG when the end comes before.
 */
int feed_skip(struct feed *f, uint64_t n, struct err *e);

/* NULL is nothing. */
void feed_close(struct feed *f);

#endif
