/* SPDX-License-Identifier: Apache-2.0 */
/* What units.c and streams.c share: see units.h. Everything is under the lock. */
#ifndef CACHE_STREAMS_H
#define CACHE_STREAMS_H

#include <pthread.h>

#include "cache/parts.h"
#include "cache/units.h"

#define STREAMS_MOST    8U
#define UNITS_SEQUENCES 8U
#define UNITS_DOOMS     64U

/* A reader that waits. Bytes that come by are put into its buffer. */
struct unit_waiter {
	struct unit_waiter *next;
	uint8_t *buf;
	uint64_t off;
	size_t len;
	struct unit_stream *stream; /* that will bring them, or NULL */
	bool failed;
	struct err err;
};

struct unit_stream {
	struct units *units;
	bool used;      /* the slot is taken: a thread runs */
	bool parked;    /* waits for somebody to need more */
	bool cancelled; /* shall end */
	bool stopped;   /* its sink has ended it */
	uint64_t from;
	uint64_t pos;        /* delivered up to here */
	uint64_t goal;       /* somebody needs it to go on up to here */
	uint64_t unit_start; /* the unit that `pos` is in */
	uint64_t unit_end;
	uint64_t parked_at;   /* in ticks: the longest parked goes first */
	struct part *current; /* NULL: the granule is present */
	pthread_cond_t wake;
};

/* [from, to) cannot be decoded to what it should be. */
struct unit_doom {
	uint64_t from;
	uint64_t to;
	struct err err;
};

/* Reads that continue each other. */
struct unit_sequence {
	uint64_t next;
	uint64_t run;  /* bytes read */
	uint64_t sent; /* up to here somebody decodes, or it is there */
	uint64_t used; /* ticks; 0: free */
};

struct units {
	struct flight *flight;
	struct image *below;
	struct units_opts opts;
	unsigned int cores;
	uint64_t finish; /* units up to this size are decoded to their end */

	pthread_mutex_t lock;    /* protects all below */
	pthread_cond_t progress; /* waiters look again */
	struct parts parts;
	struct unit_waiter *waiters;
	struct unit_stream streams[STREAMS_MOST];
	struct unit_sequence sequences[UNITS_SEQUENCES];
	unsigned int threads;
	uint64_t ticks;
	bool ending;

	/* Bytes that turned out to be wrong, the newest ones: who reads them gets the error. */
	struct unit_doom dooms[UNITS_DOOMS];
	_Atomic unsigned int doomed; /* ever; may be read without the lock */

	/* Of an image whose size is provisional: */
	bool provisional;
	bool exact;    /* its end was seen: where `size` says */
	bool longer;   /* there is something behind `size` */
	uint64_t real; /* the end that was seen; UINT64_MAX: none yet */
};

/* How many bytes are known to be right: the last one of a provisional image is not, until the end
 * was seen. */
static inline uint64_t units_end(const struct units *u)
{
	return u->flight->object->size - (u->provisional && !u->exact);
}

/* Behind the bytes from @off on that are stored or about to be; @off itself when it is not. Looks
 * no further than to the end of its granule. */
uint64_t streams_reach(const struct units *u, uint64_t off);

/* What is known to be wrong of [off, off + len), or NULL. */
const struct unit_doom *streams_doom(const struct units *u, uint64_t off, uint64_t len);

/* The stream that brings @off with little work in between, or NULL. [@start, @end) is the unit. */
struct unit_stream *streams_find(struct units *u, uint64_t off, uint64_t start, uint64_t end);

/* Sends @s up to @goal. */
void streams_send(struct unit_stream *s, uint64_t goal);

/* Starts a stream for @off in the unit that begins at @start. NULL and 0: all slots are taken.
 * @demand: somebody waits for it; idle ones then make room. */
int streams_start(struct units *u, uint64_t off, uint64_t start, uint64_t goal, bool demand,
	struct unit_stream **ret, struct err *e);

#endif
