/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of units that somebody is changing. Who waits for one waits for writes to a local file,
 * never for the network. Thread-safe.
 */
#ifndef CACHE_OVERLAY_RANGE_H
#define CACHE_OVERLAY_RANGE_H

#include <pthread.h>
#include <stdint.h>

/* One holder, on its own stack. */
struct overlay_range {
	uint64_t first;
	uint64_t last; /* included */
	struct overlay_range *next;
};

struct overlay_ranges {
	pthread_mutex_t lock;
	pthread_cond_t less; /* somebody gave up a range */
	struct overlay_range *held;
};

void overlay_ranges_init(struct overlay_ranges *rs);
void overlay_ranges_fini(struct overlay_ranges *rs);

/* Waits until nobody holds a range that overlaps [first, last]. A thread holds one at a time. */
void overlay_range_take(
	struct overlay_ranges *rs, struct overlay_range *r, uint64_t first, uint64_t last);
void overlay_range_give(struct overlay_ranges *rs, struct overlay_range *r);

#endif
