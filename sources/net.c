/* SPDX-License-Identifier: Apache-2.0 */
/* The transfer thread: takes transfers from an inbox, starts as many as their hosts may have, lets
 * curl run them, watches the time, wakes their callers. */
#include "sources/net.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* 32 random reads at once shall not wait for each other; a connection is only opened when all that
 * are open are busy. */
#define CONNECTIONS_DEFAULT 32U
#define CONNECTIONS_MAX     256U
#define EASY_IDLE_MAX       64U
#define HOSTS_IDLE_MAX      64U
/* How exact the time limits are. */
#define TICK_MS 100
#define IDLE_MS 10000
/* So many good transfers allow a host that was overloaded one more at once. */
#define RECOVER_AFTER 4U
/* A refused connection means "too many" only where others work at that time. */
#define ALIVE_MS 1000U

struct queue {
	struct net_transfer *first;
	struct net_transfer **end;
};

struct net_host {
	struct net_host *next;
	char *origin;
	struct queue waiting;
	unsigned int running;
	unsigned int limit;
	unsigned int good;
	uint64_t halved_ms; /* when the limit was lowered */
	uint64_t heard_ms;  /* when the last byte came, for anybody */
};

struct net {
	CURLM *multi;
	CURLSH *share;
	pthread_mutex_t share_locks[CURL_LOCK_DATA_LAST];
	pthread_t thread;
	unsigned int connections;

	pthread_mutex_t lock; /* of what follows, and of net_transfer.done */
	pthread_cond_t stopped;
	struct queue inbox;
	bool stop;
	bool quit;
	CURL *easy[EASY_IDLE_MAX];
	unsigned int easy_count;

	/* the thread's own */
	struct net_host *hosts;
	unsigned int host_count;
	struct queue running;
	uint64_t next_tick;
};

uint64_t net_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct net_clock net_clock_start(uint64_t limit_ms)
{
	return (struct net_clock){ .limit_ms = limit_ms, .deadline_ms = net_now_ms() + limit_ms };
}

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void queue_push(struct queue *q, struct net_transfer *t)
{
	t->next = NULL;
	*q->end = t;
	q->end = &t->next;
}

static struct net_transfer *queue_pop(struct queue *q)
{
	struct net_transfer *t = q->first;

	if (t) {
		q->first = t->next;
		if (!q->first) {
			q->end = &q->first;
		}
	}
	return t;
}

static void queue_remove(struct queue *q, struct net_transfer *t)
{
	struct net_transfer **p = &q->first;

	while (*p != t) {
		assert(*p);
		p = &(*p)->next;
	}
	*p = t->next;
	if (!*p) {
		q->end = p;
	}
}

/* --- hosts; all of it on the thread --- */

static void drop_idle_hosts(struct net *net)
{
	struct net_host **p = &net->hosts;

	while (*p) {
		struct net_host *h = *p;

		if (h->running == 0 && !h->waiting.first) {
			*p = h->next;
			free(h->origin);
			free(h);
			net->host_count--;
		} else {
			p = &h->next;
		}
	}
}

static struct net_host *find_host(struct net *net, const char *origin)
{
	struct net_host *h;

	for (h = net->hosts; h; h = h->next) {
		if (strcmp(h->origin, origin) == 0) {
			return h;
		}
	}
	if (net->host_count >= HOSTS_IDLE_MAX) {
		drop_idle_hosts(net);
	}
	h = calloc(1, sizeof(*h));
	if (!h) {
		return NULL;
	}
	h->origin = strdup(origin);
	if (!h->origin) {
		free(h);
		return NULL;
	}
	queue_init(&h->waiting);
	h->limit = net->connections;
	h->next = net->hosts;
	net->hosts = h;
	net->host_count++;
	return h;
}

static bool is_overload(const struct net_transfer *t)
{
	if (t->end != NET_ENDED) {
		return false;
	}
	return t->overloaded || (t->result == CURLE_COULDNT_CONNECT && t->host->running > 0 &&
					net_now_ms() - t->host->heard_ms < ALIVE_MS);
}

/* Those that were under way when the limit was lowered say nothing new. */
static void halve(struct net_host *h, const struct net_transfer *t)
{
	if (t->started_ms > h->halved_ms) {
		h->limit = (unsigned int)max_u64(1, min_u64(h->limit, h->running + 1) / 2);
		h->good = 0;
		h->halved_ms = net_now_ms();
	}
}

/* Halves what an overloaded server gets at once; gives it back bit by bit. */
static void learn(const struct net *net, const struct net_transfer *t)
{
	struct net_host *h = t->host;

	if (is_overload(t)) {
		halve(h, t);
	} else if (t->end == NET_ENDED && t->result == CURLE_OK && h->limit < net->connections &&
		   ++h->good >= RECOVER_AFTER) {
		h->limit++;
		h->good = 0;
	}
}

/* --- transfers; all of it on the thread --- */

/* @t belongs to its caller again when this returns. */
static void hand_back(struct net *net, struct net_transfer *t, enum net_end end, CURLcode result)
{
	LOCK_SCOPE(&net->lock);

	t->end = end;
	t->result = result;
	t->done = true;
	pthread_cond_signal(&t->wake);
}

static void end_running(struct net *net, struct net_transfer *t, enum net_end end, CURLcode result)
{
	curl_multi_remove_handle(net->multi, t->easy);
	queue_remove(&net->running, t);
	t->end = end;
	t->result = result;
	t->host->running--;
	learn(net, t);
	hand_back(net, t, end, result);
}

/* Time in the queue is not the transfer's own, as long as its host serves others. */
static uint64_t excused_ms(const struct net_transfer *t)
{
	return max_u64(t->queued_ms, t->host->heard_ms) - t->queued_ms;
}

static void start_transfer(struct net *net, struct net_transfer *t)
{
	t->clock->deadline_ms += excused_ms(t);
	t->started_ms = net_now_ms();
	t->heard_ms = t->started_ms;
	t->host->running++;
	queue_push(&net->running, t);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	if (curl_multi_add_handle(net->multi, t->easy) != CURLM_OK) {
		end_running(net, t, NET_ENDED, CURLE_OUT_OF_MEMORY);
	}
}

static void start_what_may(struct net *net)
{
	for (struct net_host *h = net->hosts; h; h = h->next) {
		while (h->waiting.first && h->running < h->limit) {
			start_transfer(net, queue_pop(&h->waiting));
		}
	}
}

static void end_all(struct net *net, enum net_end end)
{
	while (net->running.first) {
		end_running(net, net->running.first, end, CURLE_ABORTED_BY_CALLBACK);
	}
	for (struct net_host *h = net->hosts; h; h = h->next) {
		while (h->waiting.first) {
			hand_back(net, queue_pop(&h->waiting), end, CURLE_ABORTED_BY_CALLBACK);
		}
	}
}

static void end_what_is_done(struct net *net)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(net->multi, &left))) {
		CURLcode result = msg->data.result;
		struct net_transfer *t = NULL;

		if (msg->msg == CURLMSG_DONE) {
			curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
			end_running(net, t, NET_ENDED, result);
		}
	}
}

static void watch_running(struct net *net, uint64_t now)
{
	struct net_transfer *next;

	for (struct net_transfer *t = net->running.first; t; t = next) {
		next = t->next;
		if (*t->cancel) {
			end_running(net, t, NET_STOPPED, CURLE_ABORTED_BY_CALLBACK);
		} else if (now >= t->clock->deadline_ms) {
			end_running(net, t, NET_EXPIRED, CURLE_OPERATION_TIMEDOUT);
		} else if (now - t->heard_ms >= t->stall_ms) {
			end_running(net, t, NET_STALLED, CURLE_OPERATION_TIMEDOUT);
		}
	}
}

static void watch_waiting(struct net *net, struct net_host *h, uint64_t now)
{
	struct net_transfer *next;

	for (struct net_transfer *t = h->waiting.first; t; t = next) {
		next = t->next;
		if (*t->cancel) {
			queue_remove(&h->waiting, t);
			hand_back(net, t, NET_STOPPED, CURLE_ABORTED_BY_CALLBACK);
		} else if (now >= t->clock->deadline_ms + excused_ms(t)) {
			queue_remove(&h->waiting, t);
			hand_back(net, t, NET_EXPIRED, CURLE_OPERATION_TIMEDOUT);
		}
	}
}

static void watch_time(struct net *net)
{
	uint64_t now = net_now_ms();

	if (now < net->next_tick) {
		return;
	}
	net->next_tick = now + TICK_MS;
	watch_running(net, now);
	for (struct net_host *h = net->hosts; h; h = h->next) {
		watch_waiting(net, h, now);
	}
}

void net_heard(struct net_transfer *t, size_t n)
{
	struct net_clock *c = t->clock;

	t->heard_ms = net_now_ms();
	t->host->heard_ms = t->heard_ms;
	c->pending += n;
	if (c->pending >= NET_PROGRESS) {
		c->pending = 0;
		c->deadline_ms = t->heard_ms + c->limit_ms;
	}
}

/* Lets curl run what there is. What holds this thread up meanwhile (a sink whose disk is slow) is
 * no silence of the servers. */
static void perform(struct net *net)
{
	uint64_t begun = net_now_ms();
	uint64_t now;
	int active;

	curl_multi_perform(net->multi, &active);
	now = net_now_ms();
	for (struct net_transfer *t = net->running.first; t && now - begun > TICK_MS; t = t->next) {
		t->heard_ms = min_u64(now, t->heard_ms + (now - begun));
		t->clock->deadline_ms += now - begun;
	}
}

/* Moves the inbox to the queues of the hosts. */
static void sort_inbox(struct net *net, struct net_transfer *first)
{
	while (first) {
		struct net_transfer *t = first;

		first = t->next;
		t->host = find_host(net, t->origin);
		if (t->host) {
			queue_push(&t->host->waiting, t);
		} else {
			hand_back(net, t, NET_ENDED, CURLE_OUT_OF_MEMORY);
		}
	}
}

/* The inbox; *ret_stop and *ret_quit say what else was ordered. */
static struct net_transfer *take_orders(struct net *net, bool *ret_stop, bool *ret_quit)
{
	LOCK_SCOPE(&net->lock);
	struct net_transfer *first = net->inbox.first;

	queue_init(&net->inbox);
	*ret_stop = net->stop;
	*ret_quit = net->quit;
	return first;
}

static bool is_idle(const struct net *net)
{
	if (net->running.first) {
		return false;
	}
	for (const struct net_host *h = net->hosts; h; h = h->next) {
		if (h->waiting.first) {
			return false;
		}
	}
	return true;
}

/* A poll that fails (no memory) must not become a busy loop. */
static void wait_for_events(struct net *net)
{
	if (curl_multi_poll(net->multi, NULL, 0, is_idle(net) ? IDLE_MS : TICK_MS, NULL) !=
		CURLM_OK) {
		usleep(TICK_MS * 1000);
	}
}

static void *run(void *arg)
{
	struct net *net = arg;
	bool stop;
	bool quit = false;

	while (!quit) {
		sort_inbox(net, take_orders(net, &stop, &quit));
		if (stop) {
			end_all(net, NET_STOPPED);
		}
		start_what_may(net);
		perform(net);
		end_what_is_done(net);
		watch_time(net);
		start_what_may(net);
		if (!quit) {
			wait_for_events(net);
		}
	}
	assert(is_idle(net));
	return NULL;
}

/* --- the callers' side --- */

CURL *net_easy(struct net *net)
{
	CURL *easy = NULL;

	pthread_mutex_lock(&net->lock);
	if (net->easy_count > 0) {
		easy = net->easy[--net->easy_count];
	}
	pthread_mutex_unlock(&net->lock);
	if (!easy) {
		easy = curl_easy_init();
	}
	if (easy) {
		curl_easy_setopt(easy, CURLOPT_SHARE, net->share);
	}
	return easy;
}

void net_easy_done(struct net *net, CURL *easy)
{
	curl_easy_reset(easy);
	pthread_mutex_lock(&net->lock);
	if (net->easy_count < EASY_IDLE_MAX) {
		net->easy[net->easy_count++] = easy;
		easy = NULL;
	}
	pthread_mutex_unlock(&net->lock);
	curl_easy_cleanup(easy);
}

void net_run(struct net *net, struct net_transfer *t)
{
	t->queued_ms = net_now_ms();
	t->done = false;
	pthread_cond_init(&t->wake, NULL);
	pthread_mutex_lock(&net->lock);
	queue_push(&net->inbox, t);
	pthread_mutex_unlock(&net->lock);
	curl_multi_wakeup(net->multi);
	pthread_mutex_lock(&net->lock);
	while (!t->done) {
		pthread_cond_wait(&t->wake, &net->lock);
	}
	pthread_mutex_unlock(&net->lock);
	pthread_cond_destroy(&t->wake);
}

bool net_sleep(struct net *net, uint64_t ms, const _Atomic bool *cancel)
{
	LOCK_SCOPE(&net->lock);
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!net->stop && !*cancel && r != ETIMEDOUT) {
		r = pthread_cond_timedwait(&net->stopped, &net->lock, &until);
	}
	return !net->stop && !*cancel;
}

void net_kick(struct net *net)
{
	pthread_mutex_lock(&net->lock);
	pthread_cond_broadcast(&net->stopped);
	pthread_mutex_unlock(&net->lock);
}

void net_stop(struct net *net)
{
	pthread_mutex_lock(&net->lock);
	net->stop = true;
	pthread_cond_broadcast(&net->stopped);
	pthread_mutex_unlock(&net->lock);
	curl_multi_wakeup(net->multi);
}

static void share_lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *ctx)
{
	struct net *net = ctx;

	(void)easy;
	(void)access;
	pthread_mutex_lock(&net->share_locks[data]);
}

static void share_unlock(CURL *easy, curl_lock_data data, void *ctx)
{
	struct net *net = ctx;

	(void)easy;
	pthread_mutex_unlock(&net->share_locks[data]);
}

static void release(struct net *net)
{
	while (net->easy_count > 0) {
		curl_easy_cleanup(net->easy[--net->easy_count]);
	}
	drop_idle_hosts(net);
	if (net->multi) {
		curl_multi_cleanup(net->multi);
	}
	if (net->share) {
		curl_share_cleanup(net->share);
	}
	for (size_t i = 0; i < ARRAY_SIZE(net->share_locks); i++) {
		pthread_mutex_destroy(&net->share_locks[i]);
	}
	pthread_cond_destroy(&net->stopped);
	pthread_mutex_destroy(&net->lock);
	free(net);
}

static int setup_curl(struct net *net)
{
	net->multi = curl_multi_init();
	net->share = curl_share_init();
	if (!net->multi || !net->share) {
		return -ENOMEM;
	}
	curl_share_setopt(net->share, CURLSHOPT_LOCKFUNC, share_lock);
	curl_share_setopt(net->share, CURLSHOPT_UNLOCKFUNC, share_unlock);
	curl_share_setopt(net->share, CURLSHOPT_USERDATA, net);
	curl_share_setopt(net->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(net->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(net->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(net->multi, CURLMOPT_MAXCONNECTS, (long)net->connections * 2);
	return 0;
}

/* All signals are for the threads of others; a connection that breaks is no SIGPIPE. */
static int start_thread(struct net *net)
{
	sigset_t all;
	sigset_t old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&net->thread, NULL, run, net);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0) {
		pthread_setname_np(net->thread, "lazydisk-net");
	}
	return -r;
}

static void init_locks(struct net *net)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&net->lock, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(net->share_locks); i++) {
		pthread_mutex_init(&net->share_locks[i], NULL);
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&net->stopped, &attr);
	pthread_condattr_destroy(&attr);
}

int net_new(unsigned int connections, struct net **ret, struct err *e)
{
	struct net *net;
	int r;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		return err_set(e, -ENOMEM, "libcurl does not start");
	}
	net = calloc(1, sizeof(*net));
	if (!net) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	net->connections = connections ? connections : CONNECTIONS_DEFAULT;
	net->connections = (unsigned int)min_u64(net->connections, CONNECTIONS_MAX);
	queue_init(&net->inbox);
	queue_init(&net->running);
	init_locks(net);
	r = setup_curl(net);
	if (r == 0) {
		r = start_thread(net);
	}
	if (r < 0) {
		release(net);
		return err_sys(e, r, "start of the transfer thread");
	}
	*ret = net;
	return 0;
}

void net_free(struct net *net)
{
	if (!net) {
		return;
	}
	pthread_mutex_lock(&net->lock);
	net->quit = true;
	pthread_mutex_unlock(&net->lock);
	curl_multi_wakeup(net->multi);
	pthread_join(net->thread, NULL);
	release(net);
}
