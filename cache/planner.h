/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much to fetch at a time: what was measured of the link, and of the use made of bytes that
 * came before anybody asked for them. Pure arithmetic; the caller locks.
 */
#ifndef CACHE_PLANNER_H
#define CACHE_PLANNER_H

#include <stdbool.h>
#include <stdint.h>

struct planner {
	uint64_t rtt_us; /* from a request to its first byte; 0: not measured yet */
	uint64_t rate;   /* bytes a second of all transfers together; 0: not measured yet */
	/* Of the recent past, older events counting less: */
	double ahead_fetched;
	double ahead_used;
	uint64_t seen_fetched; /* totals at the last look */
	uint64_t seen_used;
};

void planner_init(struct planner *p);

/* A transfer's first byte came @us after it was asked for. */
void planner_first_byte(struct planner *p, uint64_t us);

/* @bytes came over the link in @us, during which it was not idle. */
void planner_rate(struct planner *p, uint64_t bytes, uint64_t us);

/* Totals: bytes fetched before anybody asked, and those of them that were read. */
void planner_usage(struct planner *p, uint64_t fetched, uint64_t used);

/* A trace says what will be read: what lies around other places is worth little until it was used.
 */
void planner_foretold(struct planner *p);

/* Bandwidth-delay product in bytes; a guess before there are measurements. */
uint64_t planner_bdp(const struct planner *p);

/* Bytes that the link carries in @us. */
uint64_t planner_carries(const struct planner *p, uint64_t us);

/* How long a transfer of @bytes should take, us. */
uint64_t planner_duration(const struct planner *p, uint64_t bytes);

/* Bytes to fetch for one miss that belongs to no stream, while @others more misses are on their
 * way: 64 KiB to 8 MiB. */
uint64_t planner_fill(const struct planner *p, unsigned int others);

/* 0 to 1: how much of what came ahead was used of late. */
double planner_trust(const struct planner *p);

/* For hints, of which some pieces are on their way at once: bytes of one. Large ones cost less; but
 * what is on its way when the process is killed was fetched in vain. */
uint64_t planner_piece(const struct planner *p);

/* For streams: bytes of one fill, and the most that is worth having on its way. */
uint64_t planner_chunk(const struct planner *p);
uint64_t planner_window(const struct planner *p);

#endif
