/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For images that can only be read from their beginning on: one stream fills the object in order,
 * readers wait until it comes by. It starts with the first read of something absent and goes on to
 * the end. What cannot be stored is still given to whoever waits for it; who comes too late for
 * that makes the stream start again at the first absent byte. Thread-safe.
 */
#ifndef CACHE_SPOOL_H
#define CACHE_SPOOL_H

#include "cache/flight.h"
#include "core/err.h"

struct spool;

/* @fl lends the image below, the object, the pool and the counters. */
int spool_new(struct flight *fl, struct spool **ret, struct err *e);

/* Reads [off, off + len), waiting for what is absent. */
int spool_read(struct spool *s, uint8_t *buf, size_t len, uint64_t off, struct err *e);

/* Readers get -ECANCELED, the stream ends at its next byte. */
void spool_interrupt(struct spool *s);

/* NULL is nothing. */
void spool_free(struct spool *s);

#endif
