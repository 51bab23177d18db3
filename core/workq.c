/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, and one list a priority, under one lock. */
#include "core/workq.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/cleanup.h"

struct workq {
	pthread_mutex_t lock; /* protects everything below */
	pthread_cond_t wake;
	struct work *first[WORKQ_PRIORITIES];
	struct work *last[WORKQ_PRIORITIES];
	unsigned int limits[WORKQ_PRIORITIES];
	unsigned int running[WORKQ_PRIORITIES];
	unsigned int idle;    /* threads in pthread_cond_wait(), woken ones included */
	unsigned int waiting; /* jobs in the lists */
	bool ending;
	char name[16];
	pthread_t *threads;
	unsigned int started;
	unsigned int most;
};

/* Whether a job of priority @p may start: no limit of its own class or of a more urgent one, which
 * covers everything less urgent than itself, may be exceeded. */
static bool may_start(const struct workq *q, unsigned int p)
{
	for (unsigned int limit = 0; limit <= p; limit++) {
		unsigned int running = 0;

		for (unsigned int i = limit; i < WORKQ_PRIORITIES; i++) {
			running += q->running[i];
		}
		if (q->limits[limit] && running >= q->limits[limit]) {
			return false;
		}
	}
	return true;
}

static struct work *take(struct workq *q)
{
	for (unsigned int p = 0; p < WORKQ_PRIORITIES; p++) {
		struct work *w = q->first[p];

		if (w && may_start(q, p)) {
			q->first[p] = w->next;
			if (!w->next) {
				q->last[p] = NULL;
			}
			w->queued = false;
			q->waiting--;
			return w;
		}
	}
	return NULL;
}

static void *worker(void *arg)
{
	struct workq *q = arg;

	pthread_setname_np(pthread_self(), q->name);
	pthread_mutex_lock(&q->lock);
	while (!q->ending || q->waiting > 0) {
		struct work *w = take(q);

		if (!w) {
			q->idle++;
			pthread_cond_wait(&q->wake, &q->lock);
			q->idle--;
			continue;
		}
		unsigned int p = w->priority;

		q->running[p]++;
		pthread_mutex_unlock(&q->lock);
		w->run(w);
		pthread_mutex_lock(&q->lock);
		q->running[p]--;
		if (q->waiting > 0) {
			pthread_cond_broadcast(&q->wake);
		}
	}
	pthread_cond_broadcast(&q->wake);
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static int start_thread(struct workq *q)
{
	int r = pthread_create(&q->threads[q->started], NULL, worker, q);

	if (r == 0) {
		q->started++;
	}
	return -r;
}

int workq_new(const char *name, unsigned int threads, const unsigned int limits[WORKQ_PRIORITIES],
	struct workq **ret, struct err *e)
{
	struct workq *q = calloc(1, sizeof(*q));
	int r;

	assert(threads > 0);
	if (!q) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	q->threads = calloc(threads, sizeof(*q->threads));
	if (!q->threads) {
		free(q);
		return err_set(e, -ENOMEM, "out of memory");
	}
	q->most = threads;
	snprintf(q->name, sizeof(q->name), "%s", name);
	for (unsigned int p = 0; p < WORKQ_PRIORITIES; p++) {
		q->limits[p] = limits[p];
	}
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	/* One thread from the start: with it, every job runs some day. */
	r = start_thread(q);
	if (r < 0) {
		workq_free(q);
		return err_sys(e, r, "cannot start a thread");
	}
	*ret = q;
	return 0;
}

static void enqueue(struct workq *q, struct work *w)
{
	w->next = NULL;
	w->queued = true;
	if (q->last[w->priority]) {
		q->last[w->priority]->next = w;
	} else {
		q->first[w->priority] = w;
	}
	q->last[w->priority] = w;
	q->waiting++;
}

static void dequeue(struct workq *q, struct work *w)
{
	struct work **link = &q->first[w->priority];
	struct work *before = NULL;

	while (*link != w) {
		before = *link;
		link = &before->next;
	}
	*link = w->next;
	if (q->last[w->priority] == w) {
		q->last[w->priority] = before;
	}
	w->queued = false;
	q->waiting--;
}

void workq_push(struct workq *q, struct work *w)
{
	LOCK_SCOPE(&q->lock);

	assert(w->priority < WORKQ_PRIORITIES);
	enqueue(q, w);
	if (q->waiting > q->idle && q->started < q->most) {
		(void)start_thread(q); /* without it the others take the job */
	}
	pthread_cond_signal(&q->wake);
}

bool workq_cancel(struct workq *q, struct work *w)
{
	LOCK_SCOPE(&q->lock);

	if (!w->queued) {
		return false;
	}
	dequeue(q, w);
	return true;
}

void workq_promote(struct workq *q, struct work *w, unsigned int priority)
{
	LOCK_SCOPE(&q->lock);

	if (w->queued && priority < w->priority) {
		dequeue(q, w);
		w->priority = priority;
		enqueue(q, w);
		pthread_cond_signal(&q->wake);
	}
}

void workq_free(struct workq *q)
{
	if (!q) {
		return;
	}
	pthread_mutex_lock(&q->lock);
	q->ending = true;
	pthread_cond_broadcast(&q->wake);
	pthread_mutex_unlock(&q->lock);
	for (unsigned int i = 0; i < q->started; i++) {
		pthread_join(q->threads[i], NULL);
	}
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
	free(q->threads);
	free(q);
}
