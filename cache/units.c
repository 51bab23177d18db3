/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: what they wait for, and what they are likely to want next. */
#include "cache/units.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cache/streams.h"
#include "core/cleanup.h"

/* Units up to this size are decoded to their end once somebody needed a part of them. */
#define FINISH MIB(32)
/* What is decoded ahead of one reader, at most, and what it read before that begins. */
#define AHEAD_MOST  MIB(512)
#define AHEAD_LEAST MIB(16)
#define RUN_LEAST   KIB(256)
/* A read continues a sequence when it begins so near to where that stands. */
#define SEQUENCE_BACK  KIB(512)
#define SEQUENCE_AHEAD MIB(1)

/* --- ahead of readers --- */

/* Gets [off, end) decoded, as far as there is somebody to do it. Returns where that ends. */
static uint64_t decode_ahead(struct units *u, uint64_t off, uint64_t end)
{
	while (off < end) {
		struct unit_stream *s;
		uint64_t start;
		uint64_t len;
		uint64_t stop;

		if (image_unit_at(u->below, off, &start, &len, NULL) < 0 || len == 0 ||
			streams_doom(u, off, 1)) {
			return end;
		}
		stop = min_u64(start + len, end);
		while (off < stop && streams_reach(u, off) > off) {
			off = streams_reach(u, off);
		}
		if (off >= stop) {
			continue;
		}
		s = streams_find(u, off, start, start + len);
		if (!s && (streams_start(u, off, start, stop, false, &s, NULL) < 0 || !s)) {
			return off;
		}
		streams_send(s, stop);
		off = stop;
	}
	return off;
}

/* How much is decoded ahead of a reader at @off that read @run bytes in a row. */
static uint64_t window(struct units *u, uint64_t off, uint64_t run)
{
	uint64_t most = u->opts.ahead ? u->opts.ahead : AHEAD_MOST;
	uint64_t want = AHEAD_LEAST;
	uint64_t start;
	uint64_t len;

	if (off < u->flight->object->size &&
		image_unit_at(u->below, off, &start, &len, NULL) == 0 && len <= AHEAD_MOST) {
		want = max_u64(want, len * u->cores);
	}
	if (u->opts.memory) {
		most = min_u64(most, u->opts.memory / 4);
	}
	return run < RUN_LEAST ? 0 : min_u64(min_u64(want, most), 4 * run);
}

/* The sequence that a read at @off continues, or a new one in place of the oldest. */
static struct unit_sequence *find_sequence(struct units *u, uint64_t off)
{
	struct unit_sequence *oldest = &u->sequences[0];

	for (unsigned int i = 0; i < UNITS_SEQUENCES; i++) {
		struct unit_sequence *q = &u->sequences[i];

		if (q->used && off + SEQUENCE_BACK >= q->next && off <= q->next + SEQUENCE_AHEAD) {
			return q;
		}
		if (q->used < oldest->used) {
			oldest = q;
		}
	}
	*oldest = (struct unit_sequence){ .next = off, .sent = off };
	return oldest;
}

static void note(struct units *u, uint64_t off, uint64_t len)
{
	struct unit_sequence *q = find_sequence(u, off);
	uint64_t ahead;

	q->used = ++u->ticks;
	q->run += len;
	q->next = max_u64(q->next, off + len);
	q->sent = max_u64(q->sent, q->next);
	ahead = window(u, q->next, q->run);
	/* In steps, so that few reads look around. */
	if (ahead > 0 && q->sent < q->next + ahead / 4 * 3) {
		uint64_t end = min_u64(q->next + ahead, u->flight->object->size);

		q->sent = max_u64(q->sent, decode_ahead(u, q->sent, end));
	}
}

void units_note(struct units *u, uint64_t off, uint64_t len)
{
	if (!u->opts.no_ahead && pthread_mutex_trylock(&u->lock) == 0) {
		if (!u->ending) {
			note(u, off, len);
		}
		pthread_mutex_unlock(&u->lock);
	}
}

void units_hint(struct units *u, uint64_t off, uint64_t len)
{
	LOCK_SCOPE(&u->lock);

	if (!u->ending) {
		(void)decode_ahead(u, off, off + len);
	}
}

/* --- readers --- */

static void leave(struct units *u, struct unit_waiter *w)
{
	struct unit_waiter **link = &u->waiters;

	while (*link != w) {
		link = &(*link)->next;
	}
	*link = w->next;
}

static void enter(struct units *u, struct unit_waiter *w)
{
	w->next = u->waiters;
	u->waiters = w;
}

static void advance(struct unit_waiter *w, size_t n)
{
	w->buf += n;
	w->off += n;
	w->len -= n;
}

/* What was stored since @w looked last may be what it waits for; no stream is on its way for it.
 * Out of the list meanwhile, so that nobody else writes to the buffer. */
static bool look_in_store(struct units *u, struct unit_waiter *w, uint64_t *seen)
{
	struct object *o = u->flight->object;
	size_t n;

	if (*seen == u->parts.stored) {
		return false;
	}
	*seen = u->parts.stored;
	leave(u, w);
	pthread_mutex_unlock(&u->lock);
	n = o->ops->read(o, w->buf, w->len, w->off);
	pthread_mutex_lock(&u->lock);
	enter(u, w);
	advance(w, n);
	return true;
}

static bool look_in_parts(struct units *u, struct unit_waiter *w)
{
	uint64_t end = units_end(u);
	size_t most = w->off < end ? min_u64(w->len, end - w->off) : 0;
	size_t n = parts_copy(&u->parts, w->buf, most, w->off);

	advance(w, n);
	return n > 0;
}

/* Finds or starts the stream that brings what @w needs next. */
static int attach(struct units *u, struct unit_waiter *w, struct err *e)
{
	uint64_t goal = w->off + w->len;
	uint64_t start;
	uint64_t len;
	int r = image_unit_at(u->below, w->off, &start, &len, e);

	if (r < 0) {
		return r;
	}
	if (len == 0) {
		start = w->off;
		len = w->len;
	}
	w->stream = streams_find(u, w->off, start, start + len);
	if (w->stream) {
		streams_send(w->stream, goal);
		return 0;
	}
	return streams_start(u, w->off, start, goal, true, &w->stream, e);
}

/* Whether @w wants what is known not to be there. */
static int check_end(struct units *u, const struct unit_waiter *w, struct err *e)
{
	uint64_t real = u->real;

	if (!u->provisional || u->exact) {
		return 0;
	}
	/* Further away than `size`: what reads the last byte learns where, for it waits that long.
	 */
	if (w->off >= real || (real != UINT64_MAX && u->longer && w->off >= units_end(u))) {
		(void)image_final_size(u->below, &real);
		return image_past_end(u->below, real, e);
	}
	return 0;
}

/* Whether @w wants what is known to be wrong. */
static int check_dooms(const struct units *u, const struct unit_waiter *w, struct err *e)
{
	const struct unit_doom *doom = streams_doom(u, w->off, w->len);

	return doom ? err_set(e, -EBADMSG, "%s", doom->err.text) : 0;
}

static int fail(const struct unit_waiter *w, struct err *e)
{
	return w->failed ? err_set(e, w->err.code, "%s", w->err.text)
			 : err_set(e, -ECANCELED, "the image is being closed");
}

/* With the lock held. */
static int wait_for(struct units *u, struct unit_waiter *w, struct err *e)
{
	uint64_t seen = u->parts.stored - 1;

	while (w->len > 0) {
		int r = check_end(u, w, e);

		if (r == 0) {
			r = check_dooms(u, w, e);
		}
		if (r < 0) {
			return r;
		}
		if (w->failed || u->ending) {
			return fail(w, e);
		}
		if (look_in_parts(u, w) || (!w->stream && look_in_store(u, w, &seen))) {
			continue;
		}
		r = w->stream ? 0 : attach(u, w, e);
		if (r < 0) {
			return r;
		}
		pthread_cond_wait(&u->progress, &u->lock);
	}
	return 0;
}

int units_read(struct units *u, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	struct unit_waiter w = { .buf = buf, .off = off, .len = len };
	int r;
	LOCK_SCOPE(&u->lock);

	enter(u, &w);
	r = wait_for(u, &w, e);
	leave(u, &w);
	return r;
}

int units_check(struct units *u, size_t len, uint64_t off, struct err *e)
{
	const struct unit_waiter w = { .off = off, .len = len };

	if (atomic_load_explicit(&u->doomed, memory_order_relaxed) == 0) {
		return 0;
	}
	LOCK_SCOPE(&u->lock);
	return check_dooms(u, &w, e);
}

/* Sends streams to the end of their units; false: none is on its way there any more. */
static bool send_home(struct units *u)
{
	bool any = false;

	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		struct unit_stream *s = &u->streams[i];
		uint64_t end = min_u64(s->unit_end, u->flight->object->size);

		if (s->used && !s->cancelled && !s->stopped && s->pos < end) {
			streams_send(s, end);
			any = true;
		}
	}
	return any;
}

void units_finish(struct units *u)
{
	LOCK_SCOPE(&u->lock);

	while (!u->ending && send_home(u)) {
		pthread_cond_wait(&u->progress, &u->lock);
	}
}

bool units_doubt(struct units *u)
{
	bool doubt;
	LOCK_SCOPE(&u->lock);

	/* What is paused is woken by who misses something, and then not all is stored. */
	doubt = u->doomed > 0;
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		doubt |= u->streams[i].used && !u->streams[i].parked;
	}
	return doubt;
}

/* --- life --- */

void units_interrupt(struct units *u)
{
	LOCK_SCOPE(&u->lock);

	u->ending = true;
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		pthread_cond_signal(&u->streams[i].wake);
	}
	pthread_cond_broadcast(&u->parts.changed);
	pthread_cond_broadcast(&u->progress);
}

void units_report(struct units *u, struct report *r)
{
	unsigned int running = 0;
	unsigned int waiting = 0;
	LOCK_SCOPE(&u->lock);

	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		running += u->streams[i].used && !u->streams[i].parked;
		waiting += u->streams[i].used && u->streams[i].parked;
	}
	report_u64(r, "decoding", running);
	report_u64(r, "decoding_paused", waiting);
}

static unsigned int count_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n > 1 ? (unsigned int)n : 1;
}

static void destroy(struct units *u)
{
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		pthread_cond_destroy(&u->streams[i].wake);
	}
	pthread_cond_destroy(&u->progress);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

int units_new(struct flight *fl, const struct units_opts *opts, struct units **ret, struct err *e)
{
	struct units *u = calloc(1, sizeof(*u));
	int r;

	if (!u) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	u->flight = fl;
	u->below = fl->below;
	u->opts = *opts;
	u->cores = count_cores();
	u->finish = opts->memory ? min_u64(FINISH, opts->memory / 4) : FINISH;
	u->provisional = u->below->flags & IMAGE_SIZE_PROVISIONAL;
	u->real = UINT64_MAX;
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->progress, NULL);
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		u->streams[i].units = u;
		pthread_cond_init(&u->streams[i].wake, NULL);
	}
	r = parts_init(&u->parts, fl, &u->lock, &u->progress, e);
	if (r < 0) {
		destroy(u);
		return r;
	}
	*ret = u;
	return 0;
}

void units_free(struct units *u)
{
	if (!u) {
		return;
	}
	units_interrupt(u);
	pthread_mutex_lock(&u->lock);
	while (u->threads > 0) {
		pthread_cond_wait(&u->progress, &u->lock);
	}
	pthread_mutex_unlock(&u->lock);
	parts_fini(&u->parts);
	destroy(u);
}
