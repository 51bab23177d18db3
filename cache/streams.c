/* SPDX-License-Identifier: Apache-2.0 */
/* One thread a stream: it decodes from somewhere on, hands out what comes, and knows when to stop.
 */
#include "cache/streams.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/cleanup.h"

/* Decoding so many bytes for nothing is cheaper than another stream. */
#define NEAR MIB(1)
/* The same for making a granule whole that begins in the unit before. */
#define EDGE_COST KIB(256)

/* --- handing out --- */

static void feed(struct units *u, uint64_t off, const uint8_t *data, size_t n)
{
	uint64_t end = min_u64(off + n, units_end(u));
	bool any = false;

	for (struct unit_waiter *w = u->waiters; w; w = w->next) {
		if (w->len > 0 && w->off >= off && w->off < end) {
			size_t piece = min_u64(w->len, end - w->off);

			memcpy(w->buf, data + (w->off - off), piece);
			w->buf += piece;
			w->off += piece;
			w->len -= piece;
			any |= w->len == 0;
		}
	}
	if (any) {
		pthread_cond_broadcast(&u->progress);
	}
}

static bool is_absent(struct units *u, uint64_t g)
{
	struct object *o = u->flight->object;

	return !o->ops->present(o, g) && !parts_is_whole(&u->parts, g);
}

uint64_t streams_reach(const struct units *u, uint64_t off)
{
	struct object *o = u->flight->object;

	if (off < o->size && o->ops->present(o, off / CACHE_GRANULE)) {
		return round_down(off, CACHE_GRANULE) + CACHE_GRANULE;
	}
	return off + parts_reach(&u->parts, off);
}

const struct unit_doom *streams_doom(const struct units *u, uint64_t off, uint64_t len)
{
	for (unsigned int i = 0; i < min_u64(u->doomed, UNITS_DOOMS); i++) {
		const struct unit_doom *doom = &u->dooms[i];

		if (off < doom->to && off + len > doom->from) {
			return doom;
		}
	}
	return NULL;
}

/* The last granule of a provisional image is whole when the end was seen, and not before. */
static bool awaits_end(const struct units *u, uint64_t pos)
{
	return pos == u->flight->object->size && u->provisional && !u->exact;
}

/* Takes @n bytes that do not reach over the end of a granule. */
static void take(struct unit_stream *s, const uint8_t *data, size_t n)
{
	struct units *u = s->units;
	uint64_t g = s->pos / CACHE_GRANULE;
	size_t within = s->pos % CACHE_GRANULE;

	feed(u, s->pos, data, n);
	if (!s->current && (within == 0 || s->pos == s->from) && is_absent(u, g)) {
		s->current = parts_begin(&u->parts, g, within);
	}
	if (s->current) {
		memcpy(s->current->block + within, data, n);
		s->current->hi = within + n;
	}
	s->pos += n;
	if (s->current && within + n == object_granule_len(u->flight->object, g) &&
		!awaits_end(u, s->pos)) {
		parts_settle(&u->parts, s->current);
		s->current = NULL;
	}
}

/* --- when to stop --- */

/* Whether somebody has decoded the unit that begins where @s is, or is about to. */
static bool is_taken_care_of(struct units *u, const struct unit_stream *s)
{
	if (streams_reach(u, s->pos) > s->pos) {
		return true;
	}
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		const struct unit_stream *o = &u->streams[i];

		/* It began here, or will come by. */
		if (o != s && o->used && !o->cancelled && !o->stopped &&
			(o->from == s->pos || (o->pos <= s->pos && o->goal > s->pos))) {
			return true;
		}
	}
	return false;
}

static int find_unit(struct unit_stream *s, uint64_t off)
{
	struct units *u = s->units;
	uint64_t start;
	uint64_t len;
	int r = image_unit_at(u->below, off, &start, &len, NULL);

	if (r < 0) {
		return r;
	}
	/* What is cheap anywhere is one unit as good as any. */
	s->unit_start = len ? start : off;
	s->unit_end = len ? start + len : u->flight->object->size;
	return 0;
}

/* At the beginning of a unit: whether to go on into it. */
static bool enter_unit(struct unit_stream *s)
{
	uint64_t edge = round_up(s->pos, CACHE_GRANULE);

	if (find_unit(s, s->pos) < 0) {
		return false;
	}
	if (s->current && s->goal < edge && s->unit_end - s->unit_start <= EDGE_COST) {
		s->goal = edge;
	}
	return s->goal > s->pos && !is_taken_care_of(s->units, s) &&
	       !streams_doom(s->units, s->pos, 1);
}

static bool is_wanted(const struct unit_stream *s)
{
	const struct units *u = s->units;
	/* Whole granules can be kept. */
	uint64_t goal = min_u64(round_up(s->goal, CACHE_GRANULE), max_u64(s->goal, s->unit_end));

	/* Behind its assumed end, an image is decoded to learn where it really ends. */
	if (s->pos >= u->flight->object->size) {
		return true;
	}
	if (s->unit_end - s->unit_start <= u->finish) {
		goal = max_u64(goal, s->unit_end);
	}
	return s->pos < goal;
}

/* Between small units a stream waits for who goes on, too: to begin anew costs as much as one. */
static bool rests(const struct unit_stream *s)
{
	return s->goal <= s->pos && !s->current && s->unit_end - s->unit_start <= EDGE_COST;
}

/* Whether the stream shall have more; waits until somebody needs it. */
static bool goes_on(struct unit_stream *s)
{
	struct units *u = s->units;

	while (!u->ending && !s->cancelled) {
		if (s->pos == s->unit_end && s->pos < u->flight->object->size && !rests(s) &&
			!enter_unit(s)) {
			return false;
		}
		if (is_wanted(s)) {
			return true;
		}
		s->parked = true;
		s->parked_at = ++u->ticks;
		pthread_cond_broadcast(&u->progress);
		pthread_cond_wait(&s->wake, &u->lock);
		s->parked = false;
	}
	return false;
}

static int stream_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct unit_stream *s = ctx;
	struct units *u = s->units;
	const uint8_t *data = buf;
	LOCK_SCOPE(&u->lock);

	assert(off == s->pos);
	if (n == 0) {
		s->stopped = s->stopped || !goes_on(s);
	}
	while (n > 0 && !s->stopped) {
		uint64_t size = u->flight->object->size;
		uint64_t stop =
			min_u64(s->unit_end, round_down(s->pos, CACHE_GRANULE) + CACHE_GRANULE);
		size_t piece;

		parts_throttle(&u->parts, &u->ending);
		s->stopped = !goes_on(s);
		if (s->stopped) {
			break;
		}
		if (s->pos >= size) {
			u->longer = true;
			s->pos += n;
			pthread_cond_broadcast(&u->progress);
			break;
		}
		if (s->pos >= stop) {
			continue; /* another unit, other bounds */
		}
		piece = min_u64(n, min_u64(stop, size) - s->pos);
		take(s, data, piece);
		data += piece;
		n -= piece;
	}
	return s->stopped ? -ECANCELED : 0;
}

/* --- the thread --- */

/* The stream is over, and not because its sink said so: what this says of the end. */
static void note_end(struct unit_stream *s)
{
	struct units *u = s->units;
	uint64_t size = u->flight->object->size;

	if (s->pos == size) {
		u->exact = true;
	} else {
		u->real = s->pos;
		u->longer = s->pos > size;
	}
}

static void settle(struct unit_stream *s)
{
	struct units *u = s->units;
	const struct object *o = u->flight->object;

	if (!s->current) {
		return;
	}
	/* Whether the byte that is assumed to be the last one is that is not known. */
	if (u->provisional && !u->exact && s->current->granule == o->granules - 1 &&
		s->current->hi == object_granule_len(o, o->granules - 1)) {
		s->current->hi--;
	}
	parts_settle(&u->parts, s->current);
	s->current = NULL;
}

/* What was handed out and stored of these bytes was wrong, or nobody knows: it is not kept, and who
 * asks for it again is told. */
static void condemn(struct unit_stream *s, const struct err *e)
{
	struct units *u = s->units;
	uint64_t from = s->unit_start;
	uint64_t len = max_u64(s->unit_end, s->pos) - from;
	uint64_t to;
	uint64_t first;
	uint64_t end;

	if (u->below->ops->doubt_at) {
		u->below->ops->doubt_at(u->below, s->pos, &from, &len);
	}
	to = len < UINT64_MAX - from ? from + len : UINT64_MAX;
	first = from / CACHE_GRANULE;
	end = min_u64(div_round_up(min_u64(to, u->flight->object->size), CACHE_GRANULE),
		div_round_up(max_u64(s->pos, from), CACHE_GRANULE));
	if (end > first) {
		parts_forget(&u->parts, first, end - first);
		u->flight->object->ops->forget(u->flight->object, first, end - first);
	}
	/* Last: whoever got the error does not find these bytes any more, nor does who is told. */
	u->dooms[u->doomed % UNITS_DOOMS] = (struct unit_doom){ from, to, *e };
	u->doomed++;
	listener_tell(&u->flight->withdrawn);
}

static void finish(struct unit_stream *s, int r, struct err *e)
{
	struct units *u = s->units;

	if (r == 0 && !s->stopped && u->provisional) {
		note_end(s);
	} else if (r == 0 && !s->stopped && s->pos < u->flight->object->size) {
		r = err_set(e, -EIO, "%s: the data ended early", u->below->ops->name);
	}
	settle(s);
	if (r == -EBADMSG && !s->stopped) {
		condemn(s, e);
	}
	for (struct unit_waiter *w = u->waiters; w; w = w->next) {
		if (w->stream == s && r < 0 && !s->stopped) {
			w->failed = true;
			w->err = *e;
			w->err.code = r;
		}
		w->stream = w->stream == s ? NULL : w->stream;
	}
	s->used = false;
	u->threads--;
	pthread_cond_broadcast(&u->progress);
}

static void *stream_main(void *arg)
{
	struct unit_stream *s = arg;
	struct units *u = s->units;
	struct err e = { 0 };
	int r;

	pthread_setname_np(pthread_self(), "cache-decode");
	r = image_stream_at(
		u->below, s->from, u->flight->object->size - s->from, stream_sink, s, &e);
	LOCK_SCOPE(&u->lock);
	finish(s, r, &e);
	return NULL;
}

/* --- for units.c --- */

void streams_send(struct unit_stream *s, uint64_t goal)
{
	if (goal > s->goal) {
		s->goal = goal;
		pthread_cond_signal(&s->wake);
	}
}

/* Whether @s comes to @off, or is in its granule. */
static bool leads_to(const struct unit_stream *s, uint64_t off)
{
	return s->pos <= off || (s->current && s->current->granule == off / CACHE_GRANULE &&
					s->current->lo <= off % CACHE_GRANULE);
}

struct unit_stream *streams_find(struct units *u, uint64_t off, uint64_t start, uint64_t end)
{
	struct unit_stream *best = NULL;

	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		struct unit_stream *s = &u->streams[i];

		if (s->used && !s->cancelled && !s->stopped && leads_to(s, off) && off < end &&
			(s->pos >= start || off - s->pos <= NEAR) &&
			(!best || s->pos > best->pos)) {
			best = s;
		}
	}
	return best;
}

static bool has_waiters(const struct units *u, const struct unit_stream *s)
{
	const struct unit_waiter *w = u->waiters;

	while (w && w->stream != s) {
		w = w->next;
	}
	return w != NULL;
}

/* Ends a stream that nobody waits for; the longest parked first, and others only on @demand. */
static void make_room(struct units *u, bool demand)
{
	struct unit_stream *victim = NULL;

	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		struct unit_stream *s = &u->streams[i];

		if (!s->used || s->cancelled || has_waiters(u, s) || !(s->parked || demand)) {
			continue;
		}
		if (!victim ||
			(s->parked && (!victim->parked || s->parked_at < victim->parked_at))) {
			victim = s;
		}
	}
	if (victim) {
		victim->cancelled = true;
		pthread_cond_signal(&victim->wake);
	}
}

/* A free slot, or NULL. */
static struct unit_stream *find_slot(struct units *u, bool demand)
{
	struct unit_stream *slot = NULL;
	unsigned int used = 0;
	unsigned int running = 0;

	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		used += u->streams[i].used;
		running += u->streams[i].used && !u->streams[i].parked;
		slot = u->streams[i].used ? slot : &u->streams[i];
	}
	if (demand ? used < min_u64(u->cores + 2, STREAMS_MOST)
		   : running < u->cores && used < min_u64(u->cores + 1, STREAMS_MOST)) {
		return slot;
	}
	if (demand || running < u->cores) {
		make_room(u, demand);
	}
	return NULL;
}

/* Whether the bytes before @off, of the same granule, are here or on their way. */
static bool has_edge(const struct units *u, uint64_t off)
{
	for (unsigned int i = 0; i < STREAMS_MOST; i++) {
		const struct unit_stream *s = &u->streams[i];

		if (s->used && !s->cancelled && !s->stopped && s->pos < off && s->unit_end == off) {
			return true;
		}
	}
	return parts_reach(&u->parts, off - 1) > 0;
}

/* Where a stream for @off had best begin: at the first granule of its unit that is absent, and with
 * a whole granule where that costs little. */
static uint64_t choose_start(struct units *u, uint64_t off, uint64_t start)
{
	uint64_t from = start;
	uint64_t next = streams_reach(u, from);
	uint64_t aligned;
	uint64_t unit;
	uint64_t len;

	while (from < off && next > from) {
		from = next;
		next = streams_reach(u, from);
	}
	from = min_u64(from, off);
	aligned = round_down(from, CACHE_GRANULE);
	if (aligned < from && !has_edge(u, from) &&
		image_unit_at(u->below, aligned, &unit, &len, NULL) == 0 &&
		(len == 0 || aligned - unit <= EDGE_COST)) {
		from = aligned;
	}
	return from;
}

static int launch(struct unit_stream *s)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, stream_main, s);
	pthread_attr_destroy(&attr);
	return -r;
}

int streams_start(struct units *u, uint64_t off, uint64_t start, uint64_t goal, bool demand,
	struct unit_stream **ret, struct err *e)
{
	struct unit_stream *s = find_slot(u, demand);
	int r;

	*ret = NULL;
	if (!s) {
		return 0;
	}
	s->from = choose_start(u, off, start);
	s->pos = s->from;
	s->goal = goal;
	s->parked = false;
	s->cancelled = false;
	s->stopped = false;
	s->current = NULL;
	r = find_unit(s, s->from);
	if (r == 0) {
		r = launch(s);
	}
	if (r < 0) {
		return err_sys(e, r, "cannot start decoding");
	}
	s->used = true;
	u->threads++;
	atomic_fetch_add(&u->flight->counts.fills, 1);
	*ret = s;
	return 0;
}
