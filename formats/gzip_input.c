/* SPDX-License-Identifier: Apache-2.0 */
/* Spans that are known, each read at once; a feed behind them. */
#include "formats/gzip_input.h"

#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "formats/feed.h"
#include "formats/gzip_index.h"

/* A span that is longer is read in parts. */
#define SPAN_MAX MIB(8)

struct gzip_input {
	struct image *below;
	struct gzip_index *index;
	uint64_t next; /* to be read */
	uint8_t *span;
	size_t room;
	struct feed *feed; /* NULL until the index knows nothing more */
};

int gzip_input_new(
	struct image *below, struct gzip_index *index, uint64_t off, struct gzip_input **ret)
{
	struct gzip_input *in = calloc(1, sizeof(*in));

	if (!in) {
		return -ENOMEM;
	}
	in->below = below;
	in->index = index;
	in->next = off;
	*ret = in;
	return 0;
}

void gzip_input_free(struct gzip_input *in)
{
	if (in) {
		feed_close(in->feed);
		free(in->span);
		free(in);
	}
}

static int read_span(
	struct gzip_input *in, uint64_t end, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	size_t n = min_u64(end - in->next, SPAN_MAX);
	int r;

	if (n > in->room) {
		free(in->span);
		in->span = malloc(n);
		in->room = in->span ? n : 0;
	}
	if (!in->span) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(in->below, in->span, n, in->next, e);
	if (r < 0) {
		return r;
	}
	in->next += n;
	*ret = in->span;
	*ret_n = n;
	return 0;
}

static int read_feed(struct gzip_input *in, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	int r;

	if (!in->feed) {
		r = feed_open(in->below, in->next, in->below->size, &in->feed, e);
		if (r < 0) {
			return r;
		}
	}
	r = feed_peek(in->feed, ret, ret_n, e);
	if (r == 0) {
		feed_take(in->feed, *ret_n); /* it stays lent until the next peek */
		in->next += *ret_n;
	}
	return r;
}

int gzip_input_next(struct gzip_input *in, const uint8_t **ret, size_t *ret_n, struct err *e)
{
	uint64_t end;

	if (!in->feed && gzip_index_span(in->index, in->next, &end)) {
		return read_span(in, min_u64(end, in->below->size), ret, ret_n, e);
	}
	return read_feed(in, ret, ret_n, e);
}
