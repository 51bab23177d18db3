/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over the image, a fill at a time, out of the readers' way. */
#include "cache/complete.h"

#include "cache/fill.h"
#include "core/bytes.h"
#include "core/cleanup.h"

#define MS UINT64_C(1000000)
/* A reader that waited so short a time ago will soon wait again. */
#define DEMAND_NS (50 * MS)
/* So long after the last one there is no reader to be careful about. */
#define ALONE_NS (2000 * MS)
/* Readers that never stop do not keep it from a small fill now and then. */
#define TRICKLE_NS (1000 * MS)
#define TRICKLE    KIB(256)
/* How much of the link's time one fill may take while there are readers: they wait behind it. */
#define SHORT_US UINT64_C(8000)
#define LOOK_NS  (10 * MS)
#define PASS_NS  (50 * MS)
#define IDLE_NS  (30000 * MS)
/* What is looked at in one step, so that nobody waits for the thread. */
#define LOOK_GRANULES 65536U
/* The image is fetched as a whole once this share of it was read: from there on reading piece by
 * piece takes longer than that. */
#define MUCH_PART 1
#define MUCH_OF   3
/* Where the cache does not hold all that it is to keep, what comes makes go what came before, and
 * there is no end to it. Something else may go meanwhile and be fetched again, but not all of it
 * twice: it is given up when more than this has come. The least is for images of which little is
 * absent. */
#define CHURN_FACTOR 2
#define CHURN_LEAST  MIB(64)

void complete_init(struct complete *c, struct flight *fl, struct spool *spool,
	enum complete_state state, uint64_t not_before_ns, uint64_t rate)
{
	*c = (struct complete){
		.flight = fl,
		.spool = spool,
		.rate = rate,
		.not_before_ns = not_before_ns,
		.launched_ns = not_before_ns,
		.bypassed = atomic_load(&fl->object->bypassed),
	};
	atomic_store(&c->state, state);
}

static void begin(struct complete *c)
{
	struct object *o = c->flight->object;
	uint64_t absent = o->size - min_u64(o->ops->present_bytes(o), o->size);

	c->enough = atomic_load(&c->flight->counts.completed) +
		    min_u64(absent, UINT64_MAX / 4) * CHURN_FACTOR + CHURN_LEAST;
	atomic_store(&c->state, COMPLETE_RUNNING);
}

void complete_again(struct complete *c)
{
	c->cursor = 0;
	c->missed = false;
	begin(c);
}

/* Whether the cache lets go of what is fetched, or does not take it. */
static bool is_not_kept(const struct complete *c)
{
	return atomic_load(&c->flight->object->bypassed) > c->bypassed ||
	       atomic_load(&c->flight->counts.completed) > c->enough;
}

/* Bytes that came because somebody guessed, and that nobody has read yet. */
static uint64_t unread(struct flight_counts *fc)
{
	uint64_t ahead = atomic_load(&fc->prefetched);
	uint64_t replayed = atomic_load(&fc->replayed);

	return ahead - min_u64(ahead, atomic_load(&fc->used)) +
	       (replayed - min_u64(replayed, atomic_load(&fc->foreseen)));
}

static bool much_was_read(struct flight *fl)
{
	struct object *o = fl->object;
	uint64_t here = o->granules - min_u64(atomic_load(&o->absent), o->granules);
	uint64_t guessed = unread(&fl->counts) / CACHE_GRANULE;

	return (here - min_u64(here, guessed)) * MUCH_OF >= o->granules * MUCH_PART;
}

/* Bytes that --complete-rate allows now, for a fill of @want at most. */
static uint64_t allowance(struct complete *c, uint64_t want, uint64_t now_ns)
{
	uint64_t passed = min_u64(now_ns - min_u64(now_ns, c->tokens_ns), 1000 * MS);
	uint64_t more;

	if (c->rate == 0) {
		return want;
	}
	if (c->tokens_ns == 0) {
		passed = 0;
	}
	more = min_u64(c->rate, GIB(1024)) * (passed / 1000) / 1000000;
	if (c->tokens_ns == 0 || more > 0) {
		c->tokens_ns = now_ns;
		c->tokens = min_u64(c->tokens + more, max_u64(c->rate / 8, CACHE_GRANULE));
	}
	return min_u64(want, c->tokens);
}

/* What the readers leave of the link. */
struct spare {
	uint64_t room; /* bytes that may be sent for now; 0: wait */
	uint64_t chunk;
};

static struct spare look(struct complete *c, uint64_t now_ns)
{
	struct flight *fl = c->flight;
	LOCK_SCOPE(&fl->lock);
	uint64_t since = fl->waited_ns ? now_ns - min_u64(now_ns, fl->waited_ns) : UINT64_MAX;
	uint64_t bdp = planner_bdp(&fl->planner);
	uint64_t most = 2 * bdp;
	struct spare s = { 0, planner_chunk(&fl->planner) };

	if (fl->waiting > 0 || since < DEMAND_NS) {
		if (now_ns - min_u64(now_ns, c->launched_ns) < TRICKLE_NS) {
			return s;
		}
		most = TRICKLE;
	} else if (since < ALONE_NS) {
		most = bdp / 2;
		s.chunk = planner_carries(&fl->planner, SHORT_US);
	}
	s.chunk = round_down(max_u64(s.chunk, CACHE_GRANULE), CACHE_GRANULE);
	most = max_u64(most, s.chunk);
	s.room = most - min_u64(most, fl->flying[FILL_COMPLETE]);
	return s;
}

/* Moves the cursor to what is absent next. False: nothing is, up to the end of the pass or of this
 * step. */
static bool find_absent(struct complete *c)
{
	struct object *o = c->flight->object;
	uint64_t end = min_u64(o->granules, c->cursor + LOOK_GRANULES);

	while (c->cursor < end && o->ops->present(o, c->cursor)) {
		c->cursor++;
	}
	return c->cursor < end;
}

/* The end of a pass. Returns when to go on. */
static uint64_t turn(struct complete *c)
{
	uint64_t flying;

	pthread_mutex_lock(&c->flight->lock);
	flying = c->flight->flying[FILL_COMPLETE];
	pthread_mutex_unlock(&c->flight->lock);
	if (flying == 0 && !c->missed) {
		atomic_store(&c->state, COMPLETE_DONE);
		return IDLE_NS;
	}
	if (flying == 0) {
		c->cursor = 0;
		c->missed = false;
	}
	return PASS_NS;
}

/* One fill. Returns in how many ns the next may be tried; 0: now. */
static uint64_t fetch_some(struct complete *c, uint64_t now_ns)
{
	struct object *o = c->flight->object;
	struct spare s;
	uint64_t want;
	uint64_t done;

	if (!find_absent(c)) {
		return c->cursor < o->granules ? 0 : turn(c);
	}
	s = look(c, now_ns);
	if (s.room < CACHE_GRANULE) {
		return LOOK_NS;
	}
	want = min_u64(s.chunk, round_down(s.room, CACHE_GRANULE));
	want = round_down(allowance(c, want, now_ns), CACHE_GRANULE);
	if (want == 0) {
		return LOOK_NS;
	}
	c->missed = true;
	done = flight_work(c->flight, c->cursor * CACHE_GRANULE, want, want, FILL_COMPLETE);
	if (done == 0) {
		return LOOK_NS;
	}
	c->cursor += div_round_up(done, CACHE_GRANULE);
	c->launched_ns = now_ns;
	c->tokens -= min_u64(c->tokens, done);
	return 0;
}

/* An image that only streams: whoever asks for what is absent makes it come. */
static uint64_t pull(struct complete *c)
{
	struct object *o = c->flight->object;
	uint8_t byte;

	if (!find_absent(c)) {
		return c->cursor < o->granules ? 0 : turn(c);
	}
	if (spool_read(c->spool, &byte, 1, c->cursor * CACHE_GRANULE, NULL) < 0) {
		return TRICKLE_NS;
	}
	c->missed = true;
	return c->cursor++ % 16 ? 0 : LOOK_NS;
}

static uint64_t run(struct complete *c, uint64_t now_ns)
{
	uint64_t wait = 0;

	while (wait == 0 && complete_state(c) == COMPLETE_RUNNING) {
		if (is_not_kept(c)) {
			atomic_store(&c->state, COMPLETE_NO_ROOM);
			return IDLE_NS;
		}
		if (flight_is_ending(c->flight)) {
			return IDLE_NS;
		}
		wait = c->spool ? pull(c) : fetch_some(c, now_ns);
	}
	return wait;
}

uint64_t complete_step(struct complete *c, uint64_t now_ns)
{
	if (complete_state(c) == COMPLETE_IDLE && much_was_read(c->flight)) {
		atomic_store(&c->state, COMPLETE_WAITING);
	}
	if (complete_state(c) == COMPLETE_WAITING) {
		if (now_ns < c->not_before_ns && atomic_load(&c->flight->object->absent) > 0) {
			return c->not_before_ns - now_ns;
		}
		c->bypassed = atomic_load(&c->flight->object->bypassed);
		begin(c);
	}
	return complete_state(c) == COMPLETE_RUNNING ? run(c, now_ns) : IDLE_NS;
}
