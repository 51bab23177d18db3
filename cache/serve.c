/* SPDX-License-Identifier: Apache-2.0 */
/* Images that are mounted: from the face of the folder to the thread beside the readers. */
#include <errno.h>
#include <string.h>

#include "cache/cache_image.h"
#include "core/bytes.h"

/* Whether all of the image, of which part is here, can be kept. */
static bool can_keep_all(const struct cache_image *ci, bool alone)
{
	struct cache *c = ci->cache;
	char hash[STORE_HASH + 1];
	uint64_t absent = min_u64(atomic_load(&ci->object->absent), ci->object->granules);

	if (!c->keeper || !ci->key || strcmp(ci->object->mode, "disk") != 0) {
		return false;
	}
	store_hash(ci->key, hash);
	return (c->opts.max_size == 0 || ci->object->size <= c->opts.max_size) &&
	       keeper_has_room(c->keeper, hash, absent * CACHE_GRANULE, alone);
}

int cache_image_serve(struct image *img, const struct cache_serve_opts *opts, struct err *e)
{
	struct cache_image *ci = (struct cache_image *)img;
	bool in_memory = strcmp(ci->object->mode, "memory") == 0;
	const struct warm_place place = {
		.flight = &ci->flight,
		.spool = ci->spool,
		.memory = in_memory ? memory_limit(ci->cache->memory) : 0,
		.may_complete = can_keep_all(ci, true),
		.may_complete_unasked = can_keep_all(ci, false),
	};
	struct warm *warm;
	int r = warm_start(img, &place, opts, &warm, e);

	if (r == 0) {
		ci->warm = warm;
	}
	return r;
}

int cache_image_check(struct image *img, struct err *e)
{
	const struct cache_image *ci = (struct cache_image *)img;

	return ci->warm && warm_refuses(ci->warm)
		       ? err_set(e, -EBADMSG, "the checksum of the image does not match")
		       : 0;
}

bool cache_image_is_warm(struct image *img)
{
	struct cache_image *ci = (struct cache_image *)img;

	return atomic_load(&ci->warm->has_trace) || atomic_load(&ci->object->absent) == 0;
}

int cache_image_trace(struct image *img, const void *data, size_t len, struct err *e)
{
	return warm_trace(((struct cache_image *)img)->warm, data, len, e);
}
