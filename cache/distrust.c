/* SPDX-License-Identifier: Apache-2.0 */
/* What of an image was found to be damaged, and is not there for who opens it next. */
#include "cache/cache_image.h"
#include "core/bytes.h"
#include "core/cleanup.h"

/* Without memory it stays, and is found damaged once more. */
void cache_image_distrust(struct image *img, uint64_t off, uint64_t len)
{
	struct cache_image *ci = (struct cache_image *)img;
	uint64_t end = div_round_up(off + len, CACHE_GRANULE);
	LOCK_SCOPE(&ci->guess_lock);

	if (!ci->damaged.base && bits_init(&ci->damaged, ci->object->granules) < 0) {
		return;
	}
	for (uint64_t g = off / CACHE_GRANULE; g < end; g++) {
		bits_set(&ci->damaged, g);
	}
}

static void drop_damaged(struct cache_image *ci)
{
	struct object *o = ci->object;

	for (uint64_t g = 0; ci->damaged.base && g < o->granules; g++) {
		uint64_t end = g;

		while (end < o->granules && bits_test(&ci->damaged, end)) {
			end++;
		}
		if (end > g) {
			o->ops->forget(o, g, end - g);
			g = end;
		}
	}
	bits_fini(&ci->damaged);
}

void cache_image_close_object(struct cache_image *ci, bool wrong)
{
	drop_damaged(ci);
	ci->object->ops->close(ci->object);
	if (wrong && ci->key) {
		(void)cache_drop(ci->cache, ci->key, NULL);
	}
}
