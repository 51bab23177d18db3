/* SPDX-License-Identifier: Apache-2.0 */
/* A layer that changes nothing, so that every stack has a top that is the disk. */
#include "formats/raw.h"

#include <errno.h>
#include <stdlib.h>

static int raw_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	return image_read_at(img->below, buf, len, off, e);
}

static int raw_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	return image_stream_at(img->below, off, len, sink, ctx, e);
}

/* What is a hole below is a hole here. All of a raw disk counts as stored. */
static int raw_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct extent x;
	int r = image_extent_at(img->below, off, &x, e);

	if (r < 0) {
		return r;
	}
	*ret = (struct extent){
		.offset = x.offset,
		.length = x.length,
		.zero = x.zero,
		.allocated = true,
		.host = x.offset,
	};
	return 0;
}

static int raw_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	return image_unit_at(img->below, off, ret_off, ret_len, e);
}

static int raw_final_size(struct image *img, uint64_t *ret)
{
	return image_final_size(img->below, ret);
}

static void raw_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static int raw_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

static int raw_lend_file(struct image *img, int *ret_fd)
{
	return image_lend_file(img->below, ret_fd);
}

static void raw_return_file(struct image *img, bool closed)
{
	image_return_file(img->below, closed);
}

static void raw_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops raw_ops = {
	.name = "raw",
	.read_at = raw_read_at,
	.stream_at = raw_stream_at,
	.extent_at = raw_extent_at,
	.unit_at = raw_unit_at,
	.final_size = raw_final_size,
	.prefetch = raw_prefetch,
	.allocated = raw_allocated,
	.lend_file = raw_lend_file,
	.return_file = raw_return_file,
	.destroy = raw_destroy,
};

int raw_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct image *img = calloc(1, sizeof(*img));

	(void)opts;
	if (!img || image_init(img, &raw_ops, below, below->size, below->id) < 0) {
		free(img);
		return err_set(e, -ENOMEM, "out of memory");
	}
	img->block = below->block;
	img->bound = below->bound;
	img->flags = below->flags;
	*ret = img;
	return 0;
}
