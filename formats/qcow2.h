/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2, versions 2 and 3, complete for reading: zlib and zstd, all cluster sizes, extended L2
 * entries, backing files. What an image says is never trusted: a place that the file does not hold
 * is -EBADMSG when it is read, never zeros.
 *
 *      qcow2.c          open, report, close
 *      qcow2_header.c   the first cluster
 *      qcow2_tables.c   L1 and L2 tables, paged in
 *      qcow2_entry.c    what one entry says
 *      qcow2_map.c      guest range -> runs
 *      qcow2_read.c     runs -> bytes
 *      qcow2_cluster.c  compressed clusters, decoded once
 *      qcow2_decode.c   the decompressors
 *      qcow2_extent.c   extents, prefetch, how much is data
 */
#ifndef FORMATS_QCOW2_H
#define FORMATS_QCOW2_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/image.h"
#include "formats/format.h"
#include "formats/memo.h"
#include "formats/qcow2_decode.h"
#include "formats/qcow2_entry.h"
#include "formats/qcow2_header.h"
#include "formats/qcow2_tables.h"

struct qcow2 {
	struct image img; /* `below` is the file */
	struct qcow2_header header;
	struct qcow2_geometry geo;
	struct qcow2_tables tables;
	struct qcow2_codec *codec;
	struct memo *clusters;      /* decompressed ones, by number */
	struct image *backing;      /* NULL: none; owned */
	uint64_t l2_bytes;          /* of all L2 tables; UINT64_MAX where counting costs too much */
	_Atomic uint64_t allocated; /* UINT64_MAX: not counted yet */
	_Atomic bool warned;        /* of reserved bits */
};

/* Up to so many bytes of L2 tables are fetched at open and all of them looked at. */
#define QCOW2_L2_SMALL MIB(8)

/* Takes @below over on success. */
int qcow2_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

/* The operations of struct image_ops that live in other files. */
int qcow2_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e);
int qcow2_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e);
void qcow2_prefetch(struct image *img, uint64_t off, uint64_t len);
int qcow2_allocated(struct image *img, uint64_t *ret, struct err *e);

/* Asks the file for all L2 tables when together they are small, so that a random read needs no
 * other round trip than its own. Looks at the L1 table, which is at hand. */
void qcow2_prefetch_tables(struct qcow2 *q);

#endif
