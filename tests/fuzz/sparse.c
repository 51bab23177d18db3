/* SPDX-License-Identifier: Apache-2.0 */
/* An image in memory from a fuzzer's input. */
#include "tests/fuzz/sparse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

struct sparse {
	struct image img;
	uint8_t *data;
};

static int sparse_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(buf, ((struct sparse *)img)->data + off, len);
	return 0;
}

static void sparse_destroy(struct image *img)
{
	free(((struct sparse *)img)->data);
	image_fini(img);
	free(img);
}

static const struct image_ops sparse_ops = {
	.name = "sparse",
	.read_at = sparse_read_at,
	.destroy = sparse_destroy,
};

/* Lays the list over @out, if there is one; returns how long the image is. */
static uint64_t expand(const uint8_t *data, size_t len, uint8_t *out)
{
	uint64_t size = 0;

	while (len >= 6) {
		uint64_t off = load_le32(data) % SPARSE_MAX;
		uint64_t n = min_u64(load_le16(data + 4), min_u64(len - 6, SPARSE_MAX - off));

		if (out) {
			memcpy(out + off, data + 6, n);
		}
		size = max_u64(size, off + n);
		data += 6 + n;
		len -= 6 + n;
	}
	return size;
}

struct image *sparse_image(const uint8_t *data, size_t len)
{
	struct sparse *s = calloc(1, sizeof(*s));
	bool list = len >= 6 && memcmp(data, "SPARSE", 6) == 0;
	uint64_t size = list ? expand(data + 6, len - 6, NULL) : min_u64(len, SPARSE_MAX);

	assert(s);
	/* Exactly as long as the image, so that a read beyond it is seen. */
	s->data = calloc(1, size ? size : 1);
	assert(s->data);
	if (list) {
		expand(data + 6, len - 6, s->data);
	} else if (size > 0) {
		memcpy(s->data, data, size);
	}
	assert(image_init(&s->img, &sparse_ops, NULL, size, "fuzz") == 0);
	return &s->img;
}
