/* SPDX-License-Identifier: Apache-2.0 */
/* The table of fills: planning them around each other, finding them by overlap, waiting. */
#include "cache/flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/fill.h"
#include "core/cleanup.h"

/* Percent of the promised memory that bytes nobody waits for may take. */
#define SHARE_AHEAD 85U
#define SHARE_WORK  60U
#define SHARE_HINT  40U
/* What one reader may have on its way at a time: this bounds memory, whatever is read at once. */
#define DEMAND_MOST MIB(4)
/* So many pieces of hints are fetched at once. */
#define HINT_FILLS 8U

static const struct class
{
	unsigned int priority;
	unsigned int share; /* of the promised memory, for what nobody waits for */
} classes[FILL_CLASSES] = {
	[FILL_DEMAND] = { 0, SHARE_AHEAD },
	[FILL_READAHEAD] = { 1, SHARE_AHEAD },
	[FILL_REPLAY] = { 2, SHARE_WORK },
	[FILL_HINT] = { 2, SHARE_HINT },
	[FILL_COMPLETE] = { 3, SHARE_HINT },
};

int flight_init(struct flight *fl, struct image *below, struct object *object, struct pool *pool,
	struct workq *queue, struct workq *storing)
{
	pthread_condattr_t attr;

	*fl = (struct flight){
		.below = below,
		.object = object,
		.pool = pool,
		.queue = queue,
		.storing = storing,
	};
	if (bits_init(&fl->ahead, object->granules) < 0) {
		return -ENOMEM;
	}
	if (bits_init(&fl->replayed, object->granules) < 0) {
		bits_fini(&fl->ahead);
		return -ENOMEM;
	}
	listener_init(&fl->withdrawn);
	planner_init(&fl->planner);
	pthread_mutex_init(&fl->lock, NULL);
	pthread_cond_init(&fl->idle, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fl->progress, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

/* The fill that covers @off, or NULL. */
static struct fill *covering(const struct flight *fl, uint64_t off)
{
	struct fill *f = fl->fills;

	while (f && (off < f->off || off - f->off >= f->len)) {
		f = f->next;
	}
	return f;
}

/* How many granules from @g on, @most at most, are neither present nor on their way. */
static size_t absent_run(const struct flight *fl, uint64_t g, size_t most)
{
	struct object *o = fl->object;
	uint64_t end = min_u64(g + most, o->granules);
	size_t n = 0;

	for (const struct fill *f = fl->fills; f; f = f->next) {
		uint64_t first = f->off / CACHE_GRANULE;

		if (f->len > 0 && first + object_granules(f->len) > g) {
			end = min_u64(end, max_u64(first, g));
		}
	}
	while (g + n < end && !o->ops->present(o, g + n)) {
		n++;
	}
	return n;
}

static void want(struct fill *f)
{
	if (!f->wanted) {
		f->wanted = true;
		workq_promote(f->flight->queue, &f->work, classes[FILL_DEMAND].priority);
	}
}

/* Promises memory for @asked granules, which somebody waits for when @demand, and as much of @extra
 * as there is room for. Returns the number of granules; 0: no memory. */
static size_t promise(struct flight *fl, size_t asked, size_t extra, enum fill_class class)
{
	unsigned int share = classes[class].share;

	if (class == FILL_DEMAND) {
		pool_owe(fl->pool, asked);
	} else {
		extra += asked;
		asked = 0;
	}
	while (extra > 0 && !pool_promise(fl->pool, extra, share)) {
		/* A hint can wait for the ones before it: fewer, larger fetches. */
		extra = class == FILL_HINT && fl->hint_fills > 0 ? 0 : extra / 2;
	}
	return asked + extra;
}

/* Says of granules from @from on that they come before anybody asked. */
static void mark_ahead(struct flight *fl, uint64_t from, uint64_t to)
{
	for (; from < to; from++) {
		if (!bits_set(&fl->ahead, from)) {
			atomic_fetch_add(
				&fl->counts.prefetched, object_granule_len(fl->object, from));
		}
	}
}

/* Says of granules from @from on that they come because a trace foretold them. */
static void mark_replayed(struct flight *fl, uint64_t from, uint64_t to)
{
	for (; from < to; from++) {
		if (!bits_set(&fl->replayed, from)) {
			atomic_fetch_add(
				&fl->counts.replayed, object_granule_len(fl->object, from));
		}
	}
}

/* Starts a fill of @asked granules from @g on, and up to @extra more. Returns its granules. */
static size_t launch(
	struct flight *fl, uint64_t g, size_t asked, size_t extra, enum fill_class class)
{
	size_t count = promise(fl, asked, extra, class);
	struct fill *f;

	if (count == 0) {
		return 0;
	}
	f = calloc(1, sizeof(*f) + count * sizeof(f->blocks[0]));
	if (!f) {
		pool_release(fl->pool, count);
		return 0;
	}
	f->work.run = fill_run;
	f->work.priority = classes[class].priority;
	f->flight = fl;
	f->off = g * CACHE_GRANULE;
	f->len = min_u64(count * (uint64_t)CACHE_GRANULE, fl->object->size - f->off);
	f->wake_at = UINT64_MAX;
	f->refs = 1;
	f->count = count;
	f->promised = count;
	pthread_cond_init(&f->wake, NULL);
	if (class == FILL_DEMAND) {
		f->wanted = true;
		atomic_fetch_add(
			&fl->counts.demanded, min_u64(asked * (uint64_t)CACHE_GRANULE, f->len));
		mark_ahead(fl, g + asked, g + count);
	} else if (class == FILL_READAHEAD) {
		mark_ahead(fl, g, g + count);
	} else if (class == FILL_REPLAY) {
		mark_replayed(fl, g, g + count);
	} else if (class == FILL_HINT) {
		atomic_fetch_add(&fl->counts.hinted, f->len);
		fl->hint_fills++;
	}
	f->class = class;
	f->flown = f->len;
	fl->flying[class] += f->flown;
	f->next = fl->fills;
	fl->fills = f;
	fl->count++;
	workq_push(fl->queue, &f->work);
	return count;
}

/* Whether fetching ahead makes sense: fetches did not fail of late. */
static bool speculates(const struct flight *fl)
{
	return fl->quiet_until == 0 || fill_now() >= fl->quiet_until;
}

/* Where the walk over a range stands, and how to launch. */
struct covering {
	uint64_t pos;
	uint64_t end;
	uint64_t ahead; /* bytes behind the end that the last fill may bring along */
	size_t most;    /* granules of one fill */
	enum fill_class class;
};

/* One step of the walk: past what is present or on its way, or a fill for what is not. False: no
 * memory. */
static bool cover_step(struct flight *fl, struct covering *c)
{
	struct fill *f = covering(fl, c->pos);
	uint64_t g = c->pos / CACHE_GRANULE;
	size_t left = min_u64(object_granules(c->end - c->pos), c->most);
	size_t run;

	if (f) {
		if (c->class == FILL_DEMAND) {
			want(f);
		}
		c->pos = f->off + f->len;
		return true;
	}
	run = absent_run(fl, g, FILL_GRANULES);
	if (run == 0) {
		c->pos += CACHE_GRANULE;
		return true;
	}
	left = min_u64(left, run);
	run = launch(fl, g, left, min_u64(run - left, c->ahead / CACHE_GRANULE), c->class);
	c->pos += run * (uint64_t)CACHE_GRANULE;
	return run > 0;
}

/* Launches what a range needs. Returns where it stopped: at or behind its end, or where memory
 * ended. */
static uint64_t cover(struct flight *fl, struct covering c)
{
	c.pos = round_down(c.pos, CACHE_GRANULE);
	while (c.pos < c.end && cover_step(fl, &c)) {
	}
	return c.pos;
}

uint64_t flight_readahead(struct flight *fl, uint64_t off, uint64_t len, uint64_t chunk)
{
	return flight_work(fl, off, len, chunk, FILL_READAHEAD);
}

uint64_t flight_work(
	struct flight *fl, uint64_t off, uint64_t len, uint64_t chunk, enum fill_class class)
{
	struct covering c = {
		.pos = off,
		.end = off + len,
		.most = min_u64(chunk / CACHE_GRANULE, FILL_GRANULES),
		.class = class,
	};
	LOCK_SCOPE(&fl->lock);
	uint64_t end = !fl->ending && speculates(fl) ? cover(fl, c) : off;

	return end > off ? min_u64(end - off, len) : 0;
}

/* Fetches a piece of the first hint. False: it has to wait. */
static bool pump_step(struct flight *fl)
{
	struct flight_hint *h = &fl->hints[fl->hint_first];
	uint64_t chunk = planner_piece(&fl->planner);
	uint64_t end = min_u64(h->end, h->off + chunk);
	struct covering c = {
		.pos = h->off,
		.end = end,
		.most = chunk / CACHE_GRANULE,
		.class = FILL_HINT,
	};
	uint64_t got = cover(fl, c);

	h->off = max_u64(h->off, got);
	if (h->off >= h->end) {
		fl->hint_first = (fl->hint_first + 1) % FLIGHT_HINTS;
		fl->hint_count--;
	}
	return got >= end;
}

void flight_pump(struct flight *fl)
{
	while (fl->hint_count > 0 && fl->hint_fills < HINT_FILLS && !fl->ending && speculates(fl) &&
		pump_step(fl)) {
	}
}

static struct flight_hint *hint_at(struct flight *fl, unsigned int i)
{
	return &fl->hints[(fl->hint_first + i) % FLIGHT_HINTS];
}

/* The end of the hint that covers @off; @off itself when there is none. */
static uint64_t hinted_until(struct flight *fl, uint64_t off)
{
	for (unsigned int i = 0; i < fl->hint_count; i++) {
		const struct flight_hint *h = hint_at(fl, i);

		if (off >= h->off && off < h->end) {
			return h->end;
		}
	}
	return off;
}

/* The first byte from @off on that is neither here nor on its way nor said to be read, or @end. */
static uint64_t news(struct flight *fl, uint64_t off, uint64_t end)
{
	uint64_t from = UINT64_MAX;

	while (off < end && off != from) {
		const struct fill *f = covering(fl, off);

		from = off;
		if (f) {
			off = f->off + f->len;
		} else if (fl->object->ops->present(fl->object, off / CACHE_GRANULE)) {
			off = round_down(off, CACHE_GRANULE) + CACHE_GRANULE;
		} else {
			off = hinted_until(fl, off);
		}
	}
	return min_u64(off, end);
}

/* What continues the hint before it becomes one with it: fewer, larger fetches. */
static void add_hint(struct flight *fl, uint64_t off, uint64_t end)
{
	struct flight_hint *last = hint_at(fl, fl->hint_count + FLIGHT_HINTS - 1);

	off = round_down(off, CACHE_GRANULE);
	if (fl->hint_count > 0 && off >= last->off && off <= last->end) {
		last->end = max_u64(last->end, end);
	} else if (fl->hint_count < FLIGHT_HINTS) {
		*hint_at(fl, fl->hint_count) = (struct flight_hint){ off, end };
		fl->hint_count++;
	}
}

void flight_hint(struct flight *fl, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	LOCK_SCOPE(&fl->lock);

	/* Readers say once more what they read next: no hint is to be forgotten for that. */
	off = news(fl, off, end);
	if (off < end) {
		add_hint(fl, off, end);
	}
	flight_pump(fl);
}

struct fill *flight_join(
	struct flight *fl, uint64_t off, size_t len, uint64_t ahead, bool *ret_began)
{
	struct covering c = {
		.pos = off,
		.end = off + min_u64(len, DEMAND_MOST),
		.most = FILL_GRANULES,
		.class = FILL_DEMAND,
	};
	LOCK_SCOPE(&fl->lock);
	unsigned int before = fl->count;
	struct fill *f;

	c.ahead = speculates(fl) && len <= DEMAND_MOST ? ahead : 0;

	if (!fl->ending) {
		(void)cover(fl, c);
	}
	*ret_began = fl->count != before;
	f = covering(fl, off);
	if (f) {
		f->refs++;
	}
	return f;
}

/* Waits until @need bytes of @f have arrived or it is clear that they will not. */
static int await(struct flight *fl, struct fill *f, uint64_t need, struct err *e)
{
	fl->waiting++;
	while (f->arrived < need && !f->ended && !fl->ending) {
		f->wake_at = min_u64(f->wake_at, need);
		pthread_cond_wait(&f->wake, &fl->lock);
	}
	fl->waiting--;
	fl->waited_ns = fill_now();
	if (f->arrived >= need) {
		return 0;
	}
	if (f->ended && f->code < 0) {
		if (e) {
			*e = f->err;
		}
		return f->code;
	}
	return err_set(e, -ECANCELED, "the image is being closed");
}

/* Where others fetch the same, what they have brought meanwhile goes before what is ours. */
static void copy_out(const struct fill *f, uint8_t *buf, size_t len, uint64_t at)
{
	struct object *o = f->flight->object;

	while (len > 0) {
		size_t within = at % CACHE_GRANULE;
		size_t n = min_u64(len, CACHE_GRANULE - within);

		if (!f->apart || o->ops->read(o, buf, n, f->off + at) < n) {
			memcpy(buf, f->blocks[at / CACHE_GRANULE] + within, n);
		}
		buf += n;
		at += n;
		len -= n;
	}
}

int flight_serve(struct flight *fl, struct fill *f, uint8_t *buf, size_t len, uint64_t off,
	size_t *ret, struct err *e)
{
	uint64_t covered = (uint64_t)f->count * CACHE_GRANULE - (off - f->off);
	size_t n = min_u64(len, covered);
	int r;

	pthread_mutex_lock(&fl->lock);
	r = await(fl, f, off - f->off + n, e);
	pthread_mutex_unlock(&fl->lock);
	if (r == 0) {
		copy_out(f, buf, n, off - f->off);
		*ret = n;
	}
	pthread_mutex_lock(&fl->lock);
	fill_unref(f);
	pthread_mutex_unlock(&fl->lock);
	return r;
}

bool flight_is_ending(struct flight *fl)
{
	LOCK_SCOPE(&fl->lock);

	return fl->ending;
}

void flight_interrupt(struct flight *fl)
{
	LOCK_SCOPE(&fl->lock);

	fl->ending = true;
	for (struct fill *f = fl->fills; f; f = f->next) {
		pthread_cond_broadcast(&f->wake);
	}
	fill_progress(fl);
}

void flight_fini(struct flight *fl)
{
	flight_interrupt(fl);
	pthread_mutex_lock(&fl->lock);
	while (fl->count > 0) {
		pthread_cond_wait(&fl->idle, &fl->lock);
	}
	pthread_mutex_unlock(&fl->lock);
	pthread_cond_destroy(&fl->progress);
	pthread_cond_destroy(&fl->idle);
	pthread_mutex_destroy(&fl->lock);
	listener_fini(&fl->withdrawn);
	bits_fini(&fl->ahead);
	bits_fini(&fl->replayed);
}
