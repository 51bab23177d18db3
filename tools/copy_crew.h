/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a copy: started, watched, told to end when the first of them fails or the user
 * wants it. For copy_engine.c and copy_stream.c.
 */
#ifndef TOOLS_COPY_CREW_H
#define TOOLS_COPY_CREW_H

#include <pthread.h>
#include <stdbool.h>

#include "tools/copy_engine.h"

struct copy_crew {
	struct copy_engine *engine;
	/* What each thread does; @number counts them from 0. */
	void (*work)(struct copy_crew *crew, unsigned int number);
	/* The copy is over: wakes threads that wait for each other. May be NULL. */
	void (*wake)(struct copy_crew *crew);
	bool all; /* they need each other: none works when one cannot be started */

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t idle;  /* a thread has ended */
	unsigned int numbers; /* given out */
	unsigned int active;  /* threads */
	double due;           /* when the next read may begin, for the rate */
	bool failed;
	enum copy_side side;
	struct err err;
};

/* Runs @count threads until all have ended; fills in all but what is above the lock. -ECANCELED:
 * somebody set engine->stop. Else the first failure. */
int copy_crew_run(
	struct copy_crew *crew, unsigned int count, enum copy_side *ret_side, struct err *e);

/* Says that the copy failed, if it has not yet; returns @code. */
int copy_crew_fail(struct copy_crew *crew, enum copy_side side, int code, const struct err *e);

/* Waits until @len more bytes may be read under engine->rate. */
void copy_crew_pace(struct copy_crew *crew, uint64_t len);

/* Whether the thread that asks shall end. */
bool copy_crew_is_over(struct copy_crew *crew);

#endif
