/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decoders of compressed images (xz, zstd) share: a layer that is cut into units. A unit is a
 * run of decoded bytes that is decoded as one, in order, from its start: one compressed block, or
 * several small ones, so that there are not many more units than megabytes. Different units may be
 * decoded on several threads at once.
 *
 * A block of which it is known beforehand that it decodes to DECODED_HELD bytes or less is handed
 * over when it was found right, and not before: nobody ever gets a wrong byte of it. Of a larger
 * one, and of one of unknown size, bytes are handed over as they are decoded, and proven by its end
 * (claims.h).
 *
 * stream_at decodes the units of its range one by one and drops what stands before the range; it
 * keeps no more than a decoder's window and a block that is held. read_at does the same, and keeps
 * its decoder, so that reads in order cost no more than a stream. Neither remembers what was
 * decoded: that is for the cache above.
 *
 * Where nothing says how long the image is (IMAGE_SIZE_PROVISIONAL), it is one unit, and the first
 * cursor that meets the end tells.
 *
 * A format embeds struct decoded as the first member of its image, fills it with decoded_init(),
 * decoded_add() and one of decoded_finish() and decoded_finish_open(), and implements struct
 * decoder_ops.
 */
#ifndef FORMATS_DECODED_H
#define FORMATS_DECODED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/claims.h"
#include "formats/feed.h"

/* Blocks are grouped until a unit has so many bytes. */
#define DECODED_UNIT_MIN ((uint64_t)1 << 20)
/* What is handed over at a time. */
#define DECODED_PIECE 262144U
/* Blocks of so many bytes or less are held back until they were found right. */
#define DECODED_HELD ((uint64_t)2 << 20)
/* Memory that one decoder may ask for; what needs more is refused. */
#define DECODED_MEMORY_MAX ((uint64_t)132 << 20)

struct unit {
	uint64_t in;  /* where it begins in the compressed image */
	uint64_t out; /* where it begins here */
	uint64_t tag; /* the decoder's */
};

struct decoded;

/* A decoder within a unit; the format embeds it as its first member. It belongs to one thread at a
 * time. */
struct cursor {
	struct decoded *image;
	struct feed *feed; /* from the unit's beginning to the next one's; closed by decoded.c */
	size_t unit;
	uint8_t *out; /* where steps decode to; owned by decoded.c */
	size_t room;
	uint64_t pos; /* where the next byte of `lent`, or of the next step, stands */
	const uint8_t *lent;
	size_t left;
	struct witness witness; /* of what stands before `pos` */
};

struct decoder_ops {
	/* A cursor at the beginning of @unit; only the members of the format are its business. */
	int (*start)(
		struct decoded *d, const struct unit *unit, struct cursor **ret, struct err *e);

	/* Decodes the next *ret_n bytes to c->out, which is what cursor_room() made it. They are of
	 * one block: all of it, found right, when it is one that is held. 0: the unit ends here,
	 * and whatever could be checked of it was right. */
	int (*step)(struct cursor *c, size_t *ret_n, struct err *e);

	void (*end)(struct cursor *c);
};

struct decoded {
	struct image img;
	const struct decoder_ops *decoder;
	struct unit *units; /* units[count] is the end */
	size_t count;
	size_t room;
	_Atomic bool interrupted;
	struct claims claims;   /* what was handed over before the end of its unit was seen */
	_Atomic uint64_t bytes; /* that were decoded */
	_Atomic uint64_t real;  /* bytes that there are; UINT64_MAX: not known yet */
	pthread_mutex_t lock;   /* protects idle */
	struct cursor *idle;    /* where the last read_at ended; NULL: none */
};

/* A decoded image of size 0 without units, over @below. @ops are those of the format, made of the
 * functions below. -ENOMEM or 0; afterwards decoded_fini() frees it all. */
int decoded_init(struct decoded *d, const struct image_ops *ops, const struct decoder_ops *decoder,
	struct image *below, struct err *e);

void decoded_fini(struct decoded *d);

/* The next block begins at (@in, @out); it begins a unit unless the one before is still small.
 * Blocks come in order. -ENOMEM or 0. */
int decoded_add(struct decoded *d, uint64_t in, uint64_t out, uint64_t tag, struct err *e);

/* There are no more blocks; the last ends at (@in, @out), which is the size of the image. With one
 * unit it becomes IMAGE_SEQUENTIAL. */
int decoded_finish(struct decoded *d, uint64_t in, uint64_t out, struct err *e);

/* All of @below is one unit, of probably @size bytes and certainly not more than @bound. */
int decoded_finish_open(struct decoded *d, uint64_t size, uint64_t bound, struct err *e);

/* For a step within a block of @block decoded bytes (UINT64_MAX: nobody knows): makes room at
 * c->out for what is decoded at a time, which is *ret. Where the block is held, that is a byte more
 * than it has, so that a decoder does not stop for want of room before it has met the end. -ENOMEM
 * or 0.
 */
int cursor_room(struct cursor *c, uint64_t block, size_t *ret, struct err *e);

int decoded_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);
int decoded_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e);
int decoded_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e);

/* Decodes again each unit that was not seen to its end yet, or of which a cursor that stopped
 * before its end handed over bytes: were they these? */
int decoded_prove(struct image *img, struct err *e);

int decoded_final_size(struct image *img, uint64_t *ret);
void decoded_interrupt(struct image *img);

struct report;
void decoded_report(struct image *img, struct report *r);

#endif
