/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The housekeeper of a cache directory: one thread that starts writeback early, keeps the directory
 * within its limits, and the judgement whether storing makes sense now. Thread-safe.
 */
#ifndef CACHE_KEEPER_H
#define CACHE_KEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/bits.h"
#include "cache/evict.h"
#include "cache/store.h"

struct keeper;

/* The part of an open object that the housekeeper sees. */
struct kept {
	struct kept *next; /* the keeper's */
	const struct store_object *where;
	int data;
	struct bits touched;  /* segments (EVICT_SEGMENT) read since the clock last came by */
	_Atomic bool active;  /* read since the keeper last looked */
	_Atomic bool doubted; /* the disk lost writes: what is read is to be checked each time */
	_Atomic uint64_t *absent; /* counted up by the granules that were evicted */
};

/* Limits as in struct cache_opts. @s outlives the keeper. */
int keeper_new(
	struct store *s, uint64_t max_size, uint64_t min_free, struct keeper **ret, struct err *e);
/* NULL is nothing. */
void keeper_free(struct keeper *k);

void keeper_add(struct keeper *k, struct kept *o);
/* When it returns, the keeper does not touch @o any more. */
void keeper_remove(struct keeper *k, struct kept *o);

/* Whether storing may be tried now. */
bool keeper_admits(struct keeper *k);
/* @bytes were stored. */
void keeper_wrote(struct keeper *k, uint64_t bytes);
/* Storing failed with @code: makes room once, then stops trying for a while. */
void keeper_failed(struct keeper *k, int code);

/* Whether @bytes more of the object @hash, which is open, can be kept without evicting anything;
 * with @alone, if all else went. */
bool keeper_has_room(struct keeper *k, const char *hash, uint64_t bytes, bool alone);

/* Evicts until at most @max_size bytes are used; returns the bytes freed. */
uint64_t keeper_prune(struct keeper *k, uint64_t max_size);

#endif
