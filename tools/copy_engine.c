/* SPDX-License-Identifier: Apache-2.0 */
/* Threads over a plan. The first failure stops all of them. */
#include "tools/copy_engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* Zeros within data are looked for in pieces of this size. */
#define PIECE KIB(64)

#define TICK_NS 50000000L

/* Units that are hinted at in one go. */
#define HINTS 16

struct run {
	struct copy_engine *engine;
	int (*work)(struct run *run, size_t unit, uint8_t *buf);
	bool hints;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t idle;  /* a thread has ended */
	unsigned int active;  /* threads */
	size_t next;          /* unit */
	size_t hinted;        /* units before it have been hinted at */
	uint64_t ahead;       /* bytes of data in the units [next, hinted) */
	double due;           /* when the next read may begin, for the rate */
	bool failed;
	enum copy_side side;
	struct err err;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(struct run *run, enum copy_side side, int code, const struct err *e)
{
	LOCK_SCOPE(&run->lock);

	if (!run->failed) {
		run->failed = true;
		run->side = side;
		run->err = *e;
		run->err.code = code;
	}
	return code;
}

/* Names the units that come next, so that their bytes are on the way when somebody reads them. */
static void hint(struct run *run)
{
	const struct copy_engine *engine = run->engine;
	const struct copy_plan *plan = engine->plan;
	const struct copy_unit *batch[HINTS];
	size_t count = 0;

	pthread_mutex_lock(&run->lock);
	run->hinted = run->hinted < run->next ? run->next : run->hinted;
	while (run->hinted < plan->count && run->ahead < engine->window && count < HINTS) {
		const struct copy_unit *unit = &plan->units[run->hinted];

		run->ahead += unit->zero ? 0 : unit->len;
		if (!unit->zero && !(engine->known && engine->known[run->hinted])) {
			batch[count++] = unit;
		}
		run->hinted++;
	}
	pthread_mutex_unlock(&run->lock);
	for (size_t i = 0; i < count; i++) {
		image_prefetch(engine->image, batch[i]->off, batch[i]->len);
	}
}

/* The next unit. False when there is none, or the copy is over. */
static bool take(struct run *run, size_t *ret)
{
	const struct copy_engine *engine = run->engine;
	const struct copy_unit *unit;
	LOCK_SCOPE(&run->lock);

	if (run->failed || *engine->stop || run->next == engine->plan->count) {
		return false;
	}
	unit = &engine->plan->units[run->next];
	if (run->next < run->hinted && !unit->zero) {
		run->ahead -= unit->len;
	}
	*ret = run->next++;
	return true;
}

static bool is_over(struct run *run)
{
	LOCK_SCOPE(&run->lock);

	return run->failed || *run->engine->stop;
}

/* Waits for this reader's turn under the rate limit. */
static void pace(struct run *run, uint64_t len)
{
	const struct copy_engine *engine = run->engine;
	double now = now_s();
	double wait;

	if (!engine->rate) {
		return;
	}
	pthread_mutex_lock(&run->lock);
	run->due = run->due > now ? run->due : now;
	wait = run->due - now;
	run->due += (double)len / (double)engine->rate;
	pthread_mutex_unlock(&run->lock);
	while (wait > 0 && !is_over(run)) {
		struct timespec nap = { 0, wait < 0.05 ? (long)(wait * 1e9) : TICK_NS };

		nanosleep(&nap, NULL);
		wait -= 0.05;
	}
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

static int put_unit(
	struct copy_engine *engine, const struct copy_unit *unit, const uint8_t *buf, struct err *e)
{
	size_t kept = 0;
	int r = 0;

	if (unit->off < engine->withhold) {
		kept = min_u64(engine->withhold - unit->off, unit->len);
		memcpy(engine->head + unit->off, buf, kept);
		r = zero(engine, unit->off, kept, e);
	}
	return r < 0 ? r : put_sparse(engine, buf + kept, unit->off + kept, unit->len - kept, e);
}

/* Whether an earlier run has put the unit where it belongs. */
static bool is_there(struct copy_engine *engine, size_t i, uint8_t *buf)
{
	const struct copy_unit *unit = &engine->plan->units[i];

	if (!engine->known || !engine->known[i]) {
		return false;
	}
	if (engine->sink->ops->read(engine->sink, buf, unit->len, unit->off, NULL) < 0 ||
		copy_sum(buf, unit->len) != engine->known[i]) {
		engine->counters.changed += unit->len;
		return false;
	}
	return true;
}

static int copy_data(struct run *run, size_t i, uint8_t *buf)
{
	struct copy_engine *engine = run->engine;
	const struct copy_unit *unit = &engine->plan->units[i];
	struct err e;
	int r;

	if (is_there(engine, i, buf)) {
		engine->counters.skipped += unit->len;
	} else {
		pace(run, unit->len);
		r = image_read_at(engine->image, buf, unit->len, unit->off, &e);
		if (r < 0) {
			return fail(run, COPY_SIDE_SOURCE, r, &e);
		}
		engine->counters.read += unit->len;
		memset(buf + unit->len, 0, round_up(unit->len, SINK_ALIGN) - unit->len);
		r = put_unit(engine, unit, buf, &e);
		if (r < 0) {
			return fail(run, COPY_SIDE_TARGET, r, &e);
		}
	}
	engine->counters.data += unit->len;
	__atomic_store_n(&engine->sums[i], copy_sum(buf, unit->len), __ATOMIC_RELEASE);
	return 0;
}

static int copy_unit(struct run *run, size_t i, uint8_t *buf)
{
	const struct copy_unit *unit = &run->engine->plan->units[i];
	struct err e;
	int r;

	if (!unit->zero) {
		return copy_data(run, i, buf);
	}
	r = zero(run->engine, unit->off, unit->len, &e);
	return r < 0 ? fail(run, COPY_SIDE_TARGET, r, &e) : 0;
}

static int differs(struct run *run, uint64_t off)
{
	struct err e;
	int r = err_set(&e, -ENOKEY, "%s does not hold what was written at byte %" PRIu64,
		run->engine->sink->path, off);

	return fail(run, COPY_SIDE_TARGET, r, &e);
}

static int verify_unit(struct run *run, size_t i, uint8_t *buf)
{
	struct copy_engine *engine = run->engine;
	const struct copy_unit *unit = &engine->plan->units[i];
	uint64_t at = unit->off;
	uint64_t end = unit->off + unit->len;

	while (at < end && !is_over(run)) {
		/* The tail begins where the image ends, which may be anywhere. */
		uint64_t from = round_down(at, SINK_ALIGN);
		size_t n = min_u64(end - from, COPY_UNIT);
		struct err e;
		int r = engine->sink->ops->read(engine->sink, buf, n, from, &e);

		if (r < 0) {
			return fail(run, COPY_SIDE_TARGET, r, &e);
		}
		if (unit->zero ? !is_zero(buf + (at - from), n - (at - from))
			       : copy_sum(buf, n) != engine->sums[i]) {
			return differs(run, at);
		}
		at = from + n;
	}
	if (!unit->zero) {
		engine->counters.verified += unit->len;
	}
	return 0;
}

static void *worker(void *arg)
{
	struct run *run = arg;
	CLEANUP_FREE uint8_t *buf = aligned_alloc(SINK_ALIGN, COPY_UNIT);
	bool ok = buf != NULL;
	size_t i;

	if (!ok) {
		struct err e;

		fail(run, COPY_SIDE_TARGET, err_set(&e, -ENOMEM, "out of memory"), &e);
	}
	while (ok && take(run, &i)) {
		if (run->hints) {
			hint(run);
		}
		ok = run->work(run, i, buf) == 0;
	}
	LOCK_SCOPE(&run->lock);
	run->active--;
	pthread_cond_signal(&run->idle);
	return NULL;
}

/* Until the threads have ended, or for one tick. Returns whether they have; *ret_over: they shall
 * end soon. */
static bool wait_tick(struct run *run, bool *ret_over)
{
	struct timespec until;
	LOCK_SCOPE(&run->lock);

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	while (run->active > 0 &&
		pthread_cond_timedwait(&run->idle, &run->lock, &until) != ETIMEDOUT) {
	}
	*ret_over = run->failed || *run->engine->stop;
	return run->active == 0;
}

/* Who waits for the network when the copy is over is told so. */
static void supervise(struct run *run)
{
	struct copy_engine *engine = run->engine;
	bool interrupted = false;
	bool over;

	while (!wait_tick(run, &over)) {
		struct err e;
		int r = engine->tick ? engine->tick(engine->ctx, &e) : 0;

		if (r < 0) {
			fail(run, COPY_SIDE_TARGET, r, &e);
		}
		if (over && !interrupted) {
			image_interrupt(engine->image);
			interrupted = true;
		}
	}
}

static int run_init(struct run *run)
{
	pthread_condattr_t attr;
	int r;

	pthread_mutex_init(&run->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	r = pthread_cond_init(&run->idle, &attr);
	pthread_condattr_destroy(&attr);
	return -r;
}

static int run_all(struct run *run, enum copy_side *ret_side, struct err *e)
{
	struct copy_engine *engine = run->engine;
	CLEANUP_FREE pthread_t *threads = calloc(engine->threads, sizeof(*threads));
	unsigned int started = 0;

	*ret_side = COPY_SIDE_TARGET;
	if (!threads || run_init(run) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	run->active = engine->threads;
	while (started < engine->threads &&
		pthread_create(&threads[started], NULL, worker, run) == 0) {
		started++;
	}
	pthread_mutex_lock(&run->lock);
	run->active -= engine->threads - started;
	pthread_mutex_unlock(&run->lock);
	if (started == 0) {
		struct err why;

		fail(run, COPY_SIDE_TARGET, err_set(&why, -EAGAIN, "no thread can be started"),
			&why);
	}
	supervise(run);
	for (unsigned int i = 0; i < started; i++) {
		pthread_join(threads[i], NULL);
	}
	pthread_cond_destroy(&run->idle);
	pthread_mutex_destroy(&run->lock);
	if (run->failed && !(run->err.code == -ECANCELED && *engine->stop)) {
		*ret_side = run->side;
		*e = run->err;
		return run->err.code;
	}
	return *engine->stop ? err_set(e, -ECANCELED, "interrupted") : 0;
}

int copy_engine_run(struct copy_engine *engine, enum copy_side *ret_side, struct err *e)
{
	struct run run = { .engine = engine, .work = copy_unit, .hints = engine->window > 0 };

	return run_all(&run, ret_side, e);
}

int copy_engine_verify(struct copy_engine *engine, enum copy_side *ret_side, struct err *e)
{
	struct run run = { .engine = engine, .work = verify_unit };

	return run_all(&run, ret_side, e);
}

int copy_engine_release(struct copy_engine *engine, struct err *e)
{
	return put_sparse(engine, engine->head, 0, engine->withhold, e);
}
