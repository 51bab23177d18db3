/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every decoder of a compressed image must stand: reads in any order, truncation, flipped
 * bits. The compressed bytes are given; the decoded ones are known.
 */
#ifndef TESTS_UNIT_DECODED_CHECK_H
#define TESTS_UNIT_DECODED_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "formats/format.h"
#include "tests/unit/fake_image.h"

struct bytes {
	uint8_t *data;
	size_t len;
};

typedef int decoder_open_fn(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

/* @len bytes that compress to about a third, with zeros here and there. malloc()ed. */
struct bytes decoded_sample(size_t len);

/* Appends @n bytes to @b. */
void bytes_append(struct bytes *b, const void *data, size_t n);

/* The image of @packed, over *ret_below, which it owns. It must open. */
struct image *decoded_open(decoder_open_fn *open, const struct bytes *packed, struct blobs *blobs,
	struct fake_image **ret_below);

/* Whole, by units, in random pieces, from several threads: all is as in @plain. */
void decoded_check_reads(struct image *img, const struct bytes *plain);

/* @len bytes that do not compress: most encoders store them as they are, so that a byte that is
 * damaged is another byte and nothing else. malloc()ed. */
struct bytes decoded_noise(size_t len);

/* Of @packed (of decoded_noise(), in units larger than any that is held back, which has at least
 * 3 MiB), the first download is damaged and the second is not: whoever was given bytes of the first
 * is told by image_prove(), whatever was read after that, and nobody else is. */
void decoded_check_downloads(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain);

/* One byte near the end of the block that is [from, to) of @plain (decoded_noise(), as above, but
 * in blocks that are held back) is damaged: whatever of the block is read first fails, and a stream
 * gives all that is before it and nothing of it. */
void decoded_check_held(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, uint64_t from, uint64_t to);

/* A look at the beginning and a stream of all of it: then everything is proven, and image_prove()
 * reads nothing. */
void decoded_check_proven(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain);

/* The streamed whole of @packed is @plain, or there is an error with a text that names an offset.
 * Returns the error. */
int decoded_check_damaged(
	decoder_open_fn *open, const struct bytes *packed, const struct bytes *plain);

/* Cut off at @n places: an error each time, or all of @plain where the format allows it. */
void decoded_check_truncations(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, unsigned int n);

/* One bit flipped, @n times. */
void decoded_check_flips(decoder_open_fn *open, const struct bytes *packed,
	const struct bytes *plain, unsigned int n);

#endif
