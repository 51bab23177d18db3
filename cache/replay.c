/* SPDX-License-Identifier: Apache-2.0 */
/* From the entries of a trace to fills, at the pace of the link. */
#include "cache/replay.h"

#include <errno.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* Bounds of what is on its way at once. */
#define FLYING_LEAST KIB(512)
#define FLYING_MOST  MIB(24)
/* Within a window the order is that of places: neighbours meet, and nobody misses what is late by
 * so little. */
#define WINDOW_MS    2000U
#define WINDOW_LEAST MIB(4)
/* A hole between two runs is fetched along when that takes less than so much of a round trip: that
 * is what one request more costs when so many are on their way. */
#define GAP_SHARE 24U
#define GAP_MOST  KIB(512)

int replay_init(struct replay *r, struct flight *fl, uint64_t ahead_most)
{
	*r = (struct replay){ .flight = fl, .ahead_most = ahead_most };
	return bits_init(&r->known, fl->object->granules);
}

void replay_fini(struct replay *r)
{
	trace_clear(&r->trace);
	bits_fini(&r->known);
}

void replay_begin(struct replay *r, struct trace *t)
{
	struct flight *fl = r->flight;
	uint64_t foretold = 0;

	pthread_mutex_lock(&fl->lock);
	planner_foretold(&fl->planner);
	pthread_mutex_unlock(&fl->lock);
	trace_clear(&r->trace);
	r->trace = *t;
	*t = (struct trace){ 0 };
	r->next = 0;
	r->run = 0;
	r->run_count = 0;
	for (size_t i = 0; i < r->trace.count; i++) {
		const struct trace_entry *x = &r->trace.entries[i];

		if (trace_is_usual(&r->trace, x)) {
			bits_set(&r->known, x->granule);
			foretold++;
		}
	}
	atomic_store(&r->foretold, foretold);
	atomic_store(&r->boots, r->trace.boots);
	atomic_store(&r->active, true);
}

/* What the link suggests now. */
struct pace {
	uint64_t flying; /* bytes that were sent for and have not come */
	uint64_t room;   /* bytes that may be sent for now */
	uint64_t window; /* bytes to be looked at together */
	uint64_t gap;    /* bytes of a hole that is fetched along */
	uint64_t chunk;  /* bytes of one request */
};

static struct pace look(struct replay *r)
{
	struct flight *fl = r->flight;
	LOCK_SCOPE(&fl->lock);
	uint64_t bdp = planner_bdp(&fl->planner);
	uint64_t most = max_u64(FLYING_LEAST, min_u64(2 * bdp, FLYING_MOST));
	struct pace p = {
		.flying = fl->flying[FILL_REPLAY],
		.window = max_u64(WINDOW_LEAST, 2 * most),
		.gap = min_u64(bdp / GAP_SHARE, GAP_MOST),
		.chunk = planner_chunk(&fl->planner),
	};

	/* Who waits is not to share the link with more than keeps it busy. */
	if (fl->waiting > 0) {
		most /= 2;
	}
	p.room = most - min_u64(most, p.flying);
	return p;
}

/* Whether more may come before what came was read: memory is small. */
static bool may_run_ahead(const struct replay *r)
{
	struct flight_counts *c = &r->flight->counts;
	uint64_t came = atomic_load(&c->replayed);
	uint64_t read = atomic_load(&c->foreseen);

	return r->ahead_most == 0 || came < read + r->ahead_most;
}

/* The next run to fetch, or NULL at the end. */
static struct trace_run *next_run(struct replay *r, const struct pace *p)
{
	size_t room = min_u64(p->window / CACHE_GRANULE, REPLAY_RUNS);

	while (r->run < r->run_count && r->runs[r->run].count == 0) {
		r->run++;
	}
	if (r->run == r->run_count) {
		r->run = 0;
		r->run_count = trace_window(&r->trace, &r->next, WINDOW_MS,
			(uint32_t)(p->gap / CACHE_GRANULE), r->runs, room);
	}
	return r->run_count > 0 ? &r->runs[r->run] : NULL;
}

bool replay_step(struct replay *r)
{
	while (atomic_load(&r->active)) {
		struct pace p = look(r);
		struct trace_run *run;
		uint64_t done;

		if (p.room < CACHE_GRANULE || !may_run_ahead(r)) {
			return true;
		}
		run = next_run(r, &p);
		if (!run && p.flying > 0) {
			return true;
		}
		if (!run) {
			atomic_store(&r->active, false);
			break;
		}
		done = flight_work(r->flight, (uint64_t)run->first * CACHE_GRANULE,
			min_u64((uint64_t)run->count * CACHE_GRANULE,
				round_down(p.room, CACHE_GRANULE)),
			p.chunk, FILL_REPLAY);
		if (done == 0) {
			return true;
		}
		run->first += (uint32_t)(done / CACHE_GRANULE);
		run->count -= (uint32_t)(done / CACHE_GRANULE);
	}
	return false;
}
