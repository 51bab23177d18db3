/* SPDX-License-Identifier: Apache-2.0 */
/* Worker threads over one /dev/fuse descriptor. A blocked read of it is ended by pthread_cancel(),
 * which is only let in there; the cleanup handler does the counting. */
#include "fusefs/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fusefs/libfuse.h"

struct workers {
	struct fuse_session *session;
	struct workers_events events;
	unsigned int most;

	pthread_mutex_t lock;
	pthread_cond_t less; /* `alive` became smaller */
	pthread_t *threads;  /* `count` of them */
	unsigned int count;
	unsigned int alive;
	unsigned int listening; /* they wait for a request, or are about to */
	bool answered;          /* events.first has been told */
	bool ended;             /* events.ended too */
	bool stop;
};

static void *worker(void *arg);

/* Called with the lock held. A thread less is no failure as long as there is one. */
static int start_one(struct workers *w)
{
	sigset_t all;
	sigset_t old;
	int r;

	if (w->stop || w->count == w->most) {
		return -EAGAIN;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->threads[w->count], NULL, worker, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		log_debug("no more than %u threads: %s", w->count, strerrordesc_np(r));
		return -r;
	}
	pthread_setname_np(w->threads[w->count], "fuse");
	w->count++;
	w->alive++;
	w->listening++;
	return 0;
}

/* A thread and the memory for its request. */
struct listener {
	struct workers *w;
	struct fuse_buf buf;
};

/* Runs at the end of a thread, and when it is cancelled. */
static void listener_gone(void *arg)
{
	struct listener *l = arg;
	LOCK_SCOPE(&l->w->lock);

	free(l->buf.mem);
	l->w->alive--;
	pthread_cond_broadcast(&l->w->less);
}

/* Waits for a request. False when there will be none any more. */
static bool receive(struct workers *w, struct fuse_buf *buf)
{
	for (;;) {
		int r;

		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		r = fuse_session_receive_buf(w->session, buf);
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		if (r == -ENOMEM && !fuse_session_exited(w->session)) {
			usleep(100000);
		} else if (r != -EINTR && r != -EAGAIN) {
			return r > 0;
		}
	}
}

static void begin_request(struct workers *w)
{
	LOCK_SCOPE(&w->lock);

	w->listening--;
	if (w->listening == 0) {
		start_one(w);
	}
}

/* True when the thread shall go on. */
static bool end_request(struct workers *w)
{
	bool first;
	bool stop;

	pthread_mutex_lock(&w->lock);
	w->listening++;
	first = !w->answered;
	w->answered = true;
	stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	if (first) {
		w->events.first(w->events.ctx);
	}
	return !stop;
}

static void session_ended(struct workers *w)
{
	bool tell;

	fuse_session_exit(w->session);
	pthread_mutex_lock(&w->lock);
	tell = !w->ended;
	w->ended = true;
	pthread_mutex_unlock(&w->lock);
	if (tell) {
		w->events.ended(w->events.ctx);
	}
}

static void work(struct workers *w, struct fuse_buf *buf)
{
	do {
		if (!receive(w, buf)) {
			session_ended(w);
			return;
		}
		begin_request(w);
		fuse_session_process_buf(w->session, buf);
	} while (end_request(w));
}

static void *worker(void *arg)
{
	struct listener l = { .w = arg };

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_push(listener_gone, &l);
	work(l.w, &l.buf);
	pthread_cleanup_pop(1);
	return NULL;
}

int workers_start(struct fuse_session *se, unsigned int most, const struct workers_events *events,
	struct workers **ret, struct err *e)
{
	struct workers *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;
	int r;

	if (w) {
		w->threads = calloc(most, sizeof(*w->threads));
	}
	if (!w || !w->threads) {
		free(w);
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->session = se;
	w->most = most;
	w->events = *events;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->less, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_lock(&w->lock);
	r = start_one(w);
	pthread_mutex_unlock(&w->lock);
	if (r < 0) {
		workers_free(w);
		return err_sys(e, r, "start a thread");
	}
	*ret = w;
	return 0;
}

bool workers_stop(struct workers *w, unsigned int timeout_ms)
{
	struct timespec until;
	int r = 0;
	LOCK_SCOPE(&w->lock);

	fuse_session_exit(w->session);
	if (!w->stop) {
		w->stop = true;
		for (unsigned int i = 0; i < w->count; i++) {
			pthread_cancel(w->threads[i]);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (w->alive > 0 && r == 0) {
		r = pthread_cond_timedwait(&w->less, &w->lock, &until);
	}
	return w->alive == 0;
}

void workers_free(struct workers *w)
{
	if (!w) {
		return;
	}
	for (unsigned int i = 0; i < w->count; i++) {
		pthread_join(w->threads[i], NULL);
	}
	pthread_cond_destroy(&w->less);
	pthread_mutex_destroy(&w->lock);
	free(w->threads);
	free(w);
}
