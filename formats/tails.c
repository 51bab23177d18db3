/* SPDX-License-Identifier: Apache-2.0 */
/* A few buffers; the one nearest to the file's beginning is replaced. */
#include "formats/tails.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"

#define TAILS_MOST  16U
#define TAILS_BYTES MIB(1)
#define SECTOR      512U

struct tail {
	uint64_t host;
	size_t len; /* 0: free */
	uint8_t *bytes;
};

struct tails {
	pthread_mutex_t lock; /* protects all below */
	uint64_t age;
	size_t count;
	size_t room; /* bytes of each */
	struct tail list[TAILS_MOST];
};

int tails_new(size_t cluster, struct tails **ret)
{
	struct tails *t = calloc(1, sizeof(*t));

	if (!t) {
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->room = cluster + SECTOR;
	t->count = max_u64(1, min_u64(TAILS_MOST, TAILS_BYTES / cluster));
	for (size_t i = 0; i < t->count; i++) {
		t->list[i].bytes = malloc(t->room);
		if (!t->list[i].bytes) {
			tails_free(t);
			return -ENOMEM;
		}
	}
	*ret = t;
	return 0;
}

uint64_t tails_age(struct tails *t)
{
	LOCK_SCOPE(&t->lock);

	return t->age;
}

/* The one that ends where @end is, or the first in the file; free ones count as such. */
static struct tail *find_place(struct tails *t, uint64_t end)
{
	struct tail *first = &t->list[0];

	for (size_t i = 0; i < t->count; i++) {
		struct tail *tail = &t->list[i];

		if (tail->len > 0 && tail->host + tail->len == end) {
			return tail;
		}
		if (first->len > 0 && (tail->len == 0 || tail->host < first->host)) {
			first = tail;
		}
	}
	return first;
}

void tails_keep(struct tails *t, uint64_t age, uint64_t host, const uint8_t *bytes, size_t len)
{
	struct tail *tail;
	LOCK_SCOPE(&t->lock);

	assert(len <= t->room);
	if (age != t->age) {
		return;
	}
	tail = find_place(t, host + len);
	/* Of the same cluster, that which has more. */
	if (tail->len > 0 &&
		(tail->host + tail->len == host + len ? tail->len >= len : tail->host > host)) {
		return;
	}
	memcpy(tail->bytes, bytes, len);
	tail->host = host;
	tail->len = len;
}

bool tails_get(struct tails *t, uint64_t host, size_t len, uint8_t *buf)
{
	LOCK_SCOPE(&t->lock);

	for (size_t i = 0; i < t->count; i++) {
		const struct tail *tail = &t->list[i];

		if (host >= tail->host && range_within(host - tail->host, len, tail->len)) {
			if (buf) {
				memcpy(buf, tail->bytes + (host - tail->host), len);
			}
			return true;
		}
	}
	return false;
}

void tails_forget(struct tails *t)
{
	LOCK_SCOPE(&t->lock);

	t->age++;
	for (size_t i = 0; i < t->count; i++) {
		t->list[i].len = 0;
	}
}

void tails_free(struct tails *t)
{
	if (t) {
		for (size_t i = 0; i < t->count; i++) {
			free(t->list[i].bytes);
		}
		pthread_mutex_destroy(&t->lock);
		free(t);
	}
}
