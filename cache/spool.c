/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that streams, a thread that stores behind it, and the readers that wait for both. */
#include "cache/spool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/fill.h"
#include "core/cleanup.h"

/* Granules that may wait to be stored: 8 MiB. The stream waits when the disk is slower. */
#define QUEUE_ROOM 128U
/* Granules stored at a time. */
#define BATCH 16U

struct waiter {
	struct waiter *next;
	uint8_t *buf;
	uint64_t off;
	size_t len;
	bool late; /* the stream has passed `off`, and the store does not have it */
	bool failed;
	struct err err;
};

struct queued {
	uint64_t granule;
	uint8_t *block;
};

struct spool {
	struct flight *flight;
	pthread_t streamer;
	pthread_t storer;
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t start; /* the streamer has something to do */
	pthread_cond_t queue_changed;
	pthread_cond_t progress; /* waiters look again */
	struct waiter *waiters;
	uint64_t passed; /* the stream has delivered everything from its start to here */
	uint64_t stored; /* up to here the storer has done what it could */
	bool aborted;    /* the sink stopped the stream: going on served nobody */
	bool ending;
	uint64_t began_ns;
	uint64_t first_ns; /* when the first byte of the pass came; 0 before */
	bool quit;         /* the storer ends */
	struct queued queue[QUEUE_ROOM];
	unsigned int head;
	unsigned int queued;
	uint8_t *
		current; /* the granule being filled; NULL: it is present (or there is no memory) */
};

/* --- the stream --- */

/* Hands out bytes to those who wait for exactly them. */
static void feed(struct spool *s, uint64_t off, const uint8_t *data, size_t n)
{
	bool any = false;

	for (struct waiter *w = s->waiters; w; w = w->next) {
		if (w->len > 0 && w->off >= off && w->off < off + n) {
			size_t piece = min_u64(w->len, off + n - w->off);

			memcpy(w->buf, data + (w->off - off), piece);
			w->buf += piece;
			w->off += piece;
			w->len -= piece;
			any |= w->len == 0;
		}
	}
	if (any) {
		pthread_cond_broadcast(&s->progress);
	}
}

/* Whether going on serves somebody: nobody waits, or somebody ahead. */
static bool worth_going_on(const struct spool *s)
{
	bool late = false;

	for (const struct waiter *w = s->waiters; w; w = w->next) {
		if (w->len > 0 && !w->late) {
			return true;
		}
		late |= w->late;
	}
	return !late;
}

static void enqueue(struct spool *s, uint64_t granule)
{
	while (s->queued == QUEUE_ROOM && !s->ending) {
		pthread_cond_wait(&s->queue_changed, &s->lock);
	}
	if (s->ending) {
		pool_put(s->flight->pool, s->current);
	} else {
		s->queue[(s->head + s->queued) % QUEUE_ROOM] =
			(struct queued){ granule, s->current };
		s->queued++;
		pthread_cond_broadcast(&s->queue_changed);
	}
	s->current = NULL;
}

/* Collects the bytes of granules that are not present. */
static void keep(struct spool *s, uint64_t off, const uint8_t *data, size_t n)
{
	struct object *o = s->flight->object;

	while (n > 0) {
		uint64_t g = off / CACHE_GRANULE;
		size_t within = off % CACHE_GRANULE;
		size_t piece = min_u64(n, CACHE_GRANULE - within);

		if (within == 0 && !o->ops->present(o, g)) {
			s->current = pool_get(s->flight->pool);
		}
		if (s->current) {
			memcpy(s->current + within, data, piece);
		}
		if (within + piece == object_granule_len(o, g)) {
			enqueue(s, g);
		}
		off += piece;
		data += piece;
		n -= piece;
	}
}

static int spool_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct spool *s = ctx;
	LOCK_SCOPE(&s->lock);

	assert(off == s->passed);
	if (s->first_ns == 0) {
		s->first_ns = fill_now();
	}
	feed(s, off, buf, n);
	s->passed = off + n;
	keep(s, off, buf, n);
	s->aborted = !worth_going_on(s);
	return s->ending || s->aborted ? -ECANCELED : 0;
}

/* The first byte that is absent or waited for. */
static uint64_t first_needed(const struct spool *s)
{
	struct object *o = s->flight->object;
	uint64_t g = 0;

	while (g < o->granules && o->ops->present(o, g)) {
		g++;
	}
	g *= CACHE_GRANULE;
	for (const struct waiter *w = s->waiters; w; w = w->next) {
		g = min_u64(g, round_down(w->off, CACHE_GRANULE));
	}
	return min_u64(g, o->size);
}

/* Whether @w waits for what only the stream can bring. Others are about to look in the store. */
static bool needs_stream(const struct spool *s, const struct waiter *w)
{
	return w->len > 0 && !w->failed && (w->late || w->off >= s->stored);
}

static bool somebody_needs(const struct spool *s)
{
	const struct waiter *w = s->waiters;

	while (w && !needs_stream(s, w)) {
		w = w->next;
	}
	return w != NULL;
}

/* Everybody who needed more of the stream learns that it broke. */
static void fail_waiters(struct spool *s, const struct err *e)
{
	for (struct waiter *w = s->waiters; w; w = w->next) {
		if (needs_stream(s, w)) {
			w->failed = true;
			w->err = *e;
		}
	}
}

static void begin_pass(struct spool *s, uint64_t from)
{
	for (struct waiter *w = s->waiters; w; w = w->next) {
		w->late = false;
	}
	s->passed = from;
	s->stored = from;
	s->aborted = false;
	s->began_ns = fill_now();
	s->first_ns = 0;
	atomic_fetch_add(&s->flight->counts.fills, 1);
}

static void measure(struct spool *s, uint64_t bytes)
{
	struct flight *fl = s->flight;
	LOCK_SCOPE(&fl->lock);

	if (s->first_ns) {
		planner_first_byte(&fl->planner, (s->first_ns - s->began_ns) / 1000);
		planner_rate(&fl->planner, bytes, (fill_now() - s->first_ns) / 1000);
	}
}

/* One pass, from the first byte needed to the end. Lock held, given up meanwhile. */
static void stream(struct spool *s)
{
	struct flight *fl = s->flight;
	uint64_t from = first_needed(s);
	struct err e = { 0 };
	int r;

	begin_pass(s, from);
	pthread_mutex_unlock(&s->lock);
	r = image_stream_at(fl->below, from, fl->object->size - from, spool_sink, s, &e);
	pthread_mutex_lock(&s->lock);
	measure(s, s->passed - from);
	pool_put(fl->pool, s->current);
	s->current = NULL;
	while (s->queued > 0 && !s->ending) {
		pthread_cond_wait(&s->queue_changed, &s->lock);
	}
	s->stored = s->passed;
	if (r < 0 && !s->aborted) {
		e.code = r;
		fail_waiters(s, &e);
	}
	pthread_cond_broadcast(&s->progress);
}

static void *streamer_main(void *arg)
{
	struct spool *s = arg;
	LOCK_SCOPE(&s->lock);

	pthread_setname_np(pthread_self(), "cache-spool");
	while (!s->ending) {
		if (somebody_needs(s)) {
			stream(s);
		} else {
			pthread_cond_wait(&s->start, &s->lock);
		}
	}
	return NULL;
}

/* --- storing --- */

/* Takes a run of neighbours from the queue; their places stay occupied until done. */
static unsigned int take_run(const struct spool *s, uint8_t **blocks)
{
	unsigned int n = 0;

	while (n < s->queued && n < BATCH) {
		const struct queued *q = &s->queue[(s->head + n) % QUEUE_ROOM];

		if (n > 0 && (q->granule != s->queue[s->head].granule + n || !q->block)) {
			break;
		}
		blocks[n++] = q->block;
		if (!q->block) {
			break;
		}
	}
	return n;
}

/* Granules that the spool brought count as fetched ahead until somebody reads them. */
static void count_kept(struct flight *fl, uint64_t granule)
{
	if (!bits_set(&fl->ahead, granule)) {
		atomic_fetch_add(&fl->counts.prefetched, object_granule_len(fl->object, granule));
	}
}

static void store(struct spool *s, uint64_t first, uint8_t **blocks, unsigned int n)
{
	struct flight *fl = s->flight;
	struct object *o = fl->object;
	bool claimed;

	if (!blocks[0]) {
		return; /* it is present */
	}
	claimed = !o->ops->claim || o->ops->claim(o, first, n);
	if (claimed) {
		o->ops->put(o, first, blocks, n);
	}
	if (claimed && o->ops->unclaim) {
		o->ops->unclaim(o, first, n);
	}
	for (unsigned int i = 0; i < n; i++) {
		count_kept(fl, first + i);
		pool_put(fl->pool, blocks[i]);
	}
}

static void *storer_main(void *arg)
{
	struct spool *s = arg;
	uint8_t *blocks[BATCH];
	LOCK_SCOPE(&s->lock);

	pthread_setname_np(pthread_self(), "cache-store");
	while (!s->quit || s->queued > 0) {
		unsigned int n = take_run(s, blocks);
		uint64_t first = s->queue[s->head].granule;

		if (n == 0) {
			pthread_cond_wait(&s->queue_changed, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		store(s, first, blocks, n);
		pthread_mutex_lock(&s->lock);
		s->head = (s->head + n) % QUEUE_ROOM;
		s->queued -= n;
		s->stored = (first + n) * CACHE_GRANULE;
		pthread_cond_broadcast(&s->queue_changed);
		pthread_cond_broadcast(&s->progress);
	}
	return NULL;
}

/* --- readers --- */

static void leave(struct spool *s, struct waiter *w)
{
	struct waiter **link = &s->waiters;

	while (*link != w) {
		link = &(*link)->next;
	}
	*link = w->next;
}

static void enter(struct spool *s, struct waiter *w)
{
	w->next = s->waiters;
	s->waiters = w;
}

/* What the stream has passed may be in the store. Out of the list meanwhile, so that nobody else
 * writes to the buffer. */
static void look_in_store(struct spool *s, struct waiter *w)
{
	struct object *o = s->flight->object;
	size_t n;

	leave(s, w);
	pthread_mutex_unlock(&s->lock);
	n = o->ops->read(o, w->buf, w->len, w->off);
	pthread_mutex_lock(&s->lock);
	w->buf += n;
	w->off += n;
	w->len -= n;
	w->late = n == 0;
	enter(s, w);
}

/* Whether the store may have the byte that @w waits for next. */
static bool may_be_stored(const struct spool *s, const struct waiter *w)
{
	return !w->late && w->off < s->stored;
}

int spool_read(struct spool *s, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct waiter w = { .buf = buf, .off = off, .len = len };
	int r = 0;

	pthread_mutex_lock(&s->lock);
	enter(s, &w);
	look_in_store(s, &w);
	w.late = false;
	while (w.len > 0 && !w.failed && !s->ending) {
		if (may_be_stored(s, &w)) {
			look_in_store(s, &w);
			continue;
		}
		pthread_cond_signal(&s->start);
		pthread_cond_wait(&s->progress, &s->lock);
	}
	leave(s, &w);
	if (w.len > 0) {
		r = w.failed ? w.err.code : -ECANCELED;
	}
	pthread_mutex_unlock(&s->lock);
	if (r < 0) {
		return w.failed ? err_set(e, r, "%s", w.err.text)
				: err_set(e, r, "the image is being closed");
	}
	return 0;
}

/* --- life --- */

void spool_interrupt(struct spool *s)
{
	LOCK_SCOPE(&s->lock);

	s->ending = true;
	pthread_cond_broadcast(&s->start);
	pthread_cond_broadcast(&s->queue_changed);
	pthread_cond_broadcast(&s->progress);
}

static void stop_storer(struct spool *s)
{
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_broadcast(&s->queue_changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->storer, NULL);
}

static void destroy(struct spool *s)
{
	pthread_cond_destroy(&s->start);
	pthread_cond_destroy(&s->queue_changed);
	pthread_cond_destroy(&s->progress);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int spool_new(struct flight *fl, struct spool **ret, struct err *e)
{
	struct spool *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->flight = fl;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->start, NULL);
	pthread_cond_init(&s->queue_changed, NULL);
	pthread_cond_init(&s->progress, NULL);
	r = pthread_create(&s->storer, NULL, storer_main, s);
	if (r != 0) {
		destroy(s);
		return err_sys(e, r, "cannot start a thread");
	}
	r = pthread_create(&s->streamer, NULL, streamer_main, s);
	if (r != 0) {
		stop_storer(s);
		destroy(s);
		return err_sys(e, r, "cannot start a thread");
	}
	*ret = s;
	return 0;
}

void spool_free(struct spool *s)
{
	if (s) {
		spool_interrupt(s);
		pthread_join(s->streamer, NULL);
		stop_storer(s);
		destroy(s);
	}
}
