/* SPDX-License-Identifier: Apache-2.0 */
/* What maintain.c needs of struct cache. */
#ifndef CACHE_FACE_H
#define CACHE_FACE_H

#include "cache/cache.h"
#include "cache/keeper.h"
#include "cache/store.h"

/* NULL in memory mode. */
struct store *face_store(struct cache *c);
struct keeper *face_keeper(struct cache *c);

#endif
