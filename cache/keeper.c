/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that looks after a cache directory, and the bypass when its disk does not take more.
 */
#include "cache/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"

#define FLUSH_EVERY_S  30
#define FLUSH_BYTES    MIB(256)
#define BYPASS_FIRST_S 30U
#define BYPASS_MOST_S  600U

struct keeper {
	struct store *store;
	uint64_t max_size;
	uint64_t min_free;
	pthread_t thread;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;
	struct kept *objects;
	uint64_t dirty; /* bytes stored since writeback was last started */
	time_t bypass_until;
	unsigned int bypass_s; /* length of the last bypass */
	bool ending;
	_Atomic bool bypassing;
};

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void flush(struct keeper *k)
{
	k->dirty = 0;
	for (struct kept *o = k->objects; o; o = o->next) {
		(void)sync_file_range(o->data, 0, 0, SYNC_FILE_RANGE_WRITE);
	}
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	LOCK_SCOPE(&k->lock);

	pthread_setname_np(pthread_self(), "cache-keeper");
	while (!k->ending) {
		struct timespec until = { .tv_sec = now_s() + FLUSH_EVERY_S };

		(void)pthread_cond_timedwait(&k->wake, &k->lock, &until);
		if (k->dirty > 0) {
			flush(k);
		}
	}
	return NULL;
}

int keeper_new(
	struct store *s, uint64_t max_size, uint64_t min_free, struct keeper **ret, struct err *e)
{
	struct keeper *k = calloc(1, sizeof(*k));
	pthread_condattr_t attr;
	int r;

	if (!k) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	k->store = s;
	k->max_size = max_size;
	k->min_free = min_free;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = pthread_create(&k->thread, NULL, keeper_main, k);
	if (r != 0) {
		pthread_cond_destroy(&k->wake);
		pthread_mutex_destroy(&k->lock);
		free(k);
		return err_sys(e, r, "cannot start a thread");
	}
	*ret = k;
	return 0;
}

void keeper_free(struct keeper *k)
{
	if (!k) {
		return;
	}
	pthread_mutex_lock(&k->lock);
	k->ending = true;
	pthread_cond_broadcast(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void keeper_add(struct keeper *k, struct kept *o)
{
	LOCK_SCOPE(&k->lock);

	o->next = k->objects;
	k->objects = o;
}

void keeper_remove(struct keeper *k, struct kept *o)
{
	LOCK_SCOPE(&k->lock);
	struct kept **link = &k->objects;

	while (*link != o) {
		link = &(*link)->next;
	}
	*link = o->next;
}

bool keeper_admits(struct keeper *k)
{
	if (!atomic_load(&k->bypassing)) {
		return true;
	}
	LOCK_SCOPE(&k->lock);
	if (now_s() >= k->bypass_until) {
		atomic_store(&k->bypassing, false);
		return true;
	}
	return false;
}

void keeper_wrote(struct keeper *k, uint64_t bytes)
{
	LOCK_SCOPE(&k->lock);

	k->bypass_s = 0;
	k->dirty += bytes;
	if (k->dirty >= FLUSH_BYTES) {
		pthread_cond_signal(&k->wake);
	}
}

void keeper_failed(struct keeper *k, int code)
{
	LOCK_SCOPE(&k->lock);

	if (atomic_load(&k->bypassing)) {
		return;
	}
	k->bypass_s = k->bypass_s ? (unsigned int)min_u64(2 * k->bypass_s, BYPASS_MOST_S)
				  : BYPASS_FIRST_S;
	k->bypass_until = now_s() + k->bypass_s;
	atomic_store(&k->bypassing, true);
	log_warn("the cache directory %s does not take more (%s): reading without it for %u s",
		k->store->path, strerror(-code), k->bypass_s);
}
