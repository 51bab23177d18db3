/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decoders (decoded.h) have handed over of units before their end was seen to be right. The
 * checksum that stands at the end speaks for the download that it was met in, and for no other: who
 * stopped before it may have got other bytes than who comes after and finds everything right. So
 * each cursor has a witness, which keeps a running hash of the bytes from the unit's beginning, and
 * whatever is handed over leaves a claim: "up to here, it hashes to this". Whoever decodes the
 * unit anew and to its end can tell whether that is so.
 *
 * A claim goes when its own cursor comes to the unit's end and finds it right. What a cursor left
 * that ended before is taken over by the next one that comes by with the same hash, for then the
 * claim further on says all of it. So of a unit there are few at any time, also in a mount that
 * nobody ever proves; their number is bounded for all that, in proportion to the units, and past
 * that the image counts as one that cannot be proven.
 *
 * The hash (XXH3, 64 bits) is against accidents; who wants to deceive has checksums that are no
 * harder to forge. All functions are thread-safe; a witness belongs to one thread at a time.
 */
#ifndef FORMATS_CLAIMS_H
#define FORMATS_CLAIMS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

/* So many claims there may be, in proportion to the units and beside that. A unit that is read in
 * pieces, from its end towards its beginning, has a claim for each; in an order that has nothing to
 * do with places, three or four. */
#define CLAIMS_PER_UNIT 8U
#define CLAIMS_SPARE    1024U

struct claim {
	struct claim *next;
	uint64_t pos; /* in the decoded image: behind the last byte that was handed over */
	uint64_t sum; /* of the unit's bytes before that */
	bool held;    /* by a witness, who may move it */
};

struct claims_unit {
	struct claim *first;
	bool proven; /* somebody met its end, and all was right */
};

struct claims {
	pthread_mutex_t lock; /* protects all below */
	struct claims_unit *units;
	size_t unit_count;
	size_t count; /* of claims */
	size_t most;
	size_t missing; /* claims that there should be, but there was no room */
};

struct witness {
	struct claims *claims;
	struct claims_unit *unit;
	XXH3_state_t *state;
	uint64_t pos;      /* so far it has seen the decoded image */
	struct claim *own; /* NULL: nothing was handed over */
	bool missing;      /* something was, and there was no room for the claim */
};

/* Of @units units, none of them proven. -ENOMEM or 0. Safe to clear when zeroed. */
int claims_init(struct claims *s, size_t units);

/* There are no witnesses any more. */
void claims_clear(struct claims *s);

/* Whether something of the unit has yet to be proven. */
bool claims_open(struct claims *s, size_t unit);

/* Whether there are claims that nobody knows any more. */
bool claims_lost(struct claims *s);

/* A malloc()ed copy of the claims of the unit, by position; NULL when there are none. -ENOMEM or 0.
 */
int claims_list(struct claims *s, size_t unit, struct claim **ret, size_t *ret_n);

/* A witness at the beginning of @unit, which is at @pos. -ENOMEM or 0. */
int witness_init(struct witness *w, struct claims *s, size_t unit, uint64_t pos);

/* The next @n bytes of the unit. */
void witness_see(struct witness *w, const uint8_t *data, size_t n);

/* Of the bytes that were seen. */
uint64_t witness_sum(const struct witness *w);

/* Bytes up to where it is are about to be handed over. */
void witness_hand(struct witness *w);

/* The unit ends here, and all was right. */
void witness_prove(struct witness *w);

/* Nobody goes on for the time being: others who come by may take its claim over. */
void witness_park(struct witness *w);

/* Somebody does: the claim is its own again, if it is still there. */
void witness_resume(struct witness *w);

/* Its claim stays, unless there is the same already. */
void witness_clear(struct witness *w);

#endif
