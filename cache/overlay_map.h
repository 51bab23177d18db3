/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which units the overlay has: roots and map of overlay_file.h in memory, as they will be after the
 * next save; on disk they are as of the last one. Memory is used for the pages that exist.
 * Thread-safe.
 */
#ifndef CACHE_OVERLAY_MAP_H
#define CACHE_OVERLAY_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/overlay_file.h"
#include "core/err.h"

enum overlay_state {
	OVERLAY_ABSENT, /* the base has it */
	OVERLAY_DATA,
	OVERLAY_ZERO,
};

struct overlay_map;

/* Reads and checks what is in the file @fd, which is called @path in messages; it is borrowed. A
 * file that is just made has nothing to read: @fresh. -EBADMSG: damaged. */
int overlay_map_new(int fd, const char *path, const struct overlay_file_header *h, bool fresh,
	struct overlay_map **ret, struct err *e);

/* NULL is nothing. */
void overlay_map_free(struct overlay_map *m);

/* The state of @unit; *ret_count: of so many units from there on, at least, and at most @most
 * (which is not 0). */
enum overlay_state overlay_map_at(
	struct overlay_map *m, uint64_t unit, uint64_t most, uint64_t *ret_count);

/* Before units in [first, first + count) get a state: makes sure that the file has the pages where
 * it will be written. -ENOSPC or another errno. */
int overlay_map_reserve(struct overlay_map *m, uint64_t first, uint64_t count);

/* Sets the state of units whose pages are reserved, to anything but absent. Their data was written
 * before. */
void overlay_map_set(
	struct overlay_map *m, uint64_t first, uint64_t count, enum overlay_state state);

/* Makes the data and then the states durable, both as they were when it was called or later. One
 * caller at a time. A failure to sync is final: each later call returns it. */
int overlay_map_save(struct overlay_map *m);

/* 0, or the failure to sync that was met. */
int overlay_map_broken(struct overlay_map *m);

/* How many units are data, and how many zeros. */
void overlay_map_count(struct overlay_map *m, uint64_t *ret_data, uint64_t *ret_zero);

#endif
