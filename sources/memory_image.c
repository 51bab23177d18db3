/* SPDX-License-Identifier: Apache-2.0 */
/* The simplest of images. */
#include "sources/memory_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct memory_image {
	struct image img;
	uint8_t *data;
};

static int memory_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	const struct memory_image *m = (struct memory_image *)img;

	(void)e;
	memcpy(buf, m->data + off, len);
	return 0;
}

static void memory_destroy(struct image *img)
{
	struct memory_image *m = (struct memory_image *)img;

	image_fini(img);
	free(m->data);
	free(m);
}

static const struct image_ops memory_ops = {
	.name = "memory",
	.read_at = memory_read_at,
	.destroy = memory_destroy,
};

int memory_image_open(void *data, size_t len, const char *id, struct image **ret, struct err *e)
{
	struct memory_image *m = calloc(1, sizeof(*m));

	if (!m || image_init(&m->img, &memory_ops, NULL, len, id) < 0) {
		free(m);
		return err_set(e, -ENOMEM, "out of memory");
	}
	m->img.flags = IMAGE_LOCAL;
	m->data = data;
	*ret = &m->img;
	return 0;
}
