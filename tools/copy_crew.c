/* SPDX-License-Identifier: Apache-2.0 */
/* The first failure stops all. */
#include "tools/copy_crew.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/cleanup.h"

#define TICK_NS 50000000L

int copy_crew_fail(struct copy_crew *crew, enum copy_side side, int code, const struct err *e)
{
	LOCK_SCOPE(&crew->lock);

	if (!crew->failed) {
		crew->failed = true;
		crew->side = side;
		crew->err = *e;
		crew->err.code = code;
	}
	return code;
}

bool copy_crew_is_over(struct copy_crew *crew)
{
	LOCK_SCOPE(&crew->lock);

	return crew->failed || *crew->engine->stop;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void copy_crew_pace(struct copy_crew *crew, uint64_t len)
{
	const struct copy_engine *engine = crew->engine;
	double now = now_s();
	double wait;

	if (!engine->rate) {
		return;
	}
	pthread_mutex_lock(&crew->lock);
	crew->due = crew->due > now ? crew->due : now;
	wait = crew->due - now;
	crew->due += (double)len / (double)engine->rate;
	pthread_mutex_unlock(&crew->lock);
	while (wait > 0 && !copy_crew_is_over(crew)) {
		struct timespec nap = { 0, wait < 0.05 ? (long)(wait * 1e9) : TICK_NS };

		nanosleep(&nap, NULL);
		wait -= 0.05;
	}
}

static void *crew_main(void *arg)
{
	struct copy_crew *crew = arg;
	unsigned int number;

	pthread_mutex_lock(&crew->lock);
	number = crew->numbers++;
	pthread_mutex_unlock(&crew->lock);
	crew->work(crew, number);
	LOCK_SCOPE(&crew->lock);
	crew->active--;
	pthread_cond_signal(&crew->idle);
	return NULL;
}

/* Until the threads have ended, or for one tick. Returns whether they have; *ret_over: they shall
 * end soon. */
static bool wait_tick(struct copy_crew *crew, bool *ret_over)
{
	struct timespec until;
	LOCK_SCOPE(&crew->lock);

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	while (crew->active > 0 &&
		pthread_cond_timedwait(&crew->idle, &crew->lock, &until) != ETIMEDOUT) {
	}
	*ret_over = crew->failed || *crew->engine->stop;
	return crew->active == 0;
}

/* Who waits for the network when the copy is over is told so. */
static void supervise(struct copy_crew *crew)
{
	struct copy_engine *engine = crew->engine;
	bool interrupted = false;
	bool over;

	while (!wait_tick(crew, &over)) {
		struct err e;
		int r = engine->tick ? engine->tick(engine->ctx, &e) : 0;

		if (r < 0) {
			copy_crew_fail(crew, COPY_SIDE_TARGET, r, &e);
		}
		if (over && !interrupted) {
			image_interrupt(engine->image);
			if (crew->wake) {
				crew->wake(crew);
			}
			interrupted = true;
		}
	}
}

static int crew_init(struct copy_crew *crew)
{
	pthread_condattr_t attr;
	int r;

	pthread_mutex_init(&crew->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	r = pthread_cond_init(&crew->idle, &attr);
	pthread_condattr_destroy(&attr);
	return -r;
}

int copy_crew_run(
	struct copy_crew *crew, unsigned int count, enum copy_side *ret_side, struct err *e)
{
	struct copy_engine *engine = crew->engine;
	CLEANUP_FREE pthread_t *threads = calloc(count, sizeof(*threads));
	unsigned int started = 0;

	*ret_side = COPY_SIDE_TARGET;
	if (!threads || crew_init(crew) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	crew->active = count;
	while (started < count && pthread_create(&threads[started], NULL, crew_main, crew) == 0) {
		started++;
	}
	pthread_mutex_lock(&crew->lock);
	crew->active -= count - started;
	pthread_mutex_unlock(&crew->lock);
	if (started == 0 || (crew->all && started < count)) {
		struct err why;

		copy_crew_fail(crew, COPY_SIDE_TARGET,
			err_set(&why, -EAGAIN, "no thread can be started"), &why);
	}
	supervise(crew);
	for (unsigned int i = 0; i < started; i++) {
		pthread_join(threads[i], NULL);
	}
	pthread_cond_destroy(&crew->idle);
	pthread_mutex_destroy(&crew->lock);
	if (crew->failed && !(crew->err.code == -ECANCELED && *engine->stop)) {
		*ret_side = crew->side;
		*e = crew->err;
		return crew->err.code;
	}
	return *engine->stop ? err_set(e, -ECANCELED, "interrupted") : 0;
}
