/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For images that are decoded in units (image_unit_at()): a read of something absent starts a
 * stream where its unit begins, or joins one that is on its way there; every whole granule that
 * passes is stored, and readers get their bytes as these come by. Several units are decoded at
 *once; those behind a reader who goes on are decoded before it comes there. A stream that nobody
 *needs ends with its unit when that is small, and else waits, where it is, for who goes on.
 *
 *	units.c		readers
 *	streams.c	the threads that decode
 *	parts.c		what they brought, until it is stored
 *
 * Nothing of a unit's size is in memory. Thread-safe.
 */
#ifndef CACHE_UNITS_H
#define CACHE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/flight.h"
#include "core/err.h"
#include "core/report.h"

struct units;

struct units_opts {
	uint64_t memory; /* what is kept may be forgotten when more than this comes behind it; 0:
			    it is on disk */
	uint64_t ahead;  /* cap of what is decoded ahead of one reader; 0: default */
	bool no_ahead;
};

/* @fl lends the image below, the object, the pool and the counters. */
int units_new(struct flight *fl, const struct units_opts *opts, struct units **ret, struct err *e);

/* Reads [off, off + len), whose first byte was absent a moment ago. */
int units_read(struct units *u, uint8_t *buf, size_t len, uint64_t off, struct err *e);

/* -EBADMSG: some of [off, off + len) was found to be wrong, whoever may have stored it again since.
 * Quick. */
int units_check(struct units *u, size_t len, uint64_t off, struct err *e);

/* Whether it may yet show that bytes which are stored are wrong, or some were. */
bool units_doubt(struct units *u);

/* Somebody reads [off, off + len): if this goes on, what follows is decoded ahead. Quick. */
void units_note(struct units *u, uint64_t off, uint64_t len);

/* Somebody will read [off, off + len) some time. Quick. */
void units_hint(struct units *u, uint64_t off, uint64_t len);

/* Streams that stand within a unit go on to its end, where it shows whether it was right. Waits for
 * them; what is wrong is found by who reads it. */
void units_finish(struct units *u);

/* Readers get -ECANCELED, streams end at their next byte. */
void units_interrupt(struct units *u);

void units_report(struct units *u, struct report *r);

/* NULL is nothing. */
void units_free(struct units *u);

#endif
