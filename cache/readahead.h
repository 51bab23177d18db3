/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guessing what will be read next: up to 16 streams of reads of one image, each with a window ahead
 * of its reader that grows with what it read. Reads of one stream may come out of order, as kernels
 * and several threads send them. Pure arithmetic; the caller locks.
 */
#ifndef CACHE_READAHEAD_H
#define CACHE_READAHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READAHEAD_STREAMS 16U
/* A read belongs to a stream when it starts so far before or behind where that was expected. */
#define READAHEAD_BACK  ((uint64_t)256 << 10)
#define READAHEAD_AHEAD ((uint64_t)1 << 20)

struct readahead_stream {
	uint64_t start;  /* of its first read */
	uint64_t next;   /* behind its furthest read */
	uint64_t bytes;  /* read */
	uint64_t sent;   /* everything before this was asked for */
	uint64_t window; /* bytes to have ahead of `next` */
	uint64_t used;   /* when, in reads of the image; 0: the slot is free */
	unsigned int hits;
};

struct readahead {
	struct readahead_stream streams[READAHEAD_STREAMS];
	uint64_t reads;
	uint64_t size; /* of the image */
};

/* What the link suggests: see planner.h. */
struct readahead_limits {
	uint64_t chunk;  /* bytes of one fill */
	uint64_t lone;   /* what a miss that is of no stream fetches: a stream is worth that, too */
	uint64_t window; /* at most */
	double trust;    /* 0 to 1: how well guesses did of late */
};

struct readahead_plan {
	bool stream; /* the read continues a stream */
	unsigned int slot;
	uint64_t off; /* to be fetched ahead; len 0: nothing */
	uint64_t len;
};

void readahead_init(struct readahead *ra, uint64_t size);

/* A read of [off, off + len); @stalled: some of it was not there. The plan counts as carried out
 * unless readahead_cut() says otherwise. */
struct readahead_plan readahead_note(struct readahead *ra, uint64_t off, uint64_t len, bool stalled,
	const struct readahead_limits *limits);

/* Of @plan, only the first @done bytes could be asked for. */
void readahead_cut(struct readahead *ra, const struct readahead_plan *plan, uint64_t done);

#endif
