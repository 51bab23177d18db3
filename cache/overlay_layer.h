/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layer over a file that is open: what overlay.c opens, and what reads and writes it.
 *
 * A write waits for the base first, without a lock; then it holds its range (overlay_range.h), has
 * the map's pages reserved, writes the bytes, and only then changes the words of the map in memory.
 * Zeroing changes the words first. What the file says on disk changes with a flush alone.
 */
#ifndef CACHE_OVERLAY_LAYER_H
#define CACHE_OVERLAY_LAYER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/overlay.h"
#include "cache/overlay_file.h"
#include "cache/overlay_map.h"
#include "cache/overlay_range.h"
#include "core/image.h"

struct overlay {
	struct image img;
	int fd;
	char *path; /* "" when temporary */
	bool temporary;
	struct overlay_file_shape shape;
	struct overlay_map *map;
	struct overlay_ranges ranges;

	pthread_mutex_t flush_lock; /* one flush at a time */
	_Atomic uint64_t changes;
	uint64_t flushed; /* what `changes` was when the last flush began; under flush_lock */

	pthread_mutex_t count_lock; /* of the next two */
	bool counted;
	uint64_t uncovered; /* data bytes of the base that showed through when they were counted */

	_Atomic bool no_punch; /* the file system cannot */
	_Atomic uint64_t writes;
	_Atomic uint64_t bytes_written;
	_Atomic uint64_t zeroes;
	_Atomic uint64_t bytes_zeroed;
	_Atomic uint64_t flushes;
};

extern const struct image_ops overlay_layer_ops;

/* Frees all but what image_fini() does. */
void overlay_layer_free(struct overlay *o);

/* Punches out of the data what no word speaks of. */
void overlay_layer_reclaim(struct overlay *o);

/* Bytes of the file system that a file takes. */
uint64_t overlay_layer_disk_used(int fd);

#endif
