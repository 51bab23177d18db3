/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes on beside the readers of one image that is mounted: their first touches are recorded, a
 * trace of earlier boots is replayed ahead of them, what is absent is fetched in the end, and the
 * whole is verified. One thread an image.
 */
#ifndef CACHE_WARM_H
#define CACHE_WARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache.h"
#include "cache/complete.h"
#include "cache/flight.h"
#include "cache/replay.h"
#include "cache/tracer.h"
#include "core/report.h"

/* Which bytes are here: as long as it is the same, no byte took the place of another. */
struct warm_mark {
	_Atomic uint64_t fills;      /* so many fetches were begun */
	_Atomic uint64_t generation; /* see struct object_ops */
	/* Bytes that the object keeps. Others may keep what we have in memory only, and from then
	 * on theirs is what is read. */
	_Atomic uint64_t kept;
};

struct warm {
	struct flight *flight;
	struct image *img; /* borrowed: id and size, and what is here of it */
	struct tracer tracer;
	struct replay replay;
	struct complete complete;
	bool records; /* touches are kept */
	cache_verify_fn *verify;
	void *verify_ctx;
	char *digest; /* owned; NULL: nothing to verify with */
	/* Protected by the flight's lock: */
	struct trace incoming; /* to be replayed next; version NULL: none */
	bool ending;
	/* The thread's, and warm_stop()'s after it: */
	struct trace old; /* what the cache remembers of the boots before this one */
	size_t saved;     /* touches that the cache's record knows */
	uint64_t saved_ns;
	bool settled;           /* verifying was tried and needs no second time */
	bool lost;              /* something that was verified went */
	uint64_t looked_ns;     /* when it was last seen whether it is back */
	_Atomic int verified;   /* 0: not yet, 1: right, -1: wrong */
	struct warm_mark mark;  /* of what was verified */
	_Atomic bool has_trace; /* something was, or will be, replayed */
	pthread_t thread;
	bool started;
};

struct warm_place {
	struct flight *flight;
	struct spool *spool;       /* or NULL */
	uint64_t memory;           /* bytes that are kept, in memory mode; else 0 */
	bool may_complete;         /* all of the image can be kept, if need be alone */
	bool may_complete_unasked; /* there is room for all of it */
};

/* @opts are copied, but for verify's context. On failure nothing is left. */
int warm_start(struct image *img, const struct warm_place *place,
	const struct cache_serve_opts *opts, struct warm **ret, struct err *e);

/* Ends the thread: the flight was interrupted. Keeps what was recorded. The image's granules are
 * there until it returns. NULL is nothing. */
void warm_stop(struct warm *w);

/* Parses @data and replays it. -EBADMSG, -ENOTSUP; -ESTALE: it is of another image or version. */
int warm_trace(struct warm *w, const void *data, size_t len, struct err *e);

/* A reader reads [off, off + len). */
void warm_touch(struct warm *w, uint64_t off, size_t len);

void warm_report(struct warm *w, struct report *r);

/* The bytes are known not to be those that were meant. */
static inline bool warm_refuses(const struct warm *w)
{
	return atomic_load_explicit(&w->verified, memory_order_relaxed) < 0;
}

/* Not known to be those that were meant, though there is something to verify them with. */
bool warm_doubts(const struct warm *w);

#endif
