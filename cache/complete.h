/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image that completes itself: what is absent is fetched behind everything else, when no reader
 * waits, at most so fast, until all of it is here. One thread steps it; complete_state() is for
 * any.
 */
#ifndef CACHE_COMPLETE_H
#define CACHE_COMPLETE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/flight.h"
#include "cache/spool.h"

enum complete_state {
	COMPLETE_OFF,     /* not asked for, or not possible */
	COMPLETE_IDLE,    /* begins by itself when much of the image is here */
	COMPLETE_WAITING, /* for its time to come */
	COMPLETE_RUNNING,
	COMPLETE_NO_ROOM, /* given up: the cache does not keep all of it */
	COMPLETE_DONE,    /* all of it was here */
};

struct complete {
	struct flight *flight;
	struct spool *spool; /* of an image that only streams; else NULL */
	uint64_t rate;       /* bytes a second; 0: what the link has to spare */
	_Atomic int state;
	/* The stepping thread's: */
	uint64_t not_before_ns;
	uint64_t cursor;      /* granule */
	bool missed;          /* something was absent in this pass */
	uint64_t launched_ns; /* the last fill */
	uint64_t tokens_ns;   /* when the bucket was last filled */
	uint64_t tokens;      /* bytes */
	uint64_t bypassed;    /* the object's counter at the beginning */
	uint64_t enough;      /* it is given up when the flight's counter is past this */
};

/* @state: COMPLETE_OFF, _IDLE or _WAITING. Nothing is fetched before @not_before_ns. @spool may be
 * NULL. */
void complete_init(struct complete *c, struct flight *fl, struct spool *spool,
	enum complete_state state, uint64_t not_before_ns, uint64_t rate);

/* Starts what may be fetched at @now_ns. Returns in how many ns it wants to be called again at the
 * latest; progress of the flight is a reason to do so earlier. */
uint64_t complete_step(struct complete *c, uint64_t now_ns);

/* Something is absent again, after all. */
void complete_again(struct complete *c);

static inline enum complete_state complete_state(const struct complete *c)
{
	return (enum complete_state)atomic_load_explicit(&c->state, memory_order_relaxed);
}

#endif
