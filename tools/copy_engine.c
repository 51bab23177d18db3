/* SPDX-License-Identifier: Apache-2.0 */
/* Threads over a plan. */
#include "tools/copy_engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tools/copy_crew.h"

/* Zeros within data are looked for in pieces of this size. */
#define PIECE KIB(64)

/* Hints are given when there is room for so much, so that each is of many units: few, large
 * requests. */
#define HINT_LEAST MIB(3)
#define HINT_UNITS 4U

/* So far ahead of the readers an agenda is looked through, bytes of the image below. What was
 * decoded has to be remembered until it is read, and what it was decoded of shares the memory. */
#define AGENDA_AHEAD MIB(8)
/* What lies beside that image is not ahead in it: so many bytes of the disk. */
#define BESIDE_AHEAD MIB(16)

struct task {
	struct task *next; /* that is being read */
	size_t number;     /* of the unit in the plan */
	struct copy_unit unit;
};

struct run {
	struct copy_crew crew;
	int (*work)(struct run *run, struct task *task, uint8_t *buf);
	image_sink_fn *sink; /* of a rereading */
	void *ctx;
	uint64_t window;         /* 0: no hints */
	pthread_mutex_t hinting; /* so that hints are given in order; taken before the crew's */
	/* Under the crew's lock: */
	pthread_cond_t turn; /* `readers` became less, or the plan grew */
	pthread_cond_t room; /* a unit was taken or read: more of the agenda may be looked at */
	bool grows;          /* the plan does, by the agenda */
	uint64_t beside;     /* bytes of such units that nobody has taken */
	uint64_t told;       /* bytes of the image that the agenda has brought, */
	uint64_t holes;      /* of these, zeros that a table spoke of */
	unsigned int readers;
	struct task *reading;
	size_t next_zero; /* unit */
	size_t next;      /* unit of data */
	size_t hinted;    /* units of data before it have been hinted at */
	uint64_t ahead;   /* bytes that the units [next, hinted) need */
};

/* Units of data that come next, or some of them, that lie one after the other and still have to be
 * fetched. False: there is none, or no room for them. */
static bool next_hint(struct run *run, struct copy_unit *ret)
{
	const struct copy_engine *engine = run->crew.engine;
	const struct copy_plan *plan = engine->plan;
	struct copy_unit hint = { 0 };
	LOCK_SCOPE(&run->crew.lock);

	run->hinted = max_u64(run->hinted, run->next);
	for (; run->hinted < plan->count && run->ahead < run->window; run->hinted++) {
		const struct copy_unit *unit = &plan->units[run->hinted];
		bool known = engine->known && engine->known[run->hinted];

		if (hint.len > 0 && (known || unit->off != hint.off + hint.len ||
					    hint.len >= HINT_UNITS * COPY_UNIT)) {
			break;
		}
		run->ahead += unit->fetch;
		if (!known) {
			hint.off = hint.len > 0 ? hint.off : unit->off;
			hint.len += unit->len;
		}
	}
	*ret = hint;
	return hint.len > 0;
}

static bool may_hint(struct run *run)
{
	LOCK_SCOPE(&run->crew.lock);

	return run->hinted < run->crew.engine->plan->count &&
	       run->ahead + min_u64(HINT_LEAST, run->window) <= run->window;
}

/* Names the units that come next, so that their bytes are on the way when somebody reads them. */
static void hint(struct run *run)
{
	struct copy_unit next;

	if (!run->window || !may_hint(run)) {
		return;
	}
	LOCK_SCOPE(&run->hinting);
	while (next_hint(run, &next)) {
		image_prefetch(run->crew.engine->image, next.off, next.len);
	}
}

/* Under the crew's lock: whether nobody shall begin anything. */
static bool is_over(const struct run *run)
{
	return run->crew.failed || *run->crew.engine->stop;
}

/* Under the crew's lock. */
static bool take_zeros(struct run *run, struct task *ret)
{
	const struct copy_plan *plan = run->crew.engine->plan;

	if (is_over(run) || run->next_zero == plan->zeros) {
		return false;
	}
	ret->number = run->next_zero++;
	ret->unit = plan->units[ret->number];
	return true;
}

/* Under the crew's lock, if there are others: until leave() the unit is being read. */
static void enter(struct run *run, struct task *task)
{
	run->readers++;
	task->next = run->reading;
	run->reading = task;
}

/* Under the crew's lock. Waits for its turn to read. */
static bool take_data(struct run *run, struct task *ret)
{
	const struct copy_engine *engine = run->crew.engine;
	const struct copy_plan *plan = engine->plan;

	while (!is_over(run) &&
		(run->next < plan->count ? run->readers == engine->readers : run->grows)) {
		pthread_cond_wait(&run->turn, &run->crew.lock);
	}
	if (is_over(run) || run->next == plan->count) {
		return false;
	}
	if (run->next < run->hinted) {
		run->ahead -= plan->units[run->next].fetch;
	}
	ret->number = run->next++;
	ret->unit = plan->units[ret->number];
	run->beside -= run->grows && ret->unit.beside ? ret->unit.len : 0;
	enter(run, ret);
	pthread_cond_signal(&run->room);
	return true;
}

/* The next unit; when there is data in it, leave() is to follow. False when there is none, or the
 * copy is over. One thread begins with the zeros, so that the network waits for nobody meanwhile.
 */
static bool take(struct run *run, bool zeros, struct task *ret)
{
	LOCK_SCOPE(&run->crew.lock);

	if ((zeros && take_zeros(run, ret)) || take_data(run, ret)) {
		return true;
	}
	/* Who waits for a turn that does not come any more wakes the next one. */
	pthread_cond_signal(&run->turn);
	return take_zeros(run, ret);
}

/* The unit was read: it is another's turn. */
static void leave(struct run *run, struct task *task)
{
	struct task **link = &run->reading;
	LOCK_SCOPE(&run->crew.lock);

	while (*link != task) {
		link = &(*link)->next;
	}
	*link = task->next;
	run->readers--;
	pthread_cond_signal(&run->turn);
	pthread_cond_signal(&run->room);
}

static int zero(struct copy_engine *engine, uint64_t off, uint64_t len, struct err *e)
{
	int r = engine->sink->ops->zero(engine->sink, off, len, e);

	if (r == 0) {
		engine->counters.zeroed += len;
	}
	return r;
}

static int put(
	struct copy_engine *engine, const uint8_t *buf, uint64_t off, size_t len, struct err *e)
{
	int r = engine->sink->ops->write(engine->sink, buf, len, off, e);

	if (r == 0) {
		engine->counters.written += len;
	}
	return r;
}

/* Writes runs of data, zeroes runs of zeros. */
static int put_sparse(
	struct copy_engine *engine, const uint8_t *buf, uint64_t off, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		size_t n = min_u64(PIECE, len - at);
		bool zeros = is_zero(buf + at, n);
		int r;

		while (at + n < len &&
			is_zero(buf + at + n, min_u64(PIECE, len - at - n)) == zeros) {
			n += min_u64(PIECE, len - at - n);
		}
		r = zeros ? zero(engine, off + at, n, e) : put(engine, buf + at, off + at, n, e);
		if (r < 0) {
			return r;
		}
		at += n;
	}
	return 0;
}

int copy_engine_put(
	struct copy_engine *engine, uint8_t *buf, uint64_t off, size_t len, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	memset(buf + len, 0, round_up(len, SINK_ALIGN) - len);
	if (off < engine->withhold) {
		kept = min_u64(engine->withhold - off, len);
		memcpy(engine->head + off, buf, kept);
		r = zero(engine, off, kept, e);
	}
	return r < 0 ? r : put_sparse(engine, buf + kept, off + kept, len - kept, e);
}

/* Whether an earlier run has put the unit where it belongs. */
static bool is_there(struct copy_engine *engine, const struct task *task, uint8_t *buf)
{
	const struct copy_unit *unit = &task->unit;

	if (!engine->known || !engine->known[task->number]) {
		return false;
	}
	if (engine->sink->ops->read(engine->sink, buf, unit->len, unit->off, NULL) < 0 ||
		copy_sum(buf, unit->len) != engine->known[task->number]) {
		engine->counters.changed += unit->len;
		return false;
	}
	return true;
}

/* Gets the unit into @buf, from the target when it is there already (*ret_there). */
static int get(
	struct run *run, const struct task *task, uint8_t *buf, bool *ret_there, struct err *e)
{
	struct copy_engine *engine = run->crew.engine;
	const struct copy_unit *unit = &task->unit;
	int r;

	*ret_there = is_there(engine, task, buf);
	if (*ret_there) {
		engine->counters.skipped += unit->len;
		return 0;
	}
	copy_crew_pace(&run->crew, unit->len);
	r = image_read_at(engine->image, buf, unit->len, unit->off, e);
	if (r == 0) {
		engine->counters.read += unit->len;
	}
	return r;
}

/* The unit is on the target as it is in @buf, or withheld. */
static void note_done(struct run *run, const struct task *task, const uint8_t *buf)
{
	struct copy_engine *engine = run->crew.engine;
	uint64_t sum = copy_sum(buf, task->unit.len);
	LOCK_SCOPE(&run->crew.lock);

	engine->counters.data += task->unit.len;
	__atomic_store_n(&engine->sums[task->number - engine->sum_base], sum, __ATOMIC_RELEASE);
}

static int copy_data(struct run *run, struct task *task, uint8_t *buf)
{
	struct copy_engine *engine = run->crew.engine;
	const struct copy_unit *unit = &task->unit;
	bool there;
	struct err e;
	int r = get(run, task, buf, &there, &e);

	leave(run, task);
	if (r < 0) {
		return copy_crew_fail(&run->crew, COPY_SIDE_SOURCE, r, &e);
	}
	if (!there) {
		r = copy_engine_put(engine, buf, unit->off, unit->len, &e);
		if (r < 0) {
			return copy_crew_fail(&run->crew, COPY_SIDE_TARGET, r, &e);
		}
	}
	note_done(run, task, buf);
	return 0;
}

/* Whether it was the thread's turn to read that it took the unit for. */
static bool took_turn(const struct run *run, const struct task *task)
{
	return task->number >= run->crew.engine->plan->zeros;
}

static int copy_unit(struct run *run, struct task *task, uint8_t *buf)
{
	const struct copy_unit *unit = &task->unit;
	struct err e;
	int r;

	if (!unit->zero) {
		return copy_data(run, task, buf);
	}
	if (took_turn(run, task)) {
		leave(run, task);
	}
	r = zero(run->crew.engine, unit->off, unit->len, &e);
	return r < 0 ? copy_crew_fail(&run->crew, COPY_SIDE_TARGET, r, &e) : 0;
}

static int differs(struct run *run, uint64_t off)
{
	struct err e;
	int r = err_set(&e, -ENOKEY, "%s does not hold what was written at byte %" PRIu64,
		run->crew.engine->sink->path, off);

	return copy_crew_fail(&run->crew, COPY_SIDE_TARGET, r, &e);
}

static int read_back(struct run *run, const struct task *task, uint8_t *buf)
{
	struct copy_engine *engine = run->crew.engine;
	const struct copy_unit *unit = &task->unit;
	uint64_t at = unit->off;
	uint64_t end = unit->off + unit->len;

	while (at < end && !copy_crew_is_over(&run->crew)) {
		/* The tail begins where the image ends, which may be anywhere. */
		uint64_t from = round_down(at, SINK_ALIGN);
		size_t n = min_u64(end - from, COPY_UNIT);
		struct err e;
		int r = engine->sink->ops->read(engine->sink, buf, n, from, &e);

		if (r < 0) {
			return copy_crew_fail(&run->crew, COPY_SIDE_TARGET, r, &e);
		}
		if (unit->zero ? !is_zero(buf + (at - from), n - (at - from))
			       : copy_sum(buf, n) !=
					 engine->sums[task->number - engine->sum_base]) {
			return differs(run, at);
		}
		at = from + n;
	}
	return 0;
}

static int verify_unit(struct run *run, struct task *task, uint8_t *buf)
{
	int r = read_back(run, task, buf);

	if (took_turn(run, task)) {
		leave(run, task);
	}
	if (!task->unit.zero) {
		run->crew.engine->counters.verified += task->unit.len;
	}
	return r;
}

/* --- an agenda --- */

/* Under the crew's lock: where below the first byte lies that still has to be read of what the plan
 * has. */
static uint64_t read_up_to(const struct run *run)
{
	const struct copy_plan *plan = run->crew.engine->plan;
	uint64_t host = run->next < plan->count ? plan->units[run->next].host : EXTENT_NO_HOST;

	for (const struct task *task = run->reading; task; task = task->next) {
		host = min_u64(host, task->unit.host);
	}
	return host;
}

/* Under the crew's lock: whether what lies at @host is too far ahead of the readers, or they have
 * enough to do. */
static bool is_early(const struct run *run, uint64_t host)
{
	return run->beside >= BESIDE_AHEAD ||
	       (host > AGENDA_AHEAD && host - AGENDA_AHEAD > read_up_to(run));
}

/* Waits until the readers are so near to @host that what lies there may be looked at. */
static bool wait_for_room(struct run *run, uint64_t host)
{
	LOCK_SCOPE(&run->crew.lock);

	while (!is_over(run) && is_early(run, host)) {
		pthread_cond_wait(&run->room, &run->crew.lock);
	}
	return !is_over(run);
}

/* Room for the sums of one unit more than there are. */
static int make_sums(struct copy_engine *engine, size_t count, struct err *e)
{
	size_t room = 2 * count;
	uint64_t *sums;

	if (count < engine->sum_count) {
		return 0;
	}
	sums = reallocarray(engine->sums, room, sizeof(*sums));
	if (!sums) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memset(sums + engine->sum_count, 0, (room - engine->sum_count) * sizeof(*sums));
	engine->sums = sums;
	engine->sum_count = room;
	return 0;
}

/* Under the crew's lock: how much data there is in all if what other tables speak of is like what
 * was seen of these. */
static uint64_t extrapolate(const struct run *run)
{
	const struct copy_engine *engine = run->crew.engine;
	double data = (double)engine->plan->data_bytes;
	double rest = (double)(engine->image->size - run->told);

	return data > 0 ? (uint64_t)(data + rest * data / (data + (double)run->holes)) : 0;
}

static int add_unit(struct run *run, const struct copy_unit *unit, struct err *e)
{
	struct copy_engine *engine = run->crew.engine;
	int r;
	LOCK_SCOPE(&run->crew.lock);

	r = make_sums(engine, engine->plan->count + 1, e);
	if (r == 0) {
		r = copy_plan_append(engine->plan, unit, e);
	}
	if (r == 0) {
		run->told += unit->len;
		run->beside += unit->beside ? unit->len : 0;
		run->holes += unit->zero && unit->host > 0 ? unit->len : 0;
		engine->counters.expected = extrapolate(run);
		pthread_cond_signal(&run->turn);
	}
	return r;
}

/* The thread that goes through the agenda, a little ahead of the readers. */
static void look_through(struct run *run)
{
	struct copy_engine *engine = run->crew.engine;
	struct copy_unit unit;
	struct err e;
	uint64_t host;
	int r = 0;

	while (r >= 0 && copy_agenda_peek(engine->agenda, &host) && wait_for_room(run, host)) {
		r = copy_agenda_next(engine->agenda, &unit, &e);
		if (r > 0) {
			r = add_unit(run, &unit, &e);
			if (r == 0 && !unit.zero && engine->window) {
				image_prefetch(engine->image, unit.off, unit.len);
			}
		}
	}
	if (r < 0) {
		copy_crew_fail(&run->crew, COPY_SIDE_SOURCE, r, &e);
	}
	LOCK_SCOPE(&run->crew.lock);
	run->grows = false;
	engine->counters.expected = engine->plan->data_bytes;
	pthread_cond_broadcast(&run->turn);
}

/* --- all --- */

static void run_wake(struct copy_crew *crew)
{
	struct run *run = (struct run *)crew;
	LOCK_SCOPE(&crew->lock);

	pthread_cond_broadcast(&run->turn);
	pthread_cond_broadcast(&run->room);
}

static void worker(struct copy_crew *crew, unsigned int number)
{
	struct run *run = (struct run *)crew;
	CLEANUP_FREE uint8_t *buf = aligned_alloc(SINK_ALIGN, COPY_UNIT);
	bool ok = buf != NULL;
	struct task task;

	if (number == crew->engine->threads) {
		look_through(run);
		return;
	}
	if (!ok) {
		struct err e;

		copy_crew_fail(crew, COPY_SIDE_TARGET, err_set(&e, -ENOMEM, "out of memory"), &e);
	}
	hint(run);
	while (ok && take(run, number == 0, &task)) {
		hint(run);
		ok = run->work(run, &task, buf) == 0;
	}
}

/* Hands one unit on. False: it has to come from the image, and is not withheld. */
static bool reread_unit(struct run *run, size_t number, uint8_t *buf)
{
	struct copy_engine *engine = run->crew.engine;
	const struct copy_unit *unit = &engine->plan->units[number];
	struct task task = { .number = number, .unit = *unit };

	if (unit->off < engine->withhold) {
		enter(run, &task); /* copy_data() leaves */
		return copy_data(run, &task, buf) == 0;
	}
	if (!is_there(engine, &task, buf)) {
		return false;
	}
	(void)run->sink(run->ctx, unit->off, buf, unit->len);
	engine->counters.skipped += unit->len;
	note_done(run, &task, buf);
	return true;
}

static void reread(struct copy_crew *crew, unsigned int number)
{
	struct run *run = (struct run *)crew;
	struct copy_engine *engine = crew->engine;
	const struct copy_plan *plan = engine->plan;
	CLEANUP_FREE uint8_t *buf = aligned_alloc(SINK_ALIGN, COPY_UNIT);
	uint64_t at = 0;

	(void)number;
	engine->first = plan->zeros;
	while (buf && engine->first < plan->count && plan->units[engine->first].off == at &&
		!copy_crew_is_over(crew) && reread_unit(run, engine->first, buf)) {
		at += plan->units[engine->first++].len;
	}
	engine->known = NULL;
}

int copy_engine_reread(struct copy_engine *engine, image_sink_fn *sink, void *ctx,
	enum copy_side *ret_side, struct err *e)
{
	struct run run = {
		.crew = { .engine = engine, .work = reread },
		.sink = sink,
		.ctx = ctx,
		.turn = PTHREAD_COND_INITIALIZER,
		.room = PTHREAD_COND_INITIALIZER,
	};

	return copy_crew_run(&run.crew, 1, ret_side, e);
}

int copy_engine_run(struct copy_engine *engine, enum copy_side *ret_side, struct err *e)
{
	struct run run = {
		.crew = { .engine = engine, .work = worker, .wake = run_wake },
		.work = copy_unit,
		.window = engine->agenda ? 0 : engine->window,
		.hinting = PTHREAD_MUTEX_INITIALIZER,
		.turn = PTHREAD_COND_INITIALIZER,
		.room = PTHREAD_COND_INITIALIZER,
		.grows = engine->agenda != NULL,
		.next = max_u64(engine->plan->zeros, engine->first),
	};

	/* Who looks through the agenda is waited for. */
	run.crew.all = run.grows;
	return copy_crew_run(&run.crew, engine->threads + run.grows, ret_side, e);
}

int copy_engine_verify(struct copy_engine *engine, enum copy_side *ret_side, struct err *e)
{
	struct run run = {
		.crew = { .engine = engine, .work = worker },
		.work = verify_unit,
		.hinting = PTHREAD_MUTEX_INITIALIZER,
		.turn = PTHREAD_COND_INITIALIZER,
		.room = PTHREAD_COND_INITIALIZER,
		.next = engine->plan->zeros,
	};

	return copy_crew_run(&run.crew, engine->threads, ret_side, e);
}

int copy_engine_release(struct copy_engine *engine, struct err *e)
{
	return put_sparse(engine, engine->head, 0, engine->withhold, e);
}
