/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching one run of granules: against other processes, from the image below, into the store. */
#include "cache/fill.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"

/* How long another process's fetch of the same bytes is waited for: so many times what it should
 * take, within bounds, us. */
#define CLAIM_FACTOR  4U
#define CLAIM_LEAST   50000U
#define CLAIM_MOST    2000000U
#define CLAIM_STEP_US 2000U
/* Percent of the promised memory up to which storing may be behind. */
#define SHARE_BEHIND 60U

uint64_t fill_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void fill_progress(struct flight *fl)
{
	fl->steps++;
	pthread_cond_broadcast(&fl->progress);
}

void fill_unref(struct fill *f)
{
	if (--f->refs > 0) {
		return;
	}
	for (size_t i = 0; i < f->count; i++) {
		pool_put(f->flight->pool, f->blocks[i]);
	}
	pool_release(f->flight->pool, f->promised);
	pthread_cond_destroy(&f->wake);
	free(f);
}

static int allocate(struct fill *f)
{
	for (size_t i = 0; i < f->count; i++) {
		f->blocks[i] = pool_get(f->flight->pool);
		if (!f->blocks[i]) {
			return -ENOMEM;
		}
	}
	return 0;
}

static uint64_t first_granule(const struct fill *f)
{
	return f->off / CACHE_GRANULE;
}

static bool try_claim(struct fill *f)
{
	struct object *o = f->flight->object;

	f->claimed = !o->ops->claim || o->ops->claim(o, first_granule(f), f->count);
	return f->claimed;
}

static void unclaim(struct fill *f, size_t from, size_t to)
{
	struct object *o = f->flight->object;

	if (f->claimed && o->ops->unclaim && from < to) {
		o->ops->unclaim(o, first_granule(f) + from, to - from);
	}
}

static bool all_present(const struct fill *f)
{
	struct object *o = f->flight->object;

	for (size_t i = 0; i < f->count; i++) {
		if (!o->ops->present(o, first_granule(f) + i)) {
			return false;
		}
	}
	return true;
}

static bool is_lent(struct fill *f)
{
	struct object *o = f->flight->object;

	return o->ops->is_lent && o->ops->is_lent(o, first_granule(f), f->count);
}

/* Another process may be fetching the same: give it the time that a fetch takes. */
static void claim(struct fill *f)
{
	struct flight *fl = f->flight;
	uint64_t patience;

	if (try_claim(f)) {
		return;
	}
	pthread_mutex_lock(&fl->lock);
	patience = planner_duration(&fl->planner, f->len) * CLAIM_FACTOR;
	patience = max_u64(CLAIM_LEAST, min_u64(patience, CLAIM_MOST));
	pthread_mutex_unlock(&fl->lock);
	for (uint64_t us = 0; us < patience && !flight_is_ending(fl) && !is_lent(f);
		us += CLAIM_STEP_US) {
		usleep(CLAIM_STEP_US);
		if (try_claim(f) || all_present(f)) {
			return;
		}
	}
	pthread_mutex_lock(&fl->lock);
	f->apart = true;
	pthread_mutex_unlock(&fl->lock);
}

/* More bytes are in the blocks: whoever waits for them may take them. @fetched: so many of them
 * came over the link. */
static bool arrive(struct fill *f, uint64_t n, uint64_t fetched)
{
	struct flight *fl = f->flight;
	LOCK_SCOPE(&fl->lock);

	f->arrived += n;
	meter_count(&fl->meter, fetched);
	if (f->arrived >= f->wake_at) {
		f->wake_at = UINT64_MAX;
		pthread_cond_broadcast(&f->wake);
	}
	return !fl->ending;
}

/* What has become present since the fill was planned is taken from the store. */
static void absorb(struct fill *f)
{
	struct object *o = f->flight->object;

	for (size_t i = 0; i < f->count; i++) {
		uint64_t g = first_granule(f) + i;
		size_t len = object_granule_len(o, g);

		if (!o->ops->present(o, g) ||
			o->ops->read(o, f->blocks[i], len, g * CACHE_GRANULE) != len) {
			break;
		}
		f->absorbed += len;
		(void)arrive(f, len, 0);
	}
}

static void note_request(struct fill *f)
{
	LOCK_SCOPE(&f->flight->lock);

	meter_sent(&f->flight->meter, &f->run, fill_now());
}

static void note_first_byte(struct fill *f)
{
	struct flight *fl = f->flight;
	uint64_t now = fill_now();
	LOCK_SCOPE(&fl->lock);

	meter_first(&fl->meter, &f->run, now, fl->planner.rtt_us * 1000);
	planner_first_byte(&fl->planner, (now - f->run.sent_ns) / 1000);
}

static int fill_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct fill *f = ctx;
	const uint8_t *src = buf;
	uint64_t at = off - f->off;
	size_t left = n;

	assert(off >= f->off && range_within(at, n, f->count * (uint64_t)CACHE_GRANULE));
	if (!f->run.flows) {
		note_first_byte(f);
	}
	while (left > 0) {
		size_t within = at % CACHE_GRANULE;
		size_t piece = min_u64(left, CACHE_GRANULE - within);

		memcpy(f->blocks[at / CACHE_GRANULE] + within, src, piece);
		src += piece;
		at += piece;
		left -= piece;
	}
	return arrive(f, n, n) ? 0 : -ECANCELED;
}

static int fetch(struct fill *f, struct err *e)
{
	struct flight *fl = f->flight;
	int r;

	if (flight_is_ending(fl)) {
		return err_set(e, -ECANCELED, "the image is being closed");
	}
	r = allocate(f);
	if (r < 0) {
		return err_set(e, r, "out of memory");
	}
	claim(f);
	absorb(f);
	if (f->absorbed == f->len) {
		return 0;
	}
	atomic_fetch_add(&fl->counts.fills, 1);
	note_request(f);
	r = image_stream_at(fl->below, f->off + f->absorbed, f->len - f->absorbed, fill_sink, f, e);
	if (r == 0 && f->arrived != f->len) {
		return err_set(e, -EIO, "%s: a transfer ended early", fl->below->ops->name);
	}
	return r;
}

/* Takes back what was said of granules that did not come after all. */
static void unpromise(struct fill *f, size_t whole)
{
	struct flight *fl = f->flight;

	for (size_t i = whole; i < f->count; i++) {
		uint64_t g = first_granule(f) + i;

		if (bits_reset(&fl->ahead, g)) {
			atomic_fetch_sub(&fl->counts.prefetched, object_granule_len(fl->object, g));
		}
		if (bits_reset(&fl->replayed, g)) {
			atomic_fetch_sub(&fl->counts.replayed, object_granule_len(fl->object, g));
		}
	}
}

static void note_success(struct fill *f, uint64_t bytes, uint64_t us)
{
	struct flight *fl = f->flight;

	fl->failures = 0;
	fl->quiet_until = 0;
	planner_rate(&fl->planner, bytes, us);
}

/* The transfer is over: waiters learn of it. Returns the number of whole granules that came. */
static size_t settle(struct fill *f, int code, const struct err *e)
{
	struct flight *fl = f->flight;
	size_t whole = f->arrived == f->len ? f->count : f->arrived / CACHE_GRANULE;
	uint64_t bytes;
	uint64_t us;

	if (code < 0) {
		unclaim(f, whole, f->count);
	}
	LOCK_SCOPE(&fl->lock);
	meter_ended(&fl->meter, &f->run, fill_now(), &bytes, &us);
	f->ended = true;
	f->code = code;
	fl->flying[f->class] -= f->flown;
	if (f->class == FILL_COMPLETE) {
		atomic_fetch_add(
			&fl->counts.completed, min_u64(whole * (uint64_t)CACHE_GRANULE, f->len));
	}
	if (code < 0) {
		f->err = *e;
		f->len = min_u64(whole * (uint64_t)CACHE_GRANULE, f->len);
		unpromise(f, whole);
		if (code != -ECANCELED) {
			fl->quiet_until =
				fill_now() + (UINT64_C(100000000) << min_u64(fl->failures, 7));
			fl->failures++;
		}
	} else {
		note_success(f, bytes, us);
	}
	pthread_cond_broadcast(&f->wake);
	fill_progress(fl);
	return whole;
}

static void leave_table(struct fill *f)
{
	struct flight *fl = f->flight;
	LOCK_SCOPE(&fl->lock);
	struct fill **link = &fl->fills;

	while (*link != f) {
		link = &(*link)->next;
	}
	*link = f->next;
	fl->count--;
	fl->hint_fills -= f->class == FILL_HINT;
	fill_unref(f);
	flight_pump(fl);
	fill_progress(fl);
	if (fl->count == 0) {
		pthread_cond_broadcast(&fl->idle);
	}
}

/* The second half: what came is kept, and the fill is over. */
static void fill_store(struct work *w)
{
	struct fill *f = (struct fill *)(void *)((uint8_t *)w - offsetof(struct fill, store));
	struct object *o = f->flight->object;
	size_t had = f->absorbed / CACHE_GRANULE;

	if (f->claimed && f->whole > had) {
		o->ops->put(o, first_granule(f) + had, f->blocks + had, f->whole - had);
	}
	unclaim(f, 0, f->whole);
	leave_table(f);
}

void fill_run(struct work *w)
{
	struct fill *f = (struct fill *)w;
	struct flight *fl = f->flight;
	struct err e = { 0 };
	int code = fetch(f, &e);

	/* Without the claim nothing may be written under granules: see map.h. */
	if (!f->claimed) {
		(void)try_claim(f);
	}
	f->whole = settle(f, code, &e);
	f->store.run = fill_store;
	/* A disk that is slow for a moment does not keep this thread from the network, as long as
	 * there is memory for what it is behind. */
	if (pool_has_room(fl->pool, SHARE_BEHIND)) {
		workq_push(fl->storing, &f->store);
	} else {
		fill_store(&f->store);
	}
}
