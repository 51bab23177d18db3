/* SPDX-License-Identifier: Apache-2.0 */
/* Units, and cursors that run through them. */
#include "formats/decoded.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"

/* More than two terabytes of units that are hardly larger than DECODED_UNIT_MIN. */
#define UNITS_MAX (1U << 21)

int decoded_init(struct decoded *d, const struct image_ops *ops, const struct decoder_ops *decoder,
	struct image *below, struct err *e)
{
	*d = (struct decoded){ .decoder = decoder };
	if (image_init_decoder(&d->img, ops, below, 0, ops->name) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	atomic_init(&d->real, UINT64_MAX);
	pthread_mutex_init(&d->lock, NULL);
	return 0;
}

static void cursor_end(struct cursor *c)
{
	if (c) {
		struct feed *feed = c->feed;
		uint8_t *out = c->out;

		witness_clear(&c->witness);
		c->image->decoder->end(c);
		feed_close(feed);
		free(out);
	}
}

void decoded_fini(struct decoded *d)
{
	cursor_end(d->idle);
	pthread_mutex_destroy(&d->lock);
	claims_clear(&d->claims);
	free(d->units);
	image_fini(&d->img);
}

static int append(struct decoded *d, struct unit unit, struct err *e)
{
	if (d->count == d->room) {
		size_t room = d->room ? 2 * d->room : 16;
		struct unit *units =
			d->room < UNITS_MAX ? realloc(d->units, room * sizeof(*units)) : NULL;

		if (!units) {
			return d->room < UNITS_MAX
				       ? err_set(e, -ENOMEM, "out of memory")
				       : err_set(e, -ENOTSUP, "more than %u blocks", UNITS_MAX);
		}
		d->units = units;
		d->room = room;
	}
	d->units[d->count] = unit;
	return 0;
}

int decoded_add(struct decoded *d, uint64_t in, uint64_t out, uint64_t tag, struct err *e)
{
	int r;

	if (d->count > 0 && out - d->units[d->count - 1].out < DECODED_UNIT_MIN) {
		return 0;
	}
	r = append(d, (struct unit){ in, out, tag }, e);
	if (r == 0) {
		d->count++;
	}
	return r;
}

int decoded_finish(struct decoded *d, uint64_t in, uint64_t out, struct err *e)
{
	int r = append(d, (struct unit){ in, out, 0 }, e);

	if (r == 0) {
		claims_clear(&d->claims);
		r = claims_init(&d->claims, d->count);
		r = r < 0 ? err_set(e, r, "out of memory") : 0;
	}
	if (r == 0) {
		d->img.size = out;
		d->img.bound = out;
		d->img.flags |= d->count == 1 ? IMAGE_SEQUENTIAL : 0;
	}
	return r;
}

int decoded_finish_open(struct decoded *d, uint64_t size, uint64_t bound, struct err *e)
{
	int r;

	assert(size <= bound);
	d->count = 0;
	r = decoded_add(d, 0, 0, 0, e);
	if (r == 0) {
		r = decoded_finish(d, d->img.below->size, bound, e);
	}
	d->img.size = size;
	d->img.flags |= IMAGE_SIZE_PROVISIONAL;
	return r;
}

static bool is_open_ended(const struct decoded *d)
{
	return d->img.flags & IMAGE_SIZE_PROVISIONAL;
}

/* The number of the unit that holds @out, which is before the end. */
static size_t find_unit(const struct decoded *d, uint64_t out)
{
	size_t low = 0;
	size_t high = d->count;

	assert(out < d->units[d->count].out);
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (d->units[middle].out <= out) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return low;
}

static int cursor_start(struct decoded *d, size_t unit, struct cursor **ret, struct err *e)
{
	const struct unit *u = &d->units[unit];
	struct cursor *c = NULL;
	struct feed *feed;
	int r = feed_open(d->img.below, u->in, u[1].in, &feed, e);

	if (r == 0) {
		r = d->decoder->start(d, u, &c, e);
		if (r < 0) {
			feed_close(feed);
		}
	}
	if (r < 0) {
		return r;
	}
	assert(c);
	c->image = d;
	c->feed = feed;
	c->unit = unit;
	c->out = NULL;
	c->room = 0;
	c->pos = u->out;
	c->lent = NULL;
	c->left = 0;
	r = witness_init(&c->witness, &d->claims, unit, u->out);
	if (r < 0) {
		d->decoder->end(c);
		feed_close(feed);
		return err_set(e, r, "out of memory");
	}
	*ret = c;
	return 0;
}

int cursor_room(struct cursor *c, uint64_t block, size_t *ret, struct err *e)
{
	size_t n = block <= DECODED_HELD ? block + 1 : DECODED_PIECE;

	if (n > c->room) {
		free(c->out);
		c->room = max_u64(n, DECODED_PIECE);
		c->out = malloc(c->room);
	}
	if (!c->out) {
		c->room = 0;
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = n;
	return 0;
}

/* Once somebody has found the end of what was open-ended, that is the image's bound. */
static uint64_t unit_end(const struct cursor *c)
{
	return min_u64(c->image->units[c->unit + 1].out, c->image->img.bound);
}

static int check_length(const struct cursor *c, struct err *e)
{
	const struct decoded *d = c->image;
	bool ends = c->left == 0 && c->pos != unit_end(c) && !is_open_ended(d);

	if (c->left > unit_end(c) - c->pos || ends) {
		return err_set(e, -EBADMSG,
			"%s: what begins at offset %" PRIu64 " of the compressed image decodes to "
			"%s than %" PRIu64 " bytes",
			d->img.ops->name, d->units[c->unit].in, ends ? "less" : "more",
			unit_end(c) - d->units[c->unit].out);
	}
	return 0;
}

/* What was handed over of the unit is as doubtful as what is still to come. */
static void distrust(const struct cursor *c)
{
	const struct decoded *d = c->image;
	const struct unit *u = &d->units[c->unit];

	image_distrust(d->img.below, u->in, u[1].in - u->in);
}

/* Makes sure that something is lent, unless the unit ends here. */
static int pull(struct cursor *c, struct err *e)
{
	struct decoded *d = c->image;
	int r;

	if (atomic_load_explicit(&d->interrupted, memory_order_relaxed)) {
		return err_set(e, -ECANCELED, "%s: the image is being closed", d->img.ops->name);
	}
	if (c->left > 0) {
		return 0;
	}
	r = d->decoder->step(c, &c->left, e);
	c->lent = c->out;
	if (r == 0) {
		atomic_fetch_add_explicit(&d->bytes, c->left, memory_order_relaxed);
		r = check_length(c, e);
	}
	if (r == -EBADMSG) {
		distrust(c);
	}
	if (r < 0) {
		c->left = 0;
		return r;
	}
	if (c->left == 0) {
		witness_prove(&c->witness);
	}
	if (c->left == 0 && is_open_ended(d)) {
		atomic_store(&d->real, c->pos);
	}
	return 0;
}

static void take(struct cursor *c, size_t n)
{
	witness_see(&c->witness, c->lent, n);
	c->lent += n;
	c->left -= n;
	c->pos += n;
}

/* Runs on to @off, or to the end when that comes first. */
static int run_to(struct cursor *c, uint64_t off, struct err *e)
{
	while (c->pos < off) {
		int r = pull(c, e);

		if (r < 0 || c->left == 0) {
			return r;
		}
		take(c, min_u64(c->left, off - c->pos));
	}
	return 0;
}

/* The claim comes first: a sink that stops the stream may have kept what it got, and one that waits
 * may do so for ever. */
static int hand_over(struct cursor *c, size_t n, image_sink_fn *sink, void *ctx, struct err *e)
{
	const uint8_t *lent = c->lent;
	uint64_t pos = c->pos;
	int r;

	take(c, n);
	witness_hand(&c->witness);
	r = sink(ctx, pos, lent, n);
	return r < 0 ? err_set(e, r, "%s: the reader stopped the stream", c->image->img.ops->name)
		     : 0;
}

/* Hands over [off, end), which is within the cursor's unit, or what there is of it. Where the unit
 * ends then, it was found right as a whole. */
static int cursor_stream(
	struct cursor *c, uint64_t off, uint64_t end, image_sink_fn *sink, void *ctx, struct err *e)
{
	int r = run_to(c, off, e);

	while (r == 0 && c->pos < end) {
		size_t n;

		r = pull(c, e);
		if (r < 0 || c->left == 0) {
			return r;
		}
		n = min_u64(min_u64(c->left, DECODED_PIECE), end - c->pos);
		r = hand_over(c, n, sink, ctx, e);
	}
	return r == 0 && end == unit_end(c) ? pull(c, e) : r;
}

/* Streams of one unit, up to *end, which becomes where it ended. */
static int unit_stream(struct decoded *d, size_t unit, uint64_t off, uint64_t *end,
	image_sink_fn *sink, void *ctx, struct err *e)
{
	struct cursor *c;
	int r = cursor_start(d, unit, &c, e);

	if (r == 0) {
		r = cursor_stream(c, off, *end, sink, ctx, e);
		*end = c->pos;
		cursor_end(c);
	}
	return r;
}

int decoded_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e)
{
	struct decoded *d = (struct decoded *)img;
	bool to_the_end = is_open_ended(d) && off + len == img->size;
	uint64_t end = to_the_end ? img->bound : off + len;
	size_t first = find_unit(d, off);
	int r = 0;

	for (size_t i = first; r == 0 && off < end; i++) {
		uint64_t to = min_u64(end, d->units[i + 1].out);
		uint64_t pos = to;

		if (i > first && (r = sink(ctx, off, "", 0)) < 0) {
			return err_set(e, r, "%s: the reader stopped the stream", img->ops->name);
		}
		r = unit_stream(d, i, off, &pos, sink, ctx, e);
		if (r == 0 && pos < to && !to_the_end) {
			r = image_past_end(img, pos, e);
		}
		off = to;
	}
	return r;
}

static int prove_claim(struct cursor *c, const struct claim *claim, struct err *e)
{
	const struct decoded *d = c->image;
	int r = run_to(c, claim->pos, e);

	if (r == 0 && (c->pos < claim->pos || witness_sum(&c->witness) != claim->sum)) {
		r = err_set(e, -EBADMSG,
			"%s: what begins at offset %" PRIu64 " of the compressed image was damaged "
			"when it was read: now it decodes to other bytes",
			d->img.ops->name, d->units[c->unit].in);
	}
	return r;
}

/* What was handed over since is not looked at. */
static int prove_unit(struct decoded *d, size_t unit, struct err *e)
{
	CLEANUP_FREE struct claim *claims = NULL;
	struct cursor *c;
	size_t n = 0;
	int r = claims_list(&d->claims, unit, &claims, &n);

	if (r < 0) {
		return err_set(e, r, "out of memory");
	}
	r = cursor_start(d, unit, &c, e);
	if (r < 0) {
		return r;
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = prove_claim(c, &claims[i], e);
	}
	if (r == 0) {
		r = run_to(c, unit_end(c), e);
	}
	if (r == 0) {
		r = pull(c, e);
	}
	cursor_end(c);
	return r;
}

int decoded_prove(struct image *img, struct err *e)
{
	struct decoded *d = (struct decoded *)img;
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->count; i++) {
		r = claims_open(&d->claims, i) ? prove_unit(d, i, e) : 0;
	}
	if (r == 0 && claims_lost(&d->claims)) {
		r = err_set(e, -EOVERFLOW,
			"%s: too much was read of it in too many pieces to tell whether all of that "
			"was right",
			img->ops->name);
	}
	return r;
}

/* A cursor of @unit that stands at @off or before: the idle one, if it is such a one. */
static int cursor_take(
	struct decoded *d, size_t unit, uint64_t off, struct cursor **ret, struct err *e)
{
	struct cursor *c = NULL;

	pthread_mutex_lock(&d->lock);
	if (d->idle && d->idle->unit == unit && d->idle->pos <= off) {
		c = TAKE_PTR(d->idle);
	}
	pthread_mutex_unlock(&d->lock);
	if (c) {
		witness_resume(&c->witness);
		*ret = c;
		return 0;
	}
	return cursor_start(d, unit, ret, e);
}

static void cursor_keep(struct decoded *d, struct cursor *c)
{
	struct cursor *old;

	witness_park(&c->witness);
	pthread_mutex_lock(&d->lock);
	old = d->idle;
	d->idle = c;
	pthread_mutex_unlock(&d->lock);
	cursor_end(old);
}

struct target {
	uint8_t *buf;
	uint64_t off;
};

static int copy_out(void *ctx, uint64_t off, const void *buf, size_t n)
{
	const struct target *t = ctx;

	memcpy(t->buf + (off - t->off), buf, n);
	return 0;
}

/* A read up to an end that was only assumed shows whether it is one. */
static int check_end(struct cursor *c, uint64_t to, struct err *e)
{
	const struct image *img = &c->image->img;
	int r = 0;

	if (!is_open_ended(c->image)) {
		return 0;
	}
	if (c->pos < to) {
		return image_past_end(img, c->pos, e);
	}
	if (to == img->size && to < img->bound) {
		r = pull(c, e);
		if (r == 0 && c->left > 0) {
			return image_past_end(img, UINT64_MAX, e);
		}
	}
	return r;
}

int decoded_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct decoded *d = (struct decoded *)img;
	struct target target = { buf, off };
	uint64_t end = off + len;
	int r = 0;

	for (size_t i = find_unit(d, off); r == 0 && off < end; i++) {
		uint64_t to = min_u64(end, d->units[i + 1].out);
		struct cursor *c;

		r = cursor_take(d, i, off, &c, e);
		if (r < 0) {
			return r;
		}
		r = cursor_stream(c, off, to, copy_out, &target, e);
		if (r == 0) {
			r = check_end(c, to, e);
		}
		if (r == 0 && to < unit_end(c)) {
			cursor_keep(d, c);
		} else {
			cursor_end(c);
		}
		off = to;
	}
	return r;
}

int decoded_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	struct decoded *d = (struct decoded *)img;
	size_t i;

	(void)e;
	if (img->flags & IMAGE_SEQUENTIAL) {
		*ret_off = 0;
		*ret_len = img->size;
		return 0;
	}
	i = find_unit(d, off);
	*ret_off = d->units[i].out;
	*ret_len = d->units[i + 1].out - d->units[i].out;
	return 0;
}

int decoded_final_size(struct image *img, uint64_t *ret)
{
	struct decoded *d = (struct decoded *)img;
	uint64_t real = atomic_load(&d->real);

	if (real == UINT64_MAX) {
		return -EAGAIN;
	}
	*ret = real;
	return 0;
}

void decoded_interrupt(struct image *img)
{
	struct decoded *d = (struct decoded *)img;

	atomic_store(&d->interrupted, true);
}

void decoded_report(struct image *img, struct report *r)
{
	struct decoded *d = (struct decoded *)img;

	report_u64(r, "units", d->count);
	report_u64(r, "decoded_bytes", atomic_load(&d->bytes));
}
