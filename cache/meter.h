/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the link carried while it was not idle, all transfers together. The time between a request
 * and its first byte is idle time unless bytes of others come meanwhile; but no more of it than a
 * round trip: a reader that has no processor for a while finds everything at once, in the buffers
 * of the kernel, and that is no quick link. Pure arithmetic; the caller locks.
 */
#ifndef CACHE_METER_H
#define CACHE_METER_H

#include <stdbool.h>
#include <stdint.h>

struct meter {
	uint64_t delivered;   /* bytes that came, ever */
	unsigned int flowing; /* transfers whose first byte came and whose end did not */
	uint64_t idle_ns;     /* when the last of them ended */
	uint64_t busy_ns;     /* since when one or more of them flow */
	uint64_t busy_bytes;  /* `delivered` at that time */
};

/* One transfer. */
struct meter_run {
	uint64_t sent_ns;    /* when it was asked for */
	uint64_t sent_bytes; /* `delivered` at that time */
	bool flows;
};

void meter_sent(const struct meter *m, struct meter_run *r, uint64_t now_ns);

/* Its first byte is here, and is counted afterwards; @rtt_ns is a round trip, 0 if unknown. */
void meter_first(struct meter *m, struct meter_run *r, uint64_t now_ns, uint64_t rtt_ns);

void meter_count(struct meter *m, uint64_t bytes);

/* It is over, well or not, or was never sent. What the link carried since it was asked for (or
 * since the link last was idle) and in which time; both 0: nothing can be said. */
void meter_ended(struct meter *m, struct meter_run *r, uint64_t now_ns, uint64_t *ret_bytes,
	uint64_t *ret_us);

#endif
