/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit for each of very many things, touched by many threads without a lock. Memory is used only
 * where bits were set: an image of terabytes costs nothing until it is read.
 */
#ifndef CACHE_BITS_H
#define CACHE_BITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bits {
	void *base;
	_Atomic uint64_t *words; /* the same */
	size_t length;           /* bytes mapped */
};

/* All clear. -ENOMEM or 0. */
int bits_init(struct bits *b, uint64_t count);
/* Of a zeroed struct: nothing. */
void bits_fini(struct bits *b);

static inline bool bits_test(const struct bits *b, uint64_t i)
{
	return atomic_load_explicit(&b->words[i / 64], memory_order_relaxed) >> (i % 64) & 1;
}

/* Both return what the bit was, and write only when it changes. */
static inline bool bits_set(struct bits *b, uint64_t i)
{
	return bits_test(b, i) ||
	       (atomic_fetch_or(&b->words[i / 64], 1ULL << (i % 64)) >> (i % 64) & 1);
}

static inline bool bits_reset(struct bits *b, uint64_t i)
{
	return bits_test(b, i) &&
	       (atomic_fetch_and(&b->words[i / 64], ~(1ULL << (i % 64))) >> (i % 64) & 1);
}

#endif
