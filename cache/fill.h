/* SPDX-License-Identifier: Apache-2.0 */
/* One fill: a run of granules on its way, and the job that fetches it. For flight.c and fill.c. */
#ifndef CACHE_FILL_H
#define CACHE_FILL_H

#include "cache/flight.h"

struct fill {
	struct work work;  /* fetching */
	struct work store; /* storing what came */
	struct flight *flight;
	struct fill *next; /* in the flight's table */
	uint64_t off;      /* a multiple of the granule */
	/* Under the flight's lock: */
	uint64_t len;     /* shrinks when the fetch fails */
	uint64_t arrived; /* bytes in the blocks */
	uint64_t wake_at; /* the least that a waiter waits for */
	pthread_cond_t wake;
	unsigned int refs;     /* the table's, and one a waiter */
	bool wanted;           /* a reader waits, or did */
	enum fill_class class; /* it was begun for */
	uint64_t flown;        /* what it counts in flying[] */
	bool ended;
	int code; /* when ended */
	struct err err;
	bool apart; /* another process is fetching the same, and was not waited for any longer */
	/* The job's: */
	bool claimed;
	size_t whole;         /* granules that came, once it ended */
	uint64_t absorbed;    /* bytes at the beginning that were found present after all */
	struct meter_run run; /* under the flight's lock */
	size_t promised;      /* blocks */
	size_t count;         /* blocks */
	uint8_t *blocks[];
};

/* The job. */
void fill_run(struct work *w);

/* Gives up one reference; under the flight's lock. */
void fill_unref(struct fill *f);

/* Wakes whoever works ahead of the readers; under the flight's lock. */
void fill_progress(struct flight *fl);

/* Nanoseconds of a clock that never goes back. */
uint64_t fill_now(void);

#endif
