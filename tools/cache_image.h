/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache has of an image of a registry: its layers by their digests, what was decoded of
 * them, and what is remembered of it. */
#ifndef TOOLS_CACHE_IMAGE_H
#define TOOLS_CACHE_IMAGE_H

#include "cache/cache.h"
#include "core/err.h"

/* Drops all of it, also where other images have the same layers. -ENOENT: nothing is known of it;
 * -EBUSY: something of it is in use, the rest went. */
int cache_image_drop(struct cache *c, const char *source, struct err *e);

/* The key for what has the id "ORIGIN DIGEST" or is made of that, "ORIGIN DIGEST+tar:PATH": the
 * digest comes first, by which an image's objects are found. Other ids are keys. malloc()ed, NULL
 * without memory. */
char *cache_image_key_of(const char *id);

/* Drops the object @key of a blob with the id @id and what was decoded of it, as far as nobody uses
 * it; not what others have of the same digest. */
void cache_image_drop_blob(struct cache *c, const char *key, const char *id);

#endif
