/* SPDX-License-Identifier: Apache-2.0 */
/* One buffer and a hint that runs ahead of it. */
#include "formats/feed.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

/* The first hint; each piece that was read doubles it. Who reads on only for a little costs the
 * network little. */
#define AHEAD_FIRST MIB(1)
/* Smaller hints are not worth a call. */
#define AHEAD_STEP KIB(512)

struct feed {
	struct image *img;
	uint64_t next; /* everything before was read */
	uint64_t end;
	uint64_t hinted; /* everything before was hinted at or read */
	uint64_t ahead;
	size_t at; /* the bytes [at, len) of `buf` are not taken yet; they end at `next` */
	size_t len;
	uint8_t buf[FEED_PIECE];
};

int feed_open(struct image *img, uint64_t off, uint64_t end, struct feed **ret, struct err *e)
{
	struct feed *f = malloc(sizeof(*f));

	assert(off <= end && end <= img->size);
	if (!f) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	f->img = img;
	f->next = off;
	f->end = end;
	f->hinted = off;
	f->ahead = AHEAD_FIRST;
	f->at = 0;
	f->len = 0;
	*ret = f;
	return 0;
}

uint64_t feed_offset(const struct feed *f)
{
	return f->next - (f->len - f->at);
}

uint64_t feed_left(const struct feed *f)
{
	return f->end - feed_offset(f);
}

static void hint(struct feed *f)
{
	uint64_t from = max_u64(f->hinted, f->next);
	uint64_t to = f->next + min_u64(f->ahead, f->end - f->next);

	if (to > from && (to - from >= AHEAD_STEP || to == f->end)) {
		image_prefetch(f->img, from, to - from);
		f->hinted = to;
	}
	f->ahead = min_u64(2 * f->ahead, FEED_AHEAD);
}

/* Reads on behind what is lent, as much as the buffer has room for. */
static int fill(struct feed *f, struct err *e)
{
	size_t n;
	int r;

	if (f->at > 0) {
		memmove(f->buf, f->buf + f->at, f->len - f->at);
		f->len -= f->at;
		f->at = 0;
	}
	n = min_u64(FEED_PIECE - f->len, f->end - f->next);
	hint(f);
	r = image_read_at(f->img, f->buf + f->len, n, f->next, e);
	if (r < 0) {
		return r;
	}
	f->len += n;
	f->next += n;
	return 0;
}

int feed_peek(struct feed *f, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	if (f->at == f->len && f->next < f->end) {
		int r = fill(f, e);

		if (r < 0) {
			return r;
		}
	}
	*ret = f->buf + f->at;
	*ret_n = f->len - f->at;
	return 0;
}

static int ends_early(const struct feed *f, struct err *e)
{
	return err_set(e, -EBADMSG, "it ends early, at offset %" PRIu64, f->end);
}

int feed_need(struct feed *f, size_t n, const uint8_t **ret, struct err *e)
{
	assert(n <= FEED_PIECE);
	if (n > feed_left(f)) {
		return ends_early(f, e);
	}
	if (f->len - f->at < n) {
		int r = fill(f, e);

		if (r < 0) {
			return r;
		}
	}
	*ret = f->buf + f->at;
	return 0;
}

void feed_take(struct feed *f, size_t n)
{
	assert(n <= f->len - f->at);
	f->at += n;
}

int feed_skip(struct feed *f, uint64_t n, struct err *e)
{
	size_t here = f->len - f->at;

	if (n > feed_left(f)) {
		return ends_early(f, e);
	}
	if (n <= here) {
		f->at += n;
		return 0;
	}
	f->at = 0;
	f->len = 0;
	f->next += n - here;
	return 0;
}

void feed_close(struct feed *f)
{
	free(f);
}
