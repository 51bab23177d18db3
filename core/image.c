/* SPDX-License-Identifier: Apache-2.0 */
/* The checked wrappers: they test ranges on the way in and promises on the way out, so that no
 * layer repeats it. They are the only callers of struct image_ops. */
#include "core/image.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"

/* What stream_at made from read_at hands over at a time. */
#define STREAM_PIECE MIB(1)

int image_init(struct image *img, const struct image_ops *ops, struct image *below, uint64_t size,
	const char *id)
{
	char *copy = strdup(id);

	if (!copy) {
		return -ENOMEM;
	}
	*img = (struct image){
		.ops = ops,
		.below = below,
		.size = size,
		.bound = size,
		.block = 1,
		.id = copy,
	};
	return 0;
}

int image_init_decoder(struct image *img, const struct image_ops *ops, struct image *below,
	uint64_t size, const char *name)
{
	CLEANUP_FREE char *id = NULL;
	int r;

	if (asprintf(&id, "%s+%s", below->id, name) < 0) {
		id = NULL;
		return -ENOMEM;
	}
	r = image_init(img, ops, below, size, id);
	if (r == 0) {
		img->flags = below->flags & IMAGE_UNVERSIONED;
	}
	return r;
}

void image_fini(struct image *img)
{
	if (!img->borrows_below) {
		image_close(img->below);
	}
	free(img->id);
	img->below = NULL;
	img->id = NULL;
}

static int check_range(const struct image *img, uint64_t off, uint64_t len, struct err *e)
{
	if (!range_within(off, len, img->size)) {
		return err_set(e, -EINVAL,
			"%s: range %" PRIu64 "+%" PRIu64 " is outside the image of %" PRIu64
			" bytes",
			img->ops->name, off, len, img->size);
	}
	return 0;
}

int image_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = check_range(img, off, len, e);

	if (r < 0 || len == 0) {
		return r;
	}
	r = img->ops->read_at(img, buf, len, off, e);
	assert(r <= 0);
	return r;
}

int image_read_head(struct image *img, void *buf, size_t len, size_t *ret_len, struct err *e)
{
	uint64_t end = img->size;
	int r;

	*ret_len = min_u64(end, len);
	r = image_read_at(img, buf, *ret_len, 0, e);
	if (r < 0 && (img->flags & IMAGE_SIZE_PROVISIONAL) && image_final_size(img, &end) == 0 &&
		end < *ret_len) {
		*ret_len = end;
		r = image_read_at(img, buf, *ret_len, 0, e);
	}
	return r;
}

static int stream_by_reads(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(min_u64(len, STREAM_PIECE));

	if (!buf) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while (len > 0) {
		size_t n = min_u64(len, STREAM_PIECE);
		int r = image_read_at(img, buf, n, off, e);

		if (r < 0) {
			return r;
		}
		r = sink(ctx, off, buf, n);
		if (r < 0) {
			return err_set(e, r, "%s: the reader stopped the stream", img->ops->name);
		}
		off += n;
		len -= n;
	}
	return 0;
}

int image_sink_none(void *ctx, uint64_t off, const void *buf, size_t n)
{
	(void)ctx;
	(void)off;
	(void)buf;
	(void)n;
	return 0;
}

int image_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e)
{
	int r = check_range(img, off, len, e);

	if (r < 0 || len == 0) {
		return r;
	}
	if (!img->ops->stream_at) {
		return stream_by_reads(img, off, len, sink, ctx, e);
	}
	r = img->ops->stream_at(img, off, len, sink, ctx, e);
	assert(r <= 0);
	return r;
}

int image_peek_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = check_range(img, off, len, e);

	if (r < 0 || len == 0) {
		return r;
	}
	if (!img->ops->peek_at) {
		return err_set(e, -EAGAIN, "%s: nothing of it is here", img->ops->name);
	}
	r = img->ops->peek_at(img, buf, len, off, e);
	assert(r <= 0);
	return r;
}

int image_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct extent x = {
		.offset = off,
		.length = img->size - off,
		.allocated = true,
		.host = off,
	};
	int r = check_range(img, off, 1, e);

	if (r < 0) {
		return r;
	}
	if (img->ops->extent_at) {
		r = img->ops->extent_at(img, off, &x, e);
		if (r < 0) {
			return r;
		}
		assert(x.offset <= off && off - x.offset < x.length);
		extent_clip(&x, off, img->size - off);
	}
	*ret = x;
	return 0;
}

int image_table_at(
	struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end, struct err *e)
{
	uint64_t host;
	uint64_t end;
	int r = check_range(img, off, 1, e);

	if (r == 0) {
		r = img->ops->table_at(img, off, &host, &end, e);
	}
	if (r < 0) {
		return r;
	}
	assert(end > off);
	*ret_host = host;
	*ret_end = end < img->size ? end : img->size;
	return 0;
}

int image_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	uint64_t start = 0;
	uint64_t len = img->flags & IMAGE_SEQUENTIAL ? img->size : 0;
	int r = check_range(img, off, 1, e);

	if (r == 0 && img->ops->unit_at) {
		r = img->ops->unit_at(img, off, &start, &len, e);
		assert(r < 0 || len == 0 || (start <= off && off - start < len));
	}
	if (r < 0) {
		return r;
	}
	*ret_off = start;
	*ret_len = len;
	return 0;
}

void image_distrust(struct image *img, uint64_t off, uint64_t len)
{
	if (img->ops->distrust && off < img->size && len > 0) {
		img->ops->distrust(img, off, min_u64(len, img->size - off));
	}
}

static bool layer_owes_proof(const struct image *img)
{
	return img->ops->owes_proof ? img->ops->owes_proof(img) : img->ops->prove != NULL;
}

bool image_owes_proof(const struct image *img)
{
	while (img && !layer_owes_proof(img)) {
		img = img->below;
	}
	return img != NULL;
}

int image_prove(struct image *img, struct err *e)
{
	int r = 0;

	for (; r == 0 && img; img = img->below) {
		r = img->ops->prove ? img->ops->prove(img, e) : 0;
	}
	return r;
}

void image_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	for (; img; img = img->below) {
		if (img->ops->listen) {
			img->ops->listen(img, fn, ctx);
		}
	}
}

/* The layer @depth below @img. */
static struct image *layer_at(struct image *img, unsigned int depth)
{
	while (depth-- > 0) {
		img = img->below;
	}
	return img;
}

/* From the bottom up: what a layer has forgotten, it may be asked for again at once. */
void image_forget(struct image *img)
{
	unsigned int depth = 0;

	for (const struct image *i = img; i; i = i->below) {
		depth++;
	}
	while (depth-- > 0) {
		struct image *layer = layer_at(img, depth);

		if (layer->ops->forget) {
			layer->ops->forget(layer);
		}
	}
}

int image_final_size(struct image *img, uint64_t *ret)
{
	if (!(img->flags & IMAGE_SIZE_PROVISIONAL)) {
		*ret = img->size;
		return 0;
	}
	assert(img->ops->final_size);
	return img->ops->final_size(img, ret);
}

int image_past_end(const struct image *img, uint64_t real, struct err *e)
{
	if (real == UINT64_MAX) {
		return err_set(e, -EIO,
			"the image has more than the %" PRIu64
			" bytes that were assumed when it was opened",
			img->size);
	}
	if (img->size == img->bound) {
		return err_set(e, -EIO, "the image ends at byte %" PRIu64, real);
	}
	return err_set(e, -EIO,
		"the image has %" PRIu64 " bytes, not the %" PRIu64
		" that were assumed when it was opened: mount it again",
		real, img->size);
}

void image_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	if (img->ops->prefetch && off < img->size && len > 0) {
		img->ops->prefetch(img, off, min_u64(len, img->size - off));
	}
}

int image_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	if (!img->ops->allocated) {
		*ret = img->size;
		return 0;
	}
	return img->ops->allocated(img, ret, e);
}

static int refuse_write(const struct image *img, struct err *e)
{
	return err_set(e, -EROFS, "%s: the image is read-only", img->ops->name);
}

int image_write_at(struct image *img, const void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = check_range(img, off, len, e);

	if (r < 0 || len == 0) {
		return r;
	}
	return img->ops->write_at ? img->ops->write_at(img, buf, len, off, e)
				  : refuse_write(img, e);
}

int image_zero_at(struct image *img, uint64_t off, uint64_t len, struct err *e)
{
	int r = check_range(img, off, len, e);

	if (r < 0 || len == 0) {
		return r;
	}
	return img->ops->zero_at ? img->ops->zero_at(img, off, len, e) : refuse_write(img, e);
}

int image_flush(struct image *img, struct err *e)
{
	return img->ops->flush ? img->ops->flush(img, e) : 0;
}

bool image_writable(const struct image *img)
{
	return img->ops->write_at != NULL;
}

/* What a provisional size is worth by now. */
static void report_size(struct image *img, struct report *r)
{
	uint64_t real;

	if (img->flags & IMAGE_SIZE_PROVISIONAL) {
		report_bool(r, "size_provisional", true);
		if (image_final_size(img, &real) == 0) {
			report_u64(r, "final_size", real);
		}
	}
}

int image_lend_file(struct image *img, int *ret_fd)
{
	return img->ops->lend_file ? img->ops->lend_file(img, ret_fd) : -EOPNOTSUPP;
}

void image_return_file(struct image *img, bool closed)
{
	assert(img->ops->return_file);
	img->ops->return_file(img, closed);
}

void image_report(struct image *img, struct report *r)
{
	for (; img; img = img->below) {
		report_layer(r, img->ops->name);
		report_u64(r, "size", img->size);
		report_size(img, r);
		if (img->ops->report) {
			img->ops->report(img, r);
		}
	}
}

void image_interrupt(struct image *img)
{
	for (; img; img = img->below) {
		if (img->ops->interrupt) {
			img->ops->interrupt(img);
		}
	}
}

void image_close(struct image *img)
{
	if (img) {
		img->ops->destroy(img);
	}
}

void image_closep(struct image **img)
{
	image_close(*img);
}
