/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded memory of blocks that were costly to get (table pages, decompressed clusters), found
 * by number, least recently used out first. A block that several threads want at once is made
 * once: memo_claim() tells one of them to make it and the others to wait.
 *
 *      switch (memo_claim(m, key, &item)) {
 *      case MEMO_READY:  use item->data; memo_put(m, item);
 *      case MEMO_MINE:   fill item->data; memo_publish(m, item, len) and use it, memo_put(m, item);
 *                        or memo_fail(m, item, &err)
 *      case MEMO_THEIRS: memo_wait(m, item, e), which gives what READY gives, or their error
 *      case MEMO_NOMEM:  do without
 *      }
 *
 * A thread that holds a claim of its own settles it before it waits for another's: so nobody waits
 * in a circle. All functions are thread-safe; the lock is held for a few pointers only.
 */
#ifndef FORMATS_MEMO_H
#define FORMATS_MEMO_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct memo;

/* Between claim and put (or fail) it is pinned. `data` and `len` are constant once it is ready. */
struct memo_item {
	uint64_t key;
	uint8_t *data; /* block_size bytes */
	size_t len;    /* those that count */

	/* memo.c's */
	unsigned int pins;
	bool stray; /* not in the hash, and freed when it is unpinned */
	enum {
		MEMO_ITEM_MAKING,
		MEMO_ITEM_READY,
		MEMO_ITEM_FAILED
	} state;
	struct err err; /* FAILED */
	pthread_cond_t settled;
	struct memo_item *chain;       /* of the hash bucket */
	struct memo_item *next, *prev; /* by age, while unpinned */
};

enum memo_claim {
	MEMO_READY,
	MEMO_MINE,
	MEMO_THEIRS,
	MEMO_NOMEM,
};

/* At most @max_bytes in blocks of @block_size, at least two blocks; what is pinned beyond that is
 * freed once it is unpinned. Memory is taken as it is used. -ENOMEM or 0. */
int memo_new(size_t block_size, size_t max_bytes, struct memo **ret);

/* Nothing is pinned any more. NULL is nothing. */
void memo_free(struct memo *m);

/* The ready block @key, pinned; NULL when there is none. */
struct memo_item *memo_find(struct memo *m, uint64_t key);

/* Whether the block @key is ready or being made; does not count as a use. */
bool memo_has(struct memo *m, uint64_t key);

enum memo_claim memo_claim(struct memo *m, uint64_t key, struct memo_item **ret);

/* What is kept may be of bytes that turned out to be wrong: later comers find nothing of it. Who
 * has a block pinned keeps it, and what is being made is for those who wait for it already. */
void memo_forget(struct memo *m);

/* How often that was called. Who makes blocks of what was read earlier than they are claimed asks
 * before reading it, and claims with the answer: what is outdated by then is MEMO_MINE and shared
 * with nobody. */
uint64_t memo_age(struct memo *m);
enum memo_claim memo_claim_of_age(
	struct memo *m, uint64_t key, uint64_t age, struct memo_item **ret);

void memo_publish(struct memo *m, struct memo_item *item, size_t len);

/* Unpins; who waits gets @err; who comes later tries anew. */
void memo_fail(struct memo *m, struct memo_item *item, const struct err *err);

/* 0: the item is ready and pinned by the caller. Negative: it is not. */
int memo_wait(struct memo *m, struct memo_item *item, struct err *e);

void memo_put(struct memo *m, struct memo_item *item);

#endif
