/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that take requests from the kernel and answer them. There is always one that listens
 * while there may be more threads; a thread that was needed once stays. Not libfuse's own loop, for
 * that one ends only when its last thread has left an image, which a dead network can prevent.
 */
#ifndef FUSEFS_WORKERS_H
#define FUSEFS_WORKERS_H

#include <stdbool.h>

#include "core/err.h"

struct fuse_session;
struct workers;

struct workers_events {
	/* The first request has been answered. */
	void (*first)(void *ctx);
	/* The kernel ends the session (an unmount), or it broke. */
	void (*ended)(void *ctx);
	void *ctx;
};

/* Starts with one thread, and goes up to @most. Both events may come before it returns, on any of
 * the threads, once each at most. */
int workers_start(struct fuse_session *se, unsigned int most, const struct workers_events *events,
	struct workers **ret, struct err *e);

/* No more requests are taken; those at work end theirs. Waits for that up to @timeout_ms; true when
 * there are no more threads. May be called again. */
bool workers_stop(struct workers *w, unsigned int timeout_ms);

/* After workers_stop() returned true. NULL is nothing. */
void workers_free(struct workers *w);

#endif
