/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all formats share that keep a disk in blocks anywhere in a file, behind tables that say
 * where: qcow2, vmdk, vhd, vhdx, vdi. A format parses its header and says what is where (struct
 * mapped_ops); reading, decompression, extents and hints are the same for all of them.
 *
 *      mapped_read.c     runs -> bytes
 *      mapped_cluster.c  compressed clusters, decoded once
 *      mapped_extent.c   extents, prefetch, how much is data
 *      tables.c          the tables, paged in
 *      codec.c           the decompressors
 */
#ifndef FORMATS_MAPPED_H
#define FORMATS_MAPPED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/codec.h"
#include "formats/memo.h"
#include "formats/tables.h"
#include "formats/tails.h"

enum run_kind {
	RUN_UNALLOCATED, /* what the backing file says, else zeros */
	RUN_ZERO,
	RUN_DATA,
	RUN_COMPRESSED,
};

struct run {
	enum run_kind kind;
	uint64_t offset; /* guest */
	uint64_t length; /* never 0 */

	/* DATA: of the first byte; all of the run lies in the file, contiguous. ZERO and
	 * UNALLOCATED: the same where space is reserved (perhaps beyond the end of the file), else
	 * EXTENT_NO_HOST. COMPRESSED: where the stream begins; the run is of one cluster. */
	uint64_t host;
	uint64_t host_length; /* COMPRESSED: of the stream, at most; it lies in the file */
};

struct mapped;

struct mapped_ops {
	/*
	 * The run at @off, of at most @len bytes (not 0; the range is within the image). It may end
	 * earlier than it could: at the end of a page of a table. -EBADMSG: a table is broken
	 * there, or the data lie beyond the end of the file. With @wait false never reads: -EAGAIN
	 * (without text) when a table is not here, which is then asked for with image_prefetch().
	 */
	int (*map)(struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret,
		struct err *e);

	/*
	 * Where in the first @have bytes @in of COMPRESSED @run the stream lies: *ret_len bytes
	 * from *ret_skip on. It may reach beyond @have, but not out of the file, and is bounded by
	 * the format. -EBADMSG: what stands there is not of this run. NULL: the stream begins at
	 * once.
	 */
	int (*frame)(struct mapped *m, const struct run *run, const uint8_t *in, size_t have,
		size_t *ret_skip, size_t *ret_len, struct err *e);
};

/* A format embeds it as its first member, `img` being the image and `img.below` the file. */
struct mapped {
	struct image img;
	const struct mapped_ops *map;
	struct tables tables;
	struct codec *codec;        /* NULL: nothing is compressed */
	struct memo *clusters;      /* decompressed ones, by number; with `codec` */
	struct tails *tails;        /* NULL: nothing is kept of the file itself */
	struct image *backing;      /* NULL: none; owned */
	char backing_name[256];     /* what the image calls it, fit to be shown */
	uint64_t cluster_size;      /* a power of two */
	uint64_t table_span;        /* bytes of the disk for which one table speaks; 0: no tables */
	bool short_tail;            /* the last stream may end where the disk does */
	_Atomic uint64_t allocated; /* UINT64_MAX: not counted yet */
};

/* For a format that has no more to it than what it maps: the whole of its image_ops but report and
 * destroy. */
int mapped_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);
int mapped_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e);
void mapped_prefetch(struct image *img, uint64_t off, uint64_t len);
int mapped_allocated(struct image *img, uint64_t *ret, struct err *e);
void mapped_interrupt(struct image *img);
void mapped_listen(struct image *img, image_withdrawn_fn *fn, void *ctx);
void mapped_forget(struct image *img);
/* Only of the backing file: for formats that may have one. */
int mapped_prove(struct image *img, struct err *e);
bool mapped_owes_proof(const struct image *img);

/* Puts the name of the backing file in front of an error of its, unless one further down stands
 * there already. Returns @code. */
int mapped_backing_failed(const struct mapped *m, int code, struct err *e);

/* Tables of @file (borrowed) that take at most @memory bytes, no codec; everything else is left to
 * the caller. -ENOMEM or 0. mapped_clear() is safe after a failure, and on zeroed memory. */
int mapped_init(struct mapped *m, const struct mapped_ops *ops, struct image *file, size_t memory);

/* Clusters of `cluster_size` are compressed so. -ENOMEM or 0. */
int mapped_use_codec(struct mapped *m, enum codec_kind kind);

/* image_init() of a disk of @size bytes that is called NAME(id of @file), or that over the id of
 * the backing file; `block` and flags follow from the layers below. -ENOMEM or 0. */
int mapped_init_image(
	struct mapped *m, const struct image_ops *ops, struct image *file, uint64_t size);

/* Frees what mapped_init() and mapped_use_codec() made, and closes the backing file. */
void mapped_clear(struct mapped *m);

/* What mapped_count() adds up. */
struct mapped_tally {
	uint64_t data; /* bytes of the guest */
	uint64_t host; /* bytes of the file that hold them */
};

/* Adds to @t what [off, end) has. What cannot be mapped because it is corrupt counts as data. */
int mapped_count(
	struct mapped *m, uint64_t off, uint64_t end, struct mapped_tally *t, struct err *e);

#endif
