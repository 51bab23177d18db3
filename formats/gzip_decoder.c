/* SPDX-License-Identifier: Apache-2.0 */
/* Members one after the other: header, deflate data by ISA-L, trailer; and what is behind them. */
#include "formats/gzip_decoder.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/gzip_header.h"

/* What is decoded at a time, behind the window. */
#define OUT_ROOM KIB(256)
#define OUT_LEN  (GZIP_WINDOW + OUT_ROOM)

/* Where a border is wanted: shorter than the headers of blocks with codes of their own. */
#define HUNT_PIECE 32U

#define TRAILER_LEN 8U

/* ISA-L counts its output in 32 bits, and compares that with how far back data refers. */
#define TOTAL_HIGH 0x40000000U
#define TOTAL_LOW  0x20000000U

enum place {
	IN_HEADER,
	IN_BODY,
	IN_TRAILER,
	BETWEEN,
	IN_PADDING,
	AT_END,
};

struct gzip_decoder {
	struct inflate_state isal;
	struct gzip_header header;
	enum place place;
	bool first;   /* the member is where decoding began */
	bool border;  /* one was met and not told yet */
	bool full;    /* ISA-L stopped for want of room: it may have more without more input */
	bool ended;   /* of the input */
	uint8_t skip; /* bits of the next byte that belong to what was before */
	const uint8_t *in;
	size_t in_len;
	uint64_t in_off; /* of `in` in the compressed file */
	uint64_t member_at;
	uint64_t member_len; /* decoded of this member, the given window included */
	uint8_t trailer[TRAILER_LEN];
	unsigned int trailer_have;
	size_t told; /* `out` up to here was handed over */
	size_t fill; /* `out` up to here is decoded */
	uint8_t out[OUT_LEN];
};

struct gzip_decoder *gzip_decoder_new(void)
{
	return calloc(1, sizeof(struct gzip_decoder));
}

void gzip_decoder_free(struct gzip_decoder *d)
{
	free(d);
}

static void begin_header(struct gzip_decoder *d)
{
	gzip_header_init(&d->header);
	d->place = IN_HEADER;
	d->member_at = d->in_off;
}

static void begin_body(struct gzip_decoder *d)
{
	isal_inflate_init(&d->isal);
	d->place = IN_BODY;
	d->full = false;
	d->member_len = 0;
}

void gzip_decoder_start(
	struct gzip_decoder *d, uint64_t in_bits, bool header, const uint8_t *window, size_t n)
{
	d->in = NULL;
	d->in_len = 0;
	d->in_off = in_bits / 8;
	d->ended = false;
	d->border = false;
	d->first = true;
	d->fill = 0;
	d->told = 0;
	d->skip = (uint8_t)(in_bits % 8);
	if (header) {
		begin_header(d);
		return;
	}
	begin_body(d);
	if (n > 0) {
		memcpy(d->out, window, n);
		isal_inflate_set_dict(&d->isal, d->out, (uint32_t)n);
		d->fill = n;
		d->told = n;
		d->member_len = n;
	}
}

uint64_t gzip_decoder_bits(const struct gzip_decoder *d)
{
	uint64_t bits = d->in_off * 8 + d->skip;

	if (d->place == IN_BODY) {
		bits -= (uint64_t)(uint16_t)d->isal.tmp_in_size * 8;
		bits -= (uint32_t)d->isal.read_in_length;
	}
	return bits;
}

bool gzip_decoder_spoilt(const struct gzip_decoder *d)
{
	return d->place == IN_BODY && !d->ended;
}

const uint8_t *gzip_decoder_window(const struct gzip_decoder *d, size_t *ret_n)
{
	*ret_n = min_u64(d->member_len, GZIP_WINDOW);
	return d->out + d->fill - *ret_n;
}

static int broken(const struct gzip_decoder *d, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "gzip: %s at byte %" PRIu64 " of the compressed file", what,
		gzip_decoder_bits(d) / 8);
}

/* Makes sure that there is input, unless it has ended. */
static int refill(struct gzip_decoder *d, struct gzip_input *in, struct err *e)
{
	int r;

	if (d->in_len > 0 || d->ended) {
		return 0;
	}
	r = gzip_input_next(in, &d->in, &d->in_len, e);
	d->ended = r == 0 && d->in_len == 0;
	return r;
}

static void use(struct gzip_decoder *d, size_t n)
{
	d->in += n;
	d->in_len -= n;
	d->in_off += n;
}

/* As much as may be given to ISA-L at once. */
static size_t input_piece(const struct gzip_decoder *d, bool want_border)
{
	const struct inflate_state *s = &d->isal;
	int64_t rest;

	if (!want_border) {
		return min_u64(d->in_len, UINT32_MAX);
	}
	if (s->block_state != ISAL_BLOCK_TYPE0) {
		return min_u64(d->in_len, HUNT_PIECE);
	}
	/* A stored block says how long it is, and is not worth a thousand calls. */
	rest = (int64_t)s->type0_block_len - s->read_in_length / 8;
	return min_u64(d->in_len, rest > 0 ? (uint64_t)rest : 1);
}

/* The first block of a restart may begin within a byte. */
static void skip_bits(struct gzip_decoder *d)
{
	if (d->skip > 0 && d->in_len > 0) {
		d->isal.read_in = (uint64_t)d->in[0] >> d->skip;
		d->isal.read_in_length = 8 - d->skip;
		d->skip = 0;
		use(d, 1);
	}
}

/* What ISA-L read beyond the end of the deflate data is the beginning of the trailer. */
static void end_body(struct gzip_decoder *d)
{
	unsigned int bits = (unsigned int)d->isal.read_in_length;
	uint64_t rest = d->isal.read_in >> (bits % 8);

	d->place = IN_TRAILER;
	for (d->trailer_have = 0; d->trailer_have < bits / 8; d->trailer_have++) {
		d->trailer[d->trailer_have] = (uint8_t)(rest >> (8 * d->trailer_have));
	}
}

static int inflate_piece(struct gzip_decoder *d, bool want_border, struct err *e)
{
	struct inflate_state *s = &d->isal;
	size_t n = input_piece(d, want_border);
	size_t room = OUT_LEN - d->fill;
	size_t used;
	size_t made;
	int r;

	if (s->total_out > TOTAL_HIGH) {
		s->total_out = TOTAL_LOW;
	}
	/* The library reads it only. */
	s->next_in = (uint8_t *)(uintptr_t)d->in;
	s->avail_in = (uint32_t)n;
	s->next_out = d->out + d->fill;
	s->avail_out = (uint32_t)room;
	r = isal_inflate(s);
	/* After a failure, the library's idea of its input can be off. */
	used = r == ISAL_DECOMP_OK ? n - s->avail_in : 0;
	made = room - s->avail_out;
	assert(used <= n && made <= room);
	use(d, used);
	d->fill += made;
	d->member_len += made;
	d->full = s->avail_out == 0;
	if (r != ISAL_DECOMP_OK) {
		return broken(d, "the compressed data is broken", e);
	}
	if (s->block_state == ISAL_BLOCK_FINISH) {
		end_body(d);
	} else if (used == 0 && made == 0 && d->ended) {
		return broken(d, "the file ends within a member, it is cut off", e);
	} else if (used == 0 && made == 0 && n > 0) {
		return broken(d, "the decoder is stuck", e);
	}
	/* NEW_HDR: the input ended with a stored block; HDR: within the header of the next one. */
	d->border = want_border && !d->full &&
		    (s->block_state == ISAL_BLOCK_NEW_HDR || s->block_state == ISAL_BLOCK_HDR);
	return 0;
}

/* Keeps the window and makes room behind it. */
static void make_room(struct gzip_decoder *d)
{
	if (OUT_LEN - d->fill < OUT_ROOM / 4) {
		memmove(d->out, d->out + d->fill - GZIP_WINDOW, GZIP_WINDOW);
		d->fill = GZIP_WINDOW;
		d->told = GZIP_WINDOW;
	}
}

/* Decodes until there is no room, a border, the end of the member, or the input would have to be
 * waited for while something can be handed over. */
static int run_body(struct gzip_decoder *d, struct gzip_input *in, bool want_border, struct err *e)
{
	int r = 0;

	make_room(d);
	while (r == 0 && d->place == IN_BODY && d->fill < OUT_LEN && !d->border) {
		if (d->in_len == 0 && !d->full) {
			if (d->fill > d->told) {
				break;
			}
			r = refill(d, in, e);
			skip_bits(d);
		}
		if (r == 0 && (d->in_len > 0 || d->ended || d->full)) {
			r = inflate_piece(d, want_border, e);
		}
	}
	return r;
}

static int run_header(struct gzip_decoder *d, struct gzip_input *in, struct err *e)
{
	struct err why = { 0 };
	size_t used = 0;
	int r = refill(d, in, e);

	if (r < 0) {
		return r;
	}
	if (d->ended) {
		return broken(d, "the file ends within the header of a member, it is cut off", e);
	}
	r = gzip_header_feed(&d->header, d->in, d->in_len, &used, &why);
	if (r < 0 && !d->first && d->header.part == GZIP_HEADER_FIXED && d->header.have < 2) {
		return broken(d,
			"what follows the last whole member is neither another one nor zeros", e);
	}
	if (r < 0) {
		return err_set(e, r, "gzip: %s (the member begins at byte %" PRIu64 ")", why.text,
			d->member_at);
	}
	use(d, used);
	if (r > 0) {
		begin_body(d);
	}
	return 0;
}

static int run_trailer(
	struct gzip_decoder *d, struct gzip_input *in, struct gzip_step *ret, struct err *e)
{
	size_t n;
	int r = 0;

	if (d->trailer_have < TRAILER_LEN) {
		r = refill(d, in, e);
		n = min_u64(d->in_len, TRAILER_LEN - d->trailer_have);
		if (r == 0 && d->ended) {
			return broken(d,
				"the file ends within the trailer of a member, it is cut off", e);
		}
		if (r == 0) {
			memcpy(d->trailer + d->trailer_have, d->in, n);
			d->trailer_have += (unsigned int)n;
			use(d, n);
		}
	}
	if (r == 0 && d->trailer_have == TRAILER_LEN) {
		d->place = BETWEEN;
		d->first = false;
		ret->event = GZIP_MEMBER_END;
		ret->crc = load_le32(d->trailer);
		ret->isize = load_le32(d->trailer + 4);
		r = 1;
	}
	return r;
}

/* Behind a whole member. */
static int run_between(
	struct gzip_decoder *d, struct gzip_input *in, struct gzip_step *ret, struct err *e)
{
	int r = refill(d, in, e);

	if (r < 0) {
		return r;
	}
	if (d->ended) {
		d->place = AT_END;
		return 0;
	}
	if (d->place == BETWEEN && d->in[0] != 0) {
		begin_header(d);
		ret->event = GZIP_MEMBER;
		return 1;
	}
	d->place = IN_PADDING;
	while (d->in_len > 0 && d->in[0] == 0) {
		use(d, is_zero(d->in, min_u64(d->in_len, 4096)) ? min_u64(d->in_len, 4096) : 1);
	}
	return d->in_len == 0
		       ? 0
		       : broken(d, "there is something else than zeros behind the padding", e);
}

/* 1: *ret is an event. */
static int advance(struct gzip_decoder *d, struct gzip_input *in, bool want_border,
	struct gzip_step *ret, struct err *e)
{
	switch (d->place) {
	case IN_HEADER:
		return run_header(d, in, e);
	case IN_BODY:
		return run_body(d, in, want_border, e);
	case IN_TRAILER:
		return run_trailer(d, in, ret, e);
	case BETWEEN:
	case IN_PADDING:
		return run_between(d, in, ret, e);
	case AT_END:
		break;
	}
	ret->event = GZIP_END;
	return 1;
}

int gzip_decoder_step(struct gzip_decoder *d, struct gzip_input *in, bool want_border,
	struct gzip_step *ret, struct err *e)
{
	struct gzip_step step = { 0 };
	int r = 0;

	while (r == 0 && d->fill == d->told && !d->border) {
		r = advance(d, in, want_border, &step, e);
	}
	if (r < 0) {
		return r;
	}
	if (d->fill > d->told) {
		step.event = GZIP_BYTES;
		step.buf = d->out + d->told;
		step.n = d->fill - d->told;
		d->told = d->fill;
	} else if (d->border) {
		step.event = GZIP_BORDER;
		d->border = false;
	}
	*ret = step;
	return 0;
}
