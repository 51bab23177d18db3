/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of threads that runs jobs, the most urgent first, in order of arrival within one priority.
 * The cache fetches with it, the copier decodes with it.
 *
 * A job embeds struct work. It belongs to the caller; the queue touches it from workq_push() until
 * its function starts, and not afterwards, so the function may free or push it again.
 * All functions are thread-safe.
 */
#ifndef CORE_WORKQ_H
#define CORE_WORKQ_H

#include <stdbool.h>

#include "core/err.h"

struct workq;

struct work {
	void (*run)(struct work *w);
	unsigned int priority; /* 0 is the most urgent; below WORKQ_PRIORITIES */
	struct work *next;     /* the queue's */
	bool queued;           /* the queue's */
};

#define WORKQ_PRIORITIES 4

/* At most limits[p] jobs of priority p or less urgent run at once (0: no limit but the threads), so
 * that background work leaves threads to what somebody waits for. @name (up to 15 characters) names
 * the threads. Threads are started as they are needed. */
int workq_new(const char *name, unsigned int threads, const unsigned int limits[WORKQ_PRIORITIES],
	struct workq **ret, struct err *e);

void workq_push(struct workq *q, struct work *w);

/* Takes @w out of the queue if it has not started: true, and its function will not run. */
bool workq_cancel(struct workq *q, struct work *w);

/* Moves a job that still waits to a more urgent priority; otherwise nothing. */
void workq_promote(struct workq *q, struct work *w, unsigned int priority);

/* Runs what is still queued, waits for what runs, ends the threads. NULL is nothing. */
void workq_free(struct workq *q);

#endif
