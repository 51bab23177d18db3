/* SPDX-License-Identifier: Apache-2.0 */
/* An empty image under the object, a blob in it. */
#include "tools/image_records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"

#define RECORD_ID "record"
#define BLOB_NAME "record"
#define PREFIX    "record "

static void empty_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static int empty_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)img;
	(void)buf;
	(void)len;
	(void)off;
	return err_set(e, -EIO, "a record has no bytes");
}

static const struct image_ops empty_ops = {
	.name = "record",
	.read_at = empty_read_at,
	.destroy = empty_destroy,
};

/* The object of @key; NULL when it cannot be had. */
static struct image *open_object(struct cache *cache, const char *key)
{
	CLEANUP_FREE struct image *empty = calloc(1, sizeof(*empty));
	struct image *ret = NULL;

	if (!empty || image_init(empty, &empty_ops, NULL, 0, RECORD_ID) < 0) {
		return NULL;
	}
	if (cache_image_open(cache, key, empty, &ret, NULL) < 0) {
		image_fini(empty);
		return NULL;
	}
	TAKE_PTR(empty);
	return ret;
}

char *image_records_key(const char *key)
{
	char *name = NULL;

	return asprintf(&name, PREFIX "%s", key) < 0 ? NULL : name;
}

bool image_records_is_one(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

static bool is_kept(struct cache *cache, const char *key)
{
	struct cache_known known = { NULL, 0 };
	bool kept = cache_peek(cache, key, &known, NULL) == 0;

	free(known.id);
	return kept;
}

static int get(void *ctx, const char *key, void **ret, size_t *ret_len)
{
	CLEANUP(image_closep) struct image *object = NULL;
	CLEANUP_FREE char *name = image_records_key(key);

	if (!name) {
		return -ENOMEM;
	}
	object = is_kept(ctx, name) ? open_object(ctx, name) : NULL;
	return object ? blobs_get(cache_image_blobs(object), BLOB_NAME, ret, ret_len, NULL)
		      : -ENOENT;
}

static void put(void *ctx, const char *key, const void *data, size_t len)
{
	CLEANUP(image_closep) struct image *object = NULL;
	CLEANUP_FREE char *name = image_records_key(key);

	if (!name) {
		return;
	}
	object = open_object(ctx, name);
	if (object) {
		(void)blobs_put(cache_image_blobs(object), BLOB_NAME, data, len, NULL);
	}
}

struct source_records image_records(struct cache *cache)
{
	return (struct source_records){ get, put, cache };
}
