/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one seam. An image is a readable run of bytes of fixed size. Every layer (http, cache, qcow2,
 * overlay, ...) implements struct image_ops and consumes the image below it through the checked
 * wrappers in this header; nobody else calls the table.
 *
 *      fusefs, copy
 *           |            image_read_at(), image_extent_at()
 *        overlay
 *           |
 *         qcow2
 *           |
 *         cache          one fill serves everybody who waits for it
 *           |            image_stream_at()
 *         http
 *
 * Rules:
 *  - `size` is fixed at open, and `id` (a digest, or URL + validator) names exactly these bytes:
 * when the remote changes, reads fail with -ESTALE; two versions are never mixed.
 *  - Every operation may be called from many threads at once, and blocks until it is done.
 *  - A layer owns the image below it after its own open succeeded, and not before: on failure the
 *    caller still owns it. image_close() closes the whole chain.
 *  - No operation logs above debug, prints, exits, or holds a lock while it waits for the network.
 *
 * An implementation embeds struct image as its first member and fills it with image_init().
 */
#ifndef CORE_IMAGE_H
#define CORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/extent.h"

struct image;
struct report;

/* Receives a stream: @n bytes that stand at @off, in order, without gaps. The bytes are only lent.
 * Called on any thread, one call at a time for one stream; must be quick and must not block on the
 * network. A negative return stops the stream, which then fails with that code. */
typedef int image_sink_fn(void *ctx, uint64_t off, const void *buf, size_t n);

struct image_ops {
	const char *name; /* "http", "qcow2": for messages and reports */

	/* All of @len bytes, or failure. The range is within the image. */
	int (*read_at)(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

	/* The same bytes, handed to @sink while they arrive; for sources whose transfers take time.
	 * After a failure, @sink may have had a correct beginning. NULL: made from read_at. */
	int (*stream_at)(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
		void *ctx, struct err *e);

	/* The extent that contains @off; it begins at or before @off and may be clipped at will as
	 * long as it contains @off. NULL: all is data. */
	int (*extent_at)(struct image *img, uint64_t off, struct extent *ret, struct err *e);

	/* A hint that the range will be read soon; returns at once, never fails. NULL: ignored. */
	void (*prefetch)(struct image *img, uint64_t off, uint64_t len);

	/* How many bytes of the image are data rather than holes: exact where that costs little,
	 * else the best estimate. May block on the network for a bounded amount. NULL: size. */
	int (*allocated)(struct image *img, uint64_t *ret, struct err *e);

	/* NULL: -EROFS. flush: what was written before is durable when it returns. */
	int (*write_at)(
		struct image *img, const void *buf, size_t len, uint64_t off, struct err *e);
	int (*zero_at)(struct image *img, uint64_t off, uint64_t len, struct err *e);
	int (*flush)(struct image *img, struct err *e);

	/* Adds this layer's facts and counters to @r, with report_u64() and friends. NULL: none. */
	void (*report)(struct image *img, struct report *r);

	/* Operations under way, and all later ones, fail soon with -ECANCELED instead of waiting
	 * for the network: the image is about to be closed. Returns at once. NULL: nothing of this
	 * layer waits. */
	void (*interrupt)(struct image *img);

	/* Frees the layer and closes `below`. */
	void (*destroy)(struct image *img);
};

/* Bytes come cheaply only in order from 0 (a server without ranges, a compressed stream): reading
 * elsewhere costs as much as reading everything before it. A cache above spools such an image. */
#define IMAGE_SEQUENTIAL 0x1U
/* The bytes are on this machine already: caching them gains nothing. */
#define IMAGE_LOCAL 0x2U
/* `id` holds no usable validator: it names these bytes for this process only. */
#define IMAGE_UNVERSIONED 0x4U

struct image {
	const struct image_ops *ops;
	struct image *below; /* the next layer down, or NULL; owned */
	uint64_t size;       /* bytes */
	uint32_t block; /* reads aligned to this waste nothing: a power of two, 1 when it does not
			   matter */
	unsigned int flags; /* IMAGE_* */
	char *id;           /* owned, malloc()ed */
};

/* For implementations: sets all fields. @id is copied. -ENOMEM or 0. */
int image_init(struct image *img, const struct image_ops *ops, struct image *below, uint64_t size,
	const char *id);

/* For implementations' destroy: closes `below` and frees what image_init() allocated. */
void image_fini(struct image *img);

/* Reads exactly [off, off + len) into @buf. -EINVAL when the range is not within the image; a
 * length of 0 reads nothing. Never short. */
int image_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);

int image_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e);

/* The extent at @off, clipped to start at @off and to end within the image. @off < size. */
int image_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e);

/* The range may reach past the end: it is clipped. */
void image_prefetch(struct image *img, uint64_t off, uint64_t len);

int image_allocated(struct image *img, uint64_t *ret, struct err *e);

/* These return -EROFS on a read-only image. */
int image_write_at(struct image *img, const void *buf, size_t len, uint64_t off, struct err *e);
int image_zero_at(struct image *img, uint64_t off, uint64_t len, struct err *e);
int image_flush(struct image *img, struct err *e);
bool image_writable(const struct image *img);

/* Reports of the whole chain, from the top down. */
void image_report(struct image *img, struct report *r);

/* Makes whoever waits in this image or below it come back, so that it can be closed without waiting
 * for a dead network. Only image_close() makes sense afterwards. */
void image_interrupt(struct image *img);

/* Closes the image and everything below it. NULL is nothing. */
void image_close(struct image *img);

/* For CLEANUP(image_closep) on a local. */
void image_closep(struct image **img);

#endif
