/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decodes a series of gzip members (RFC 1952) of deflate data (RFC 1951) from any place where that
 * is possible: the header of a member, or the border between two deflate blocks, given the 32 KiB
 * that were decoded before it. Says on request where such borders are.
 *
 * ISA-L does the work: it is twice as fast as zlib. It does not stop at borders by itself, but
 * is in a state that shows one when its input ends within the header of a block. So, while a border
 * is wanted, it gets its input in pieces so small that no usual header fits in one.
 *
 * Behind the last member, zeros are padding. Anything else there is an error: it may be a member
 * whose header is damaged, and to ignore it would be to take a part for the whole.
 *
 * A decoder belongs to one thread at a time.
 */
#ifndef FORMATS_GZIP_DECODER_H
#define FORMATS_GZIP_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "formats/gzip_input.h"

/* As far back as deflate data refers to: RFC 1951 section 2. */
#define GZIP_WINDOW 32768U

struct gzip_decoder;

enum gzip_event {
	GZIP_BYTES,      /* n bytes were decoded */
	GZIP_BORDER,     /* between two blocks; only when one is wanted */
	GZIP_MEMBER_END, /* crc, isize: what the member's trailer says */
	GZIP_MEMBER,     /* another member begins here */
	GZIP_END,        /* of the input, behind a whole member */
};

struct gzip_step {
	enum gzip_event event;
	const uint8_t *buf; /* lives until the next step */
	size_t n;
	uint32_t crc;
	uint32_t isize;
};

/* NULL: out of memory. */
struct gzip_decoder *gzip_decoder_new(void);

/* NULL is nothing. */
void gzip_decoder_free(struct gzip_decoder *d);

/* What comes next is at bit @in_bits of the compressed file, where the feed of the next steps
 * begins (at its whole byte): a member's header when @header, else a block, before which the member
 * held the @n bytes at @window (all of them, or GZIP_WINDOW). */
void gzip_decoder_start(
	struct gzip_decoder *d, uint64_t in_bits, bool header, const uint8_t *window, size_t n);

/* Goes on to the next event. -EBADMSG: broken or cut off; the text says where. */
int gzip_decoder_step(struct gzip_decoder *d, struct gzip_input *in, bool want_border,
	struct gzip_step *ret, struct err *e);

/* After a failure: whether it was broken data within a member, so that what was decoded of that
 * member before may be wrong too. */
bool gzip_decoder_spoilt(const struct gzip_decoder *d);

/* Where the compressed file is being read: of a border, exactly. */
uint64_t gzip_decoder_bits(const struct gzip_decoder *d);

/* At a border: what gzip_decoder_start() will need. Lives until the next step. */
const uint8_t *gzip_decoder_window(const struct gzip_decoder *d, size_t *ret_n);

#endif
