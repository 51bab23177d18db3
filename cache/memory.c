/* SPDX-License-Identifier: Apache-2.0 */
/* A hash of granules with an LRU list. A granule that is being copied from is pinned, so that the
 * copy happens outside the lock. All-zero granules hold no memory but their record. */
#include "cache/memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/blobdir.h"
#include "core/cleanup.h"

/* What the record of a granule costs, about; all-zero ones are charged this. */
#define RECORD_COST 128U

struct granule {
	struct granule *chain; /* in its bucket */
	struct granule *newer;
	struct granule *older;
	struct memory_object *owner;
	uint64_t index;
	uint8_t *block; /* NULL: all zeros */
	unsigned int pins;
	bool dropped; /* out of the tables; the last pin frees it */
};

struct memory {
	pthread_mutex_t lock; /* protects all below, and the granules */
	struct pool *pool;
	uint64_t limit;
	uint64_t used;
	struct granule **buckets;
	size_t mask;
	struct granule *newest;
	struct granule *oldest;
};

struct memory_object {
	struct object object;
	struct memory *m;
	bool once;
	uint64_t count; /* granules present; under the lock */
	uint64_t bytes;
};

int memory_new(uint64_t limit, struct pool *p, struct memory **ret)
{
	struct memory *m = calloc(1, sizeof(*m));
	size_t buckets = 1024;

	if (!m) {
		return -ENOMEM;
	}
	while (buckets < limit / CACHE_GRANULE && buckets < (1U << 20)) {
		buckets *= 2;
	}
	m->buckets = calloc(buckets, sizeof(struct granule *));
	if (!m->buckets) {
		free(m);
		return -ENOMEM;
	}
	m->mask = buckets - 1;
	m->limit = limit;
	m->pool = p;
	pthread_mutex_init(&m->lock, NULL);
	*ret = m;
	return 0;
}

void memory_free(struct memory *m)
{
	if (m) {
		assert(m->used == 0);
		pthread_mutex_destroy(&m->lock);
		free(m->buckets);
		free(m);
	}
}

uint64_t memory_limit(const struct memory *m)
{
	return m->limit;
}

static struct granule **bucket(struct memory *m, const struct memory_object *mo, uint64_t index)
{
	uint64_t h = ((uint64_t)(uintptr_t)mo >> 4) + index * 0x9e3779b97f4a7c15ULL;

	h ^= h >> 32;
	return &m->buckets[h & m->mask];
}

static struct granule *find(struct memory *m, const struct memory_object *mo, uint64_t index)
{
	struct granule *g = *bucket(m, mo, index);

	while (g && (g->owner != mo || g->index != index)) {
		g = g->chain;
	}
	return g;
}

static uint64_t cost(const struct granule *g)
{
	return g->block ? CACHE_GRANULE : RECORD_COST;
}

static void unlink_lru(struct memory *m, struct granule *g)
{
	*(g->newer ? &g->newer->older : &m->newest) = g->older;
	*(g->older ? &g->older->newer : &m->oldest) = g->newer;
}

static void link_newest(struct memory *m, struct granule *g)
{
	g->newer = NULL;
	g->older = m->newest;
	*(m->newest ? &m->newest->newer : &m->oldest) = g;
	m->newest = g;
}

static void release(struct memory *m, struct granule *g)
{
	m->used -= cost(g);
	pool_put(m->pool, g->block);
	free(g);
}

static void drop(struct memory *m, struct granule *g)
{
	struct granule **link = bucket(m, g->owner, g->index);

	while (*link != g) {
		link = &(*link)->chain;
	}
	*link = g->chain;
	unlink_lru(m, g);
	g->owner->count--;
	g->owner->bytes -= object_granule_len(&g->owner->object, g->index);
	atomic_fetch_add(&g->owner->object.absent, 1);
	if (g->pins > 0) {
		g->dropped = true;
	} else {
		release(m, g);
	}
}

static void unpin(struct memory *m, struct granule *g)
{
	LOCK_SCOPE(&m->lock);

	g->pins--;
	if (g->dropped && g->pins == 0) {
		release(m, g);
	}
}

static struct granule *pin(struct memory *m, const struct memory_object *mo, uint64_t index)
{
	LOCK_SCOPE(&m->lock);
	struct granule *g = find(m, mo, index);

	if (g) {
		g->pins++;
	}
	if (g && !mo->once) {
		unlink_lru(m, g);
		link_newest(m, g);
	}
	return g;
}

static size_t memory_read(struct object *o, uint8_t *buf, size_t len, uint64_t off)
{
	struct memory_object *mo = (struct memory_object *)o;
	size_t done = 0;

	while (done < len) {
		uint64_t pos = off + done;
		size_t within = pos % CACHE_GRANULE;
		size_t n = min_u64(len - done, CACHE_GRANULE - within);
		struct granule *g = pin(mo->m, mo, pos / CACHE_GRANULE);

		if (!g) {
			break;
		}
		if (g->block) {
			memcpy(buf + done, g->block + within, n);
		} else {
			memset(buf + done, 0, n);
		}
		unpin(mo->m, g);
		done += n;
	}
	return done;
}

static bool memory_present(struct object *o, uint64_t granule)
{
	struct memory_object *mo = (struct memory_object *)o;
	LOCK_SCOPE(&mo->m->lock);

	return find(mo->m, mo, granule) != NULL;
}

/* A record with a copy of @data. */
static struct granule *make(struct memory_object *mo, uint64_t index, const uint8_t *data)
{
	size_t len = object_granule_len(&mo->object, index);
	struct granule *g = calloc(1, sizeof(*g));

	if (!g) {
		return NULL;
	}
	g->owner = mo;
	g->index = index;
	if (!is_zero(data, len)) {
		g->block = pool_get(mo->m->pool);
		if (!g->block) {
			free(g);
			return NULL;
		}
		memcpy(g->block, data, len);
	}
	return g;
}

static void insert(struct memory *m, struct granule *g)
{
	LOCK_SCOPE(&m->lock);
	struct granule **link = bucket(m, g->owner, g->index);

	m->used += cost(g);
	if (find(m, g->owner, g->index)) {
		release(m, g);
		return;
	}
	g->chain = *link;
	*link = g;
	link_newest(m, g);
	g->owner->count++;
	g->owner->bytes += object_granule_len(&g->owner->object, g->index);
	atomic_fetch_sub(&g->owner->object.absent, 1);
	while (m->used > m->limit && m->oldest != g) {
		drop(m, m->oldest);
	}
}

static void memory_put(struct object *o, uint64_t first, uint8_t *const *blocks, size_t count)
{
	struct memory_object *mo = (struct memory_object *)o;

	for (size_t i = 0; i < count; i++) {
		struct granule *g = make(mo, first + i, blocks[i]);

		if (!g) {
			atomic_fetch_add(&o->bypassed, count - i);
			return;
		}
		insert(mo->m, g);
	}
}

static void memory_forget(struct object *o, uint64_t first, uint64_t count)
{
	struct memory_object *mo = (struct memory_object *)o;
	LOCK_SCOPE(&mo->m->lock);

	for (uint64_t i = first; i < first + count && mo->count > 0; i++) {
		struct granule *g = find(mo->m, mo, i);

		if (g) {
			drop(mo->m, g);
		}
	}
}

static uint64_t memory_present_bytes(struct object *o)
{
	struct memory_object *mo = (struct memory_object *)o;
	LOCK_SCOPE(&mo->m->lock);

	return mo->bytes;
}

static void drop_all(struct memory_object *mo)
{
	struct memory *m = mo->m;
	LOCK_SCOPE(&m->lock);
	struct granule *g = m->oldest;

	while (g && mo->count > 0) {
		struct granule *newer = g->newer;

		if (g->owner == mo) {
			drop(m, g);
		}
		g = newer;
	}
}

static void memory_close(struct object *o)
{
	struct memory_object *mo = (struct memory_object *)o;

	drop_all(mo);
	blobdir_free(o->blobs);
	free(mo);
}

static const struct object_ops memory_ops = {
	.read = memory_read,
	.present = memory_present,
	.put = memory_put,
	.forget = memory_forget,
	.present_bytes = memory_present_bytes,
	.close = memory_close,
};

int memory_open(struct memory *m, uint64_t size, bool once, struct object **ret)
{
	struct memory_object *mo = calloc(1, sizeof(*mo));

	if (!mo) {
		return -ENOMEM;
	}
	mo->m = m;
	mo->once = once;
	mo->object.ops = &memory_ops;
	mo->object.size = size;
	mo->object.granules = object_granules(size);
	mo->object.mode = "memory";
	mo->object.absent = mo->object.granules;
	if (blobdir_new(-1, &mo->object.blobs) < 0) {
		free(mo);
		return -ENOMEM;
	}
	*ret = &mo->object;
	return 0;
}
