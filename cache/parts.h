/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Granules in the making: what streams have delivered of them and the store does not have yet. A
 * stream that comes by appends to one; who leaves a granule unfinished (the edge of a unit) leaves
 * it here for a while, so that the stream of the neighbouring unit makes it whole; whole ones wait
 * here for a thread that stores them. Readers copy from any of them.
 *
 * All calls but parts_init() and parts_fini() are made with the owner's lock held.
 */
#ifndef CACHE_PARTS_H
#define CACHE_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/flight.h"

enum part_state {
	PART_GROWING, /* a stream appends to it */
	PART_EDGE,    /* left unfinished */
	PART_WHOLE,   /* to be stored */
	PART_STORING,
};

struct part {
	struct part *next;
	uint64_t granule;
	uint8_t *block;
	size_t lo; /* bytes [lo, hi) of the granule are there */
	size_t hi;
	enum part_state state;
};

struct parts {
	struct flight *flight;
	pthread_mutex_t *lock;
	pthread_cond_t *progress; /* somebody may find more than before */
	pthread_cond_t changed;
	pthread_t storer;
	struct part *list; /* oldest first */
	unsigned int edges;
	unsigned int whole; /* and those being stored */
	uint64_t stored;    /* granules that went to the store and are not here any more */
	bool quit;
};

/* Starts the thread that stores. @fl, @lock and @progress are borrowed. */
int parts_init(struct parts *p, struct flight *fl, pthread_mutex_t *lock, pthread_cond_t *progress,
	struct err *e);

/* Stores what is whole, and ends the thread. Nobody uses it any more. */
void parts_fini(struct parts *p);

/* Copies the beginning of [off, off + len) that is here; returns how many bytes. */
size_t parts_copy(const struct parts *p, uint8_t *buf, size_t len, uint64_t off);

/* How many bytes from @off on, up to the end of its granule, are here. */
size_t parts_reach(const struct parts *p, uint64_t off);

/* Whether all of granule @g is here. */
bool parts_is_whole(const struct parts *p, uint64_t g);

/* The part of granule @g that a stream appends to from byte @within on. NULL: no memory. */
struct part *parts_begin(struct parts *p, uint64_t g, size_t within);

/* The stream is done with @part: it is whole, or becomes so with what another left, or stays. */
void parts_settle(struct parts *p, struct part *part);

/* Drops what is here of [first, first + count), but for what streams still append to. Waits for
 * what is being stored; gives the lock up meanwhile. */
void parts_forget(struct parts *p, uint64_t first, uint64_t count);

/* Waits while storing is far behind, unless *stop. Gives the lock up meanwhile. */
void parts_throttle(struct parts *p, const bool *stop);

#endif
