/* SPDX-License-Identifier: Apache-2.0 */
/* A decoder, a feed, and the checks and seek points on the way. */
#include "formats/gzip_run.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* So much is held back until it is known to be right: twice what is usual between two points. */
#define HOLD_MAX MIB(8)

/* So much of what is decoded for the first time: whole members of that size (a BGZF block has no
 * more), and the beginnings of others. That is less than what is decoded at a time. */
#define MEMBER_HOLD KIB(64)

/* The search for a border costs time: it is given up after so many compressed bytes (somebody made
 * blocks of gigabytes) and begins anew after so many decoded ones. */
#define HUNT_BYTES KIB(256)
#define HUNT_PAUSE MIB(16)

struct gzip_run {
	struct gzip_source *src;
	struct gzip_decoder *decoder;
	struct gzip_input *input;
	uint64_t out;        /* decoded bytes before what comes next */
	uint64_t member_off; /* of these, bytes of the member */
	uint32_t crc;        /* of these bytes */
	bool between;        /* the member was checked, the next has not begun */
	bool ended;
	bool checked;         /* everything up to `out` */
	const uint8_t *piece; /* decoded and not accounted for */
	size_t piece_len;
	uint64_t hunt_until; /* compressed bits; 0: no hunt is on */
	uint64_t hunt_again; /* decoded bytes */
	uint8_t *hold;
	size_t hold_room;
};

/* What the index says comes next, at or behind which nothing may be given before it was checked. */
struct stop {
	uint64_t out;
	struct gzip_point point;
	bool end; /* it is the end of the file, and no point */
};

static bool next_stop(const struct gzip_run *run, struct stop *ret)
{
	*ret = (struct stop){ 0 };
	if (gzip_index_after(run->src->index, run->out, &ret->point)) {
		ret->out = ret->point.out;
		return true;
	}
	ret->end = true;
	return gzip_index_total(run->src->index, &ret->out) && ret->out > run->out;
}

/* Begins at the last usable point at or before @off. The one at 0 needs nothing. */
static void choose_start(
	struct gzip_run *run, uint64_t off, uint8_t *window, size_t *ret_n, struct gzip_point *ret)
{
	struct gzip_index *ix = run->src->index;
	size_t number;

	gzip_index_find(ix, off, ret, &number);
	while (gzip_index_window(ix, number, window, ret_n) < 0) {
		assert(number > 0);
		number--;
		gzip_index_get(ix, number, ret);
	}
}

int gzip_run_open(struct gzip_source *src, uint64_t off, struct gzip_run **ret, struct err *e)
{
	struct gzip_run *run = calloc(1, sizeof(*run));
	CLEANUP_FREE uint8_t *window = malloc(GZIP_WINDOW);
	struct gzip_point p;
	size_t n;

	if (run) {
		run->src = src;
		run->decoder = gzip_decoder_new();
	}
	if (!run || !run->decoder || !window) {
		gzip_run_close(run);
		return err_set(e, -ENOMEM, "out of memory");
	}
	choose_start(run, off, window, &n, &p);
	if (gzip_input_new(src->below, src->index, p.in_bits / 8, &run->input) < 0) {
		gzip_run_close(run);
		return err_set(e, -ENOMEM, "out of memory");
	}
	gzip_decoder_start(run->decoder, p.in_bits, p.header, window, n);
	run->out = p.out;
	run->member_off = p.member_off;
	run->crc = p.crc;
	*ret = run;
	return 0;
}

void gzip_run_close(struct gzip_run *run)
{
	if (run) {
		gzip_input_free(run->input);
		gzip_decoder_free(run->decoder);
		free(run->hold);
		free(run);
	}
}

uint64_t gzip_run_offset(const struct gzip_run *run)
{
	return run->out;
}

bool gzip_run_is_checked(const struct gzip_run *run)
{
	return run->checked;
}

uint64_t gzip_run_consumed(const struct gzip_run *run)
{
	return gzip_decoder_bits(run->decoder) / 8;
}

/* Whether a border between blocks would be welcome as a seek point, and is worth its search. */
static bool hunting(struct gzip_run *run)
{
	uint64_t bits = gzip_decoder_bits(run->decoder);

	if (run->out < run->hunt_again || run->member_off == 0 ||
		!gzip_index_wants(run->src->index, run->out, false)) {
		run->hunt_until = 0;
		return false;
	}
	if (run->hunt_until == 0) {
		run->hunt_until = bits + HUNT_BYTES * 8;
	} else if (bits > run->hunt_until) {
		run->hunt_until = 0;
		run->hunt_again = run->out + HUNT_PAUSE;
		return false;
	}
	return true;
}

static void add_point(struct gzip_run *run, bool header)
{
	struct gzip_point p = {
		.in_bits = gzip_decoder_bits(run->decoder),
		.out = run->out,
		.header = header,
	};
	const uint8_t *window = NULL;
	size_t n;

	if (!header) {
		window = gzip_decoder_window(run->decoder, &n);
		p.member_off = run->member_off;
		p.crc = run->crc;
		p.window_len = (uint32_t)n;
		assert(n == min_u64(run->member_off, GZIP_WINDOW));
	}
	gzip_index_add(run->src->index, &p, window);
}

/* At the end of a member: is it what its trailer says? */
static int check_member(struct gzip_run *run, const struct gzip_step *step, struct err *e)
{
	uint64_t from = run->out - run->member_off;
	struct err why = { 0 };

	if (step->crc == run->crc && step->isize == (uint32_t)run->member_off) {
		run->between = true;
		return 0;
	}
	if (step->isize != (uint32_t)run->member_off) {
		err_set(&why, -EBADMSG,
			"gzip: the member that begins at byte %" PRIu64 " of the image has %" PRIu64
			" bytes, which is not the length %" PRIu32 " that its trailer says",
			from, run->member_off, step->isize);
	} else {
		err_set(&why, -EBADMSG,
			"gzip: the bytes %" PRIu64 " to %" PRIu64
			" of the image are damaged: their CRC-32 is %08" PRIx32 ", not %08" PRIx32
			" as their trailer says",
			from, run->out, run->crc, step->crc);
	}
	gzip_index_condemn(run->src->index, from, run->out, &why);
	return err_set(e, why.code, "%s", why.text);
}

/* Everything but bytes. */
static int take_event(struct gzip_run *run, const struct gzip_step *step, struct err *e)
{
	switch (step->event) {
	case GZIP_BORDER:
		add_point(run, false);
		run->hunt_until = 0;
		break;
	case GZIP_MEMBER_END:
		return check_member(run, step, e);
	case GZIP_MEMBER:
		run->between = false;
		run->member_off = 0;
		run->crc = 0;
		add_point(run, true);
		break;
	case GZIP_END:
		run->ended = true;
		return gzip_index_finish(run->src->index, run->out, e);
	case GZIP_BYTES:
		break;
	}
	return 0;
}

static int advance(struct gzip_run *run, struct err *e)
{
	struct err why = { 0 };
	struct gzip_step step;
	int r;

	if (atomic_load(&run->src->stop)) {
		return err_set(e, -ECANCELED, "gzip: the image is being closed");
	}
	r = gzip_decoder_step(run->decoder, run->input, hunting(run), &step, &why);
	if (r == -EBADMSG && gzip_decoder_spoilt(run->decoder)) {
		gzip_index_condemn(run->src->index, run->out - run->member_off, UINT64_MAX, &why);
	}
	if (r < 0) {
		return err_set(e, r, "%s", why.text);
	}
	if (step.event == GZIP_BYTES) {
		run->piece = step.buf;
		run->piece_len = step.n;
	}
	return take_event(run, &step, e);
}

/* The next bytes, up to @max of them; none at the end of the file. */
static int get_bytes(
	struct gzip_run *run, uint64_t max, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	size_t n;
	int r = 0;

	while (r == 0 && run->piece_len == 0 && !run->ended) {
		r = advance(run, e);
	}
	n = min_u64(run->piece_len, max);
	*ret = run->piece;
	*ret_n = n;
	if (r < 0 || n == 0) {
		return r;
	}
	run->crc = libdeflate_crc32(run->crc, run->piece, n);
	run->piece += n;
	run->piece_len -= n;
	run->out += n;
	run->member_off += n;
	return 0;
}

static int differs(const struct gzip_run *run, struct err *e)
{
	return err_set(e, -EBADMSG,
		"gzip: what is decoded up to byte %" PRIu64
		" of the image is not what it was when the file was read first",
		run->out);
}

/* Goes on, without bytes, until the trailer of the member (or the end of the file, when @all) was
 * checked. */
static int finish_member(struct gzip_run *run, bool all, struct err *e)
{
	int r = 0;

	while (r == 0 && !run->ended && !(run->between && !all)) {
		r = advance(run, e);
		if (r == 0 && run->piece_len > 0) {
			r = differs(run, e);
		}
	}
	return r;
}

/* At @stop: is everything as the index says? */
static int check_stop(struct gzip_run *run, const struct stop *stop, struct err *e)
{
	if (stop->end || stop->point.header) {
		return finish_member(run, stop->end, e);
	}
	if (stop->point.crc != run->crc || stop->point.member_off != run->member_off) {
		return differs(run, e);
	}
	return 0;
}

static bool make_hold(struct gzip_run *run, size_t n)
{
	if (n > run->hold_room) {
		free(run->hold);
		run->hold = malloc(n);
		run->hold_room = run->hold ? n : 0;
	}
	return run->hold != NULL;
}

/* All bytes before @stop in one piece. */
static int next_held(struct gzip_run *run, const struct stop *stop, const uint8_t **ret,
	size_t *ret_n, struct err *e)
{
	size_t want = stop->out - run->out;
	size_t have = 0;

	if (!make_hold(run, want)) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while (have < want) {
		const uint8_t *piece = NULL;
		size_t n = 0;
		int r = get_bytes(run, want - have, &piece, &n, e);

		if (r == 0 && n == 0) {
			r = differs(run, e);
		}
		if (r < 0) {
			return r;
		}
		memcpy(run->hold + have, piece, n);
		have += n;
	}
	*ret = run->hold;
	*ret_n = have;
	return check_stop(run, stop, e);
}

/* Goes on until there are bytes, or a member has ended. */
static int go_on(struct gzip_run *run, struct err *e)
{
	int r = 0;

	while (r == 0 && run->piece_len == 0 && !run->between && !run->ended) {
		r = advance(run, e);
	}
	return r;
}

/* At the beginning of a member, or before it. Up to MEMBER_HOLD bytes of it, in one piece; when it
 * has no more, its trailer was checked. */
static int next_member(struct gzip_run *run, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	const uint8_t *piece = NULL;
	size_t have = 0;
	size_t n = 0;
	int r;

	if (!make_hold(run, MEMBER_HOLD)) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = get_bytes(run, MEMBER_HOLD, &piece, &n, e);
	while (r == 0 && n > 0) {
		memcpy(run->hold + have, piece, n);
		have += n;
		n = 0;
		r = go_on(run, e);
		if (r == 0 && run->piece_len > 0) {
			r = get_bytes(run, MEMBER_HOLD - have, &piece, &n, e);
		}
	}
	*ret = run->hold;
	*ret_n = have;
	return r;
}

/* What nobody has decoded before. */
static int next_new(struct gzip_run *run, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	int r = go_on(run, e);

	if (r < 0) {
		return r;
	}
	return run->between || run->member_off == 0 ? next_member(run, ret, ret_n, e)
						    : get_bytes(run, UINT64_MAX, ret, ret_n, e);
}

int gzip_run_next(struct gzip_run *run, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	struct stop stop;
	int r;

	run->checked = false;
	if (!next_stop(run, &stop)) {
		return next_new(run, ret, ret_n, e);
	}
	if (stop.out - run->out <= HOLD_MAX) {
		r = next_held(run, &stop, ret, ret_n, e);
		run->checked = r == 0;
		return r;
	}
	r = get_bytes(run, stop.out - run->out, ret, ret_n, e);
	if (r == 0 && *ret_n == 0) {
		r = differs(run, e);
	}
	if (r == 0 && run->out == stop.out) {
		r = check_stop(run, &stop, e);
		run->checked = r == 0;
	}
	return r;
}
