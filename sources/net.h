/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that drives all transfers of a process: one libcurl multi, its connections, and what
 * they share (DNS answers, TLS sessions).
 *
 * A caller takes an easy handle, configures it, and blocks in net_run() until the transfer ended.
 * curl's callbacks run on the thread; nothing is locked meanwhile. At most so many transfers to one
 * origin run at once, the others wait in order of arrival; a server that says that it is overloaded
 * gets fewer, and more again as it copes.
 */
#ifndef SOURCES_NET_H
#define SOURCES_NET_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "sources/source.h"

/* Milliseconds of the monotonic clock. */
uint64_t net_now_ms(void);

/* The time limit of a read, across its attempts. It starts over whenever NET_PROGRESS bytes
 * arrived, so that a slow link has the time it needs, and a server that drips does not live for
 * ever: the floor is NET_PROGRESS bytes a limit. */
#define NET_PROGRESS 16384U

struct net_clock {
	uint64_t limit_ms;
	uint64_t deadline_ms; /* net_now_ms() */
	uint64_t pending;     /* bytes since the deadline was set; below NET_PROGRESS */
};

struct net_clock net_clock_start(uint64_t limit_ms);

enum net_end {
	NET_ENDED,   /* curl ended it: see `result` */
	NET_STALLED, /* no byte for stall_ms */
	NET_EXPIRED, /* the clock ran out */
	NET_STOPPED, /* net_stop(), or *cancel */
};

struct net_host;

struct net_transfer {
	/* the caller's */
	CURL *easy;
	const char *origin;      /* "https://host:port"; lives until net_run() returns */
	struct net_clock *clock; /* the thread's while net_run() runs */
	uint64_t stall_ms;
	const _Atomic bool *cancel; /* true: it is to end soon, whoever waits for it is to go */
	bool overloaded; /* set by a callback: the server asks for fewer requests at once */

	/* the answer */
	enum net_end end;
	CURLcode result;

	/* the thread's */
	struct net_transfer *next;
	struct net_host *host;
	uint64_t queued_ms;
	uint64_t started_ms;
	uint64_t heard_ms; /* when the last byte came */
	bool done;
	pthread_cond_t wake;
};

/* An easy handle without options but those that all transfers share, or NULL. */
CURL *net_easy(struct net *net);
void net_easy_done(struct net *net, CURL *easy);

/* Blocks until the transfer ended. */
void net_run(struct net *net, struct net_transfer *t);

/* From a callback: @n bytes of @t came. */
void net_heard(struct net_transfer *t, size_t n);

/* False when net_stop() or *@cancel cut the sleep short. */
bool net_sleep(struct net *net, uint64_t ms, const _Atomic bool *cancel);

/* After a cancel was set to true: wakes who sleeps. */
void net_kick(struct net *net);

#endif
