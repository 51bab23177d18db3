/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that looks after a cache directory, and the bypass when its disk does not take more.
 */
#include "cache/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"

#define LOOK_EVERY_S   30
#define FLUSH_BYTES    MIB(256)
#define LOOK_BYTES     MIB(64)
#define FLUSH_FILES    32U
#define BYPASS_FIRST_S 30U
#define BYPASS_MOST_S  600U
/* Percent of the limit at which eviction starts, and to which it evicts. */
#define MARK_HIGH 95U
#define MARK_LOW  80U
/* What a full disk makes us free at least, and when that was too little to try again soon. */
#define PRESS_LEAST   MIB(32)
#define PRESS_USEFUL  MIB(1)
#define PRESS_AGAIN_S 60
/* How soon a look comes after one that left too much, ms: twice as long each time, while nothing
 * changes. */
#define LOOK_AGAIN_MS 20U
/* How long storing waits for the eviction under way, ms. */
#define ADMIT_WAIT_MS 200

struct keeper {
	struct store *store;
	uint64_t max_size; /* 0: no limit */
	uint64_t min_free;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t wake;  /* the thread has something to do */
	pthread_cond_t room;  /* `full` or `evicting` changed */
	struct kept *objects;
	uint64_t used; /* bytes in the directory, about: counted at a look, plus what was stored */
	bool looked;   /* once: before that `used` lacks what was there */
	uint64_t unseen;       /* bytes stored since the last look */
	uint64_t dirty;        /* bytes stored since writeback was last started */
	bool flushing;         /* writeback was started, and how it went is not known yet */
	time_t pressed_s;      /* when the disk last was full */
	uint64_t press_freed;  /* what came of it */
	unsigned int again_ms; /* until the next look, when the last one left too much; else 0 */
	bool pressed;          /* the disk is full: evict whatever the limits say */
	bool evicting;
	bool warned;
	bool ending;
	time_t bypass_until_s;
	unsigned int bypass_s; /* length of the last bypass; 0: storing worked since */
	_Atomic bool full;     /* over a limit: do not store */
	_Atomic bool bypassing;
};

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* --- the clock: what eviction asks of the objects open here --- */

static struct kept *find(struct keeper *k, const char *hash)
{
	struct kept *o = k->objects;

	while (o && strcmp(o->where->hash, hash) != 0) {
		o = o->next;
	}
	return o;
}

static bool hook_recent(void *ctx, const char *hash, uint64_t seg)
{
	struct keeper *k = ctx;
	LOCK_SCOPE(&k->lock);
	struct kept *o = find(k, hash);

	return o && bits_reset(&o->touched, seg);
}

static void hook_gone(void *ctx, const char *hash, uint64_t granules)
{
	struct keeper *k = ctx;
	LOCK_SCOPE(&k->lock);
	struct kept *o = find(k, hash);

	if (o) {
		atomic_fetch_add(o->absent, granules);
	}
}

/* --- the limits --- */

static uint64_t free_space(const struct keeper *k)
{
	struct statvfs fs;

	if (fstatvfs(k->store->fd, &fs) < 0) {
		return UINT64_MAX;
	}
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* 5 %, at least 1 GiB; of a small file system not more than a tenth. */
static uint64_t default_min_free(const struct store *s)
{
	struct statvfs fs;
	uint64_t total;

	if (fstatvfs(s->fd, &fs) < 0) {
		return GIB(1);
	}
	total = (uint64_t)fs.f_blocks * fs.f_frsize;
	return min_u64(max_u64(total / 20, GIB(1)), total / 10);
}

/* Bytes to free for the limits, @used being what there is. */
static uint64_t excess(const struct keeper *k, uint64_t used, bool pressed)
{
	uint64_t space = free_space(k);
	uint64_t need = 0;

	if (k->max_size && used > k->max_size / 100 * MARK_HIGH) {
		need = used - k->max_size / 100 * MARK_LOW;
	}
	if (space < k->min_free) {
		need = max_u64(need, k->min_free - space + k->min_free / 8);
	}
	if (pressed) {
		need = max_u64(need, max_u64(used / 8, min_u64(used / 2, PRESS_LEAST)));
	}
	return min_u64(need, used);
}

static bool is_over(const struct keeper *k)
{
	return (k->max_size && k->used > k->max_size) || free_space(k) < k->min_free;
}

/* Evicts if this process is the one to do it. Returns the bytes freed. The lock is not held. */
static uint64_t evict(struct keeper *k, bool pressed)
{
	const struct evict_hooks hooks = { hook_recent, hook_gone, k };
	CLEANUP_CLOSE int elected = store_elect(k->store);
	uint64_t need;

	if (elected < 0) {
		return 0;
	}
	need = excess(k, evict_used(k->store), pressed);
	return need > 0 ? evict_run(k->store, need, &hooks) : 0;
}

/* Objects that are read are not the ones to evict, in the eyes of other processes, too. */
static void note_use(struct keeper *k)
{
	for (struct kept *o = k->objects; o; o = o->next) {
		if (atomic_exchange(&o->active, false)) {
			store_object_touch(o->where);
		}
	}
}

/* Nothing is kept although nothing is broken: worth a word. */
static void warn_full(struct keeper *k)
{
	bool tight = atomic_load(&k->full) && free_space(k) < k->min_free;

	if (tight && !k->warned) {
		log_warn("less than %llu MiB are free under the cache directory %s: "
			 "what is read is not kept",
			(unsigned long long)(k->min_free >> 20), k->store->path);
	}
	k->warned = tight;
}

/* What could not be evicted because it was just being fetched can be soon. */
static void look_again(struct keeper *k)
{
	if (!atomic_load(&k->full)) {
		k->again_ms = 0;
	} else if (k->again_ms == 0) {
		k->again_ms = LOOK_AGAIN_MS;
	} else {
		k->again_ms = (unsigned int)min_u64(2 * k->again_ms, 1000U * LOOK_EVERY_S);
	}
}

static struct timespec next_look(const struct keeper *k)
{
	unsigned int ms = k->again_ms ? k->again_ms : 1000U * LOOK_EVERY_S;
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	if (t.tv_nsec >= 1000000000L) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000L;
	}
	return t;
}

/* Counts what is used, evicts when that is too much. Lock held, given up meanwhile. */
static void look(struct keeper *k)
{
	bool pressed = k->pressed;
	uint64_t freed = 0;
	uint64_t used;

	k->unseen = 0;
	k->pressed = false;
	k->evicting = true;
	if (pressed || excess(k, k->used, false) > 0) {
		pthread_mutex_unlock(&k->lock);
		freed = evict(k, pressed);
		pthread_mutex_lock(&k->lock);
	}
	if (pressed) {
		k->press_freed = freed;
	}
	pthread_mutex_unlock(&k->lock);
	used = evict_used(k->store);
	pthread_mutex_lock(&k->lock);
	k->used = used + k->unseen;
	k->looked = true;
	k->evicting = false;
	atomic_store(&k->full, is_over(k));
	look_again(k);
	warn_full(k);
	note_use(k);
	pthread_cond_broadcast(&k->room);
}

/* The disk did not take what write() had accepted (a thin volume is full, a link to it broke). */
static void doubt(struct keeper *k, const char *hash)
{
	for (struct kept *o = k->objects; o; o = o->next) {
		if (strcmp(o->where->hash, hash) == 0 && !atomic_exchange(&o->doubted, true)) {
			log_warn("the disk under the cache directory %s lost what was written: all "
				 "that is read from there is checked",
				k->store->path);
		}
	}
}

struct flushed {
	int fd;
	char hash[STORE_HASH + 1];
};

/* Starts writeback, so that a crash loses little and a clean end is quick, and learns how the
 * writeback before went. */
static void flush(struct keeper *k)
{
	struct flushed files[FLUSH_FILES];
	size_t failed = 0;
	size_t n = 0;

	k->flushing = k->dirty > 0;
	k->dirty = 0;
	for (struct kept *o = k->objects; o && n < FLUSH_FILES; o = o->next) {
		int fd = fcntl(o->data, F_DUPFD_CLOEXEC, 0);

		if (fd >= 0) {
			files[n].fd = fd;
			memcpy(files[n++].hash, o->where->hash, sizeof(files[0].hash));
		}
	}
	pthread_mutex_unlock(&k->lock);
	for (size_t i = 0; i < n; i++) {
		int r = sync_file_range(
			files[i].fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);

		if (r < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
			memmove(files[failed++].hash, files[i].hash, sizeof(files[0].hash));
		}
		close(files[i].fd);
	}
	pthread_mutex_lock(&k->lock);
	while (failed > 0) {
		doubt(k, files[--failed].hash);
	}
}

static bool has_work(const struct keeper *k)
{
	return k->ending || k->pressed || k->dirty >= FLUSH_BYTES || k->unseen >= LOOK_BYTES ||
	       (k->max_size && k->unseen > 0 && k->used > k->max_size / 100 * MARK_HIGH);
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;
	time_t flushed = now_s();
	LOCK_SCOPE(&k->lock);

	pthread_setname_np(pthread_self(), "cache-keeper");
	while (!k->ending) {
		struct timespec until;
		int r = 0;

		look(k);
		until = next_look(k);
		while (!has_work(k) && r == 0) {
			r = pthread_cond_timedwait(&k->wake, &k->lock, &until);
		}
		if (k->dirty >= FLUSH_BYTES ||
			((k->dirty > 0 || k->flushing) && now_s() >= flushed + LOOK_EVERY_S)) {
			flush(k);
			flushed = now_s();
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
	k->min_free = min_free ? min_free : default_min_free(s);
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->wake, &attr);
	pthread_cond_init(&k->room, &attr);
	pthread_condattr_destroy(&attr);
	r = s->readonly ? 0 : pthread_create(&k->thread, NULL, keeper_main, k);
	k->started = r == 0 && !s->readonly;
	if (r != 0) {
		keeper_free(k);
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
	if (k->started) {
		pthread_mutex_lock(&k->lock);
		k->ending = true;
		pthread_cond_broadcast(&k->wake);
		pthread_mutex_unlock(&k->lock);
		pthread_join(k->thread, NULL);
	}
	pthread_cond_destroy(&k->room);
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

/* --- storing --- */

/* Over a limit: the eviction under way gets a moment. */
static bool wait_for_room(struct keeper *k)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ADMIT_WAIT_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	while (atomic_load(&k->full) && (k->evicting || has_work(k)) && !k->ending && r == 0) {
		r = pthread_cond_timedwait(&k->room, &k->lock, &until);
	}
	return !atomic_load(&k->full);
}

bool keeper_admits(struct keeper *k)
{
	if (!atomic_load(&k->bypassing) && !atomic_load(&k->full)) {
		return true;
	}
	LOCK_SCOPE(&k->lock);
	if (atomic_load(&k->bypassing)) {
		if (now_s() < k->bypass_until_s) {
			return false;
		}
		atomic_store(&k->bypassing, false);
	}
	return wait_for_room(k);
}

void keeper_wrote(struct keeper *k, uint64_t bytes)
{
	LOCK_SCOPE(&k->lock);

	k->bypass_s = 0;
	k->dirty += bytes;
	k->unseen += bytes;
	k->used += bytes;
	if (k->max_size && k->used > k->max_size) {
		atomic_store(&k->full, true);
	}
	if (has_work(k)) {
		pthread_cond_signal(&k->wake);
	}
}

/* Whether a full disk is worth an eviction: not when the last one just now was for nothing. */
static bool may_press(const struct keeper *k, int code)
{
	if (code != -ENOSPC && code != -EDQUOT) {
		return false;
	}
	return k->pressed_s == 0 || k->press_freed >= PRESS_USEFUL ||
	       now_s() >= k->pressed_s + PRESS_AGAIN_S;
}

void keeper_failed(struct keeper *k, int code)
{
	LOCK_SCOPE(&k->lock);

	if (atomic_load(&k->bypassing) || k->pressed) {
		return;
	}
	if (may_press(k, code)) {
		k->pressed = true;
		k->pressed_s = max_u64((uint64_t)now_s(), 1);
		k->press_freed = 0;
		atomic_store(&k->full, true);
		pthread_cond_signal(&k->wake);
		return;
	}
	if (k->bypass_s == 0) {
		log_warn("the cache directory %s does not take more (%s): reading past it",
			k->store->path, strerror(-code));
	}
	k->bypass_s = k->bypass_s ? (unsigned int)min_u64(2 * k->bypass_s, BYPASS_MOST_S)
				  : BYPASS_FIRST_S;
	k->bypass_until_s = now_s() + k->bypass_s;
	atomic_store(&k->bypassing, true);
}

/* Bytes in the directory that are not of @hash. */
static uint64_t used_by_others(struct keeper *k, uint64_t used, const char *hash)
{
	const struct kept *o = find(k, hash);

	return used - (o ? min_u64(evict_object_used(o->where->fd), used) : 0);
}

bool keeper_has_room(struct keeper *k, const char *hash, uint64_t bytes, bool alone)
{
	LOCK_SCOPE(&k->lock);
	uint64_t used = k->looked ? k->used : evict_used(k->store);
	uint64_t space = free_space(k);
	uint64_t room = space - min_u64(space, k->min_free);
	uint64_t others = alone ? used_by_others(k, used, hash) : 0;

	if (k->max_size) {
		uint64_t limit = k->max_size / 100 * MARK_HIGH;

		room = min_u64(room, limit - min_u64(limit, used));
	}
	return bytes <= room || bytes - room <= others;
}

uint64_t keeper_prune(struct keeper *k, uint64_t max_size)
{
	const struct evict_hooks hooks = { hook_recent, hook_gone, k };
	uint64_t used = evict_used(k->store);
	uint64_t freed = used > max_size ? evict_run(k->store, used - max_size, &hooks) : 0;
	LOCK_SCOPE(&k->lock);

	k->used -= min_u64(freed, k->used);
	return freed;
}
