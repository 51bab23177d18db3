/* SPDX-License-Identifier: Apache-2.0 */
/* A stack of idle buffers: the one used last, whose pages are still in the CPU's cache, goes out
 * first, and a buffer costs only the pages that were ever touched. */
#include "fusefs/buffers.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/bytes.h"
#include "core/cleanup.h"

struct buffers {
	pthread_mutex_t lock;
	pthread_cond_t less; /* `used` became smaller */
	size_t used;
	uint8_t *idle[BUFFERS_IDLE];
	size_t idle_count;
};

struct buffers *buffers_new(void)
{
	struct buffers *b = calloc(1, sizeof(*b));

	if (b) {
		pthread_mutex_init(&b->lock, NULL);
		pthread_cond_init(&b->less, NULL);
	}
	return b;
}

void buffers_free(struct buffers *b)
{
	if (!b) {
		return;
	}
	assert(b->used == 0);
	for (size_t i = 0; i < b->idle_count; i++) {
		munmap(b->idle[i], BUFFERS_SIZE);
	}
	pthread_cond_destroy(&b->less);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Counts @size bytes as used if they are many, and takes an idle buffer if one fits. */
static uint8_t *reserve(struct buffers *b, size_t size)
{
	LOCK_SCOPE(&b->lock);

	if (size > BUFFERS_SMALL) {
		while (b->used > 0 && b->used + size > BUFFERS_BUDGET) {
			pthread_cond_wait(&b->less, &b->lock);
		}
		b->used += size;
	}
	return size <= BUFFERS_SIZE && b->idle_count > 0 ? b->idle[--b->idle_count] : NULL;
}

/* The reverse; true when the pool keeps @mem. */
static bool release(struct buffers *b, uint8_t *mem, size_t size, size_t room)
{
	LOCK_SCOPE(&b->lock);

	if (size > BUFFERS_SMALL) {
		b->used -= size;
		pthread_cond_broadcast(&b->less);
	}
	if (!mem || room != BUFFERS_SIZE || b->idle_count == BUFFERS_IDLE) {
		return false;
	}
	b->idle[b->idle_count++] = mem;
	return true;
}

bool buffers_get(struct buffers *b, size_t size, struct buffer *ret)
{
	size_t room = max_u64(round_up(size, 4096), BUFFERS_SIZE);
	uint8_t *mem = reserve(b, size);

	if (!mem) {
		mem = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem == MAP_FAILED) {
			release(b, NULL, size, 0);
			return false;
		}
	}
	*ret = (struct buffer){ mem, size, room };
	return true;
}

void buffers_put(struct buffers *b, struct buffer *buf)
{
	if (!release(b, buf->mem, buf->size, buf->room)) {
		munmap(buf->mem, buf->room);
	}
}
