/* SPDX-License-Identifier: Apache-2.0 */
/* Between readers and what was decoded of a blob before it was known to be wrong. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "core/image.h"
#include "sources/source.h"
#include "sources/watch.h"

struct guard {
	struct image img;
	source_check_fn *check;
	struct image *checked;
};

static int ask(struct image *img, struct err *e)
{
	const struct guard *g = (struct guard *)img;

	return g->check(g->checked, e);
}

static int guard_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = ask(img, e);

	return r < 0 ? r : image_read_at(img->below, buf, len, off, e);
}

static int guard_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	int r = ask(img, e);

	r = r < 0 ? r : image_extent_at(img->below, off, ret, e);
	if (r == 0) {
		ret->host = ret->zero ? EXTENT_NO_HOST : ret->offset;
	}
	return r;
}

static void guard_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static int guard_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	return image_unit_at(img->below, off, ret_off, ret_len, e);
}

static int guard_final_size(struct image *img, uint64_t *ret)
{
	return image_final_size(img->below, ret);
}

static int guard_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

static void guard_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops guard_ops = {
	.name = "guard",
	.read_at = guard_read_at,
	.extent_at = guard_extent_at,
	.prefetch = guard_prefetch,
	.unit_at = guard_unit_at,
	.final_size = guard_final_size,
	.allocated = guard_allocated,
	.destroy = guard_destroy,
};

int source_guard_open(struct image *disk, source_check_fn *check, struct image *checked,
	struct image **ret, struct err *e)
{
	struct guard *g = calloc(1, sizeof(*g));

	if (!g || image_init(&g->img, &guard_ops, disk, disk->size, disk->id) < 0) {
		free(g);
		return err_set(e, -ENOMEM, "out of memory");
	}
	g->check = check ? check : watch_check;
	g->checked = check ? checked : watch_find(disk);
	assert(g->checked);
	g->img.block = disk->block;
	g->img.flags = disk->flags;
	g->img.bound = disk->bound;
	*ret = &g->img;
	return 0;
}
