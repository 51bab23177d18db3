/* SPDX-License-Identifier: Apache-2.0 */
/* A hash of items and a list by age of those that nobody has pinned. */
#include "formats/memo.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "core/cleanup.h"

struct memo {
	pthread_mutex_t lock; /* protects everything below and in the items */
	size_t block_size;
	size_t most;  /* items to keep */
	size_t count; /* items there are */
	size_t mask;  /* buckets - 1 */
	uint64_t age; /* calls of memo_forget() */
	struct memo_item **buckets;
	struct memo_item idle; /* head of the ring by age: next is the youngest, prev the oldest */
};

int memo_new(size_t block_size, size_t max_bytes, struct memo **ret)
{
	struct memo *m = calloc(1, sizeof(*m));
	size_t buckets = 16;

	if (!m) {
		return -ENOMEM;
	}
	m->block_size = block_size;
	m->most = max_bytes / block_size < 2 ? 2 : max_bytes / block_size;
	while (buckets < 2 * m->most && buckets < (1U << 16)) {
		buckets *= 2;
	}
	m->mask = buckets - 1;
	m->buckets = calloc(buckets, sizeof(struct memo_item *));
	if (!m->buckets) {
		free(m);
		return -ENOMEM;
	}
	m->idle.next = &m->idle;
	m->idle.prev = &m->idle;
	pthread_mutex_init(&m->lock, NULL);
	*ret = m;
	return 0;
}

static struct memo_item **bucket_of(struct memo *m, uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15ULL;

	return &m->buckets[(hash >> 40) & m->mask];
}

static void item_free(struct memo_item *item)
{
	pthread_cond_destroy(&item->settled);
	free(item->data);
	free(item);
}

/* Out of the hash: later comers do not find it. */
static void forget(struct memo *m, struct memo_item *item)
{
	struct memo_item **link = bucket_of(m, item->key);

	if (item->stray) {
		return;
	}
	while (*link != item) {
		link = &(*link)->chain;
	}
	*link = item->chain;
}

static void idle_remove(struct memo_item *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
}

static void idle_add(struct memo *m, struct memo_item *item)
{
	item->next = m->idle.next;
	item->prev = &m->idle;
	item->next->prev = item;
	m->idle.next = item;
}

static struct memo_item *lookup(struct memo *m, uint64_t key)
{
	struct memo_item *item = *bucket_of(m, key);

	while (item && item->key != key) {
		item = item->chain;
	}
	return item;
}

static void pin(struct memo_item *item)
{
	if (item->pins++ == 0) {
		idle_remove(item);
	}
}

static void unpin(struct memo *m, struct memo_item *item)
{
	assert(item->pins > 0);
	if (--item->pins > 0) {
		return;
	}
	if (item->state == MEMO_ITEM_FAILED || item->stray) {
		m->count--;
		item_free(item);
	} else if (m->count > m->most) {
		m->count--;
		forget(m, item);
		item_free(item);
	} else {
		idle_add(m, item);
	}
}

static struct memo_item *item_new(struct memo *m)
{
	struct memo_item *item = calloc(1, sizeof(*item));

	if (!item) {
		return NULL;
	}
	item->data = malloc(m->block_size);
	if (!item->data) {
		free(item);
		return NULL;
	}
	pthread_cond_init(&item->settled, NULL);
	m->count++;
	return item;
}

/* An item to be filled anew: the oldest idle one when there are enough of them. */
static struct memo_item *item_take(struct memo *m)
{
	struct memo_item *oldest = m->idle.prev;
	struct memo_item *item = NULL;

	if (m->count < m->most || oldest == &m->idle) {
		item = item_new(m);
	}
	if (!item && oldest != &m->idle) {
		idle_remove(oldest);
		forget(m, oldest);
		item = oldest;
	}
	return item;
}

struct memo_item *memo_find(struct memo *m, uint64_t key)
{
	struct memo_item *item;
	LOCK_SCOPE(&m->lock);

	item = lookup(m, key);
	if (!item || item->state != MEMO_ITEM_READY) {
		return NULL;
	}
	pin(item);
	return item;
}

bool memo_has(struct memo *m, uint64_t key)
{
	LOCK_SCOPE(&m->lock);

	return lookup(m, key) != NULL;
}

static void hash(struct memo *m, struct memo_item *item)
{
	struct memo_item **bucket = bucket_of(m, item->key);

	item->chain = *bucket;
	*bucket = item;
}

/* With the lock held. @shared: with those who want the same. */
static enum memo_claim claim(struct memo *m, uint64_t key, bool shared, struct memo_item **ret)
{
	struct memo_item *item = shared ? lookup(m, key) : NULL;

	if (item) {
		pin(item);
		*ret = item;
		return item->state == MEMO_ITEM_READY ? MEMO_READY : MEMO_THEIRS;
	}
	item = item_take(m);
	if (!item) {
		return MEMO_NOMEM;
	}
	item->key = key;
	item->len = 0;
	item->pins = 1;
	item->state = MEMO_ITEM_MAKING;
	item->stray = !shared;
	if (shared) {
		hash(m, item);
	}
	*ret = item;
	return MEMO_MINE;
}

enum memo_claim memo_claim(struct memo *m, uint64_t key, struct memo_item **ret)
{
	LOCK_SCOPE(&m->lock);

	return claim(m, key, true, ret);
}

enum memo_claim memo_claim_of_age(
	struct memo *m, uint64_t key, uint64_t age, struct memo_item **ret)
{
	LOCK_SCOPE(&m->lock);

	return claim(m, key, age == m->age, ret);
}

uint64_t memo_age(struct memo *m)
{
	LOCK_SCOPE(&m->lock);

	return m->age;
}

static void drop_idle(struct memo *m)
{
	while (m->idle.next != &m->idle) {
		struct memo_item *item = m->idle.next;

		idle_remove(item);
		forget(m, item);
		m->count--;
		item_free(item);
	}
}

void memo_forget(struct memo *m)
{
	LOCK_SCOPE(&m->lock);

	m->age++;
	drop_idle(m);
	/* What is left is pinned. */
	for (size_t i = 0; i <= m->mask; i++) {
		while (m->buckets[i]) {
			struct memo_item *item = m->buckets[i];

			m->buckets[i] = item->chain;
			item->stray = true;
		}
	}
}

void memo_publish(struct memo *m, struct memo_item *item, size_t len)
{
	LOCK_SCOPE(&m->lock);

	assert(item->state == MEMO_ITEM_MAKING && len <= m->block_size);
	item->len = len;
	item->state = MEMO_ITEM_READY;
	pthread_cond_broadcast(&item->settled);
}

void memo_fail(struct memo *m, struct memo_item *item, const struct err *err)
{
	LOCK_SCOPE(&m->lock);

	assert(item->state == MEMO_ITEM_MAKING && err->code < 0);
	item->err = *err;
	item->state = MEMO_ITEM_FAILED;
	forget(m, item);
	pthread_cond_broadcast(&item->settled);
	unpin(m, item);
}

int memo_wait(struct memo *m, struct memo_item *item, struct err *e)
{
	int code = 0;
	LOCK_SCOPE(&m->lock);

	while (item->state == MEMO_ITEM_MAKING) {
		pthread_cond_wait(&item->settled, &m->lock);
	}
	if (item->state == MEMO_ITEM_FAILED) {
		code = item->err.code;
		if (e) {
			*e = item->err;
		}
		unpin(m, item);
	}
	return code;
}

void memo_put(struct memo *m, struct memo_item *item)
{
	LOCK_SCOPE(&m->lock);

	assert(item->state == MEMO_ITEM_READY);
	unpin(m, item);
}

void memo_free(struct memo *m)
{
	if (!m) {
		return;
	}
	drop_idle(m);
	assert(m->count == 0);
	pthread_mutex_destroy(&m->lock);
	free(m->buckets);
	free(m);
}
