/* SPDX-License-Identifier: Apache-2.0 */
/* A free list of mapped granules. They are mapped rather than malloc()ed, so that what is given
 * back really leaves the process. */
#include "cache/pool.h"

#include <assert.h>
#include <sys/mman.h>

#include "cache/cache.h"
#include "core/cleanup.h"

/* Unused blocks that stay while nothing is in flight. */
#define POOL_IDLE 128U

void pool_init(struct pool *p, uint64_t limit)
{
	*p = (struct pool){ .limit = limit / CACHE_GRANULE };
	pthread_mutex_init(&p->lock, NULL);
}

static void trim(struct pool *p, size_t keep)
{
	while (p->spares > keep) {
		void *block = p->spare;

		p->spare = *(void **)block;
		p->spares--;
		munmap(block, CACHE_GRANULE);
	}
}

void pool_clear(struct pool *p)
{
	assert(p->used == 0 && p->promised == 0);
	trim(p, 0);
	pthread_mutex_destroy(&p->lock);
}

uint8_t *pool_get(struct pool *p)
{
	LOCK_SCOPE(&p->lock);
	void *block = p->spare;

	if (block) {
		p->spare = *(void **)block;
		p->spares--;
	} else {
		block = mmap(NULL, CACHE_GRANULE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (block == MAP_FAILED) {
			return NULL;
		}
	}
	p->used++;
	return block;
}

void pool_put(struct pool *p, uint8_t *block)
{
	if (!block) {
		return;
	}
	LOCK_SCOPE(&p->lock);
	*(void **)(void *)block = p->spare;
	p->spare = block;
	p->spares++;
	p->used--;
	trim(p, p->used == 0 ? POOL_IDLE : p->limit);
}

bool pool_promise(struct pool *p, size_t n, unsigned int share)
{
	LOCK_SCOPE(&p->lock);

	if (p->promised + n > p->limit * share / 100) {
		return false;
	}
	p->promised += n;
	return true;
}

void pool_owe(struct pool *p, size_t n)
{
	LOCK_SCOPE(&p->lock);

	p->promised += n;
}

void pool_release(struct pool *p, size_t n)
{
	LOCK_SCOPE(&p->lock);

	assert(p->promised >= n);
	p->promised -= n;
}

bool pool_has_room(struct pool *p, unsigned int share)
{
	LOCK_SCOPE(&p->lock);

	return p->promised < p->limit * share / 100;
}
