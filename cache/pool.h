/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Granule-sized pieces of memory for what is in flight, kept for reuse, and the account of how much
 * of it was promised to fills, so that transfers never hold more memory than they were given.
 * Thread-safe.
 */
#ifndef CACHE_POOL_H
#define CACHE_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool {
	pthread_mutex_t lock; /* protects what follows */
	void *spare;          /* unused blocks, linked through their first word */
	size_t spares;
	size_t used;     /* blocks handed out */
	size_t promised; /* blocks reserved */
	size_t limit;    /* blocks that may be promised for what nobody waits for */
};

/* @limit in bytes. */
void pool_init(struct pool *p, uint64_t limit);
void pool_clear(struct pool *p);

/* CACHE_GRANULE bytes, page-aligned, of any content; NULL: out of memory. */
uint8_t *pool_get(struct pool *p);
/* NULL is nothing. */
void pool_put(struct pool *p, uint8_t *block);

/* Promises @n blocks when that stays within @share percent of the limit; else returns false. */
bool pool_promise(struct pool *p, size_t n, unsigned int share);
/* Promises @n blocks in any case: for bytes that a reader waits for. */
void pool_owe(struct pool *p, size_t n);
void pool_release(struct pool *p, size_t n);

/* Whether less than @share percent of the limit is promised. */
bool pool_has_room(struct pool *p, unsigned int share);

#endif
