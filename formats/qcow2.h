/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2, versions 2 and 3, complete for reading: zlib and zstd, all cluster sizes, extended L2
 * entries, backing files. What an image says is never trusted: a place that the file does not hold
 * is -EBADMSG when it is read, never zeros.
 *
 *      qcow2.c          open, report, close
 *      qcow2_header.c   the first cluster
 *      qcow2_entry.c    what one entry says
 *      qcow2_map.c      guest range -> runs
 *      qcow2_extent.c   all tables at once
 *      mapped.h         everything else
 */
#ifndef FORMATS_QCOW2_H
#define FORMATS_QCOW2_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/image.h"
#include "formats/format.h"
#include "formats/mapped.h"
#include "formats/qcow2_entry.h"
#include "formats/qcow2_header.h"

struct qcow2 {
	struct mapped m;
	struct qcow2_header header;
	struct qcow2_geometry geo;
	/* Where the last ends of what was met beyond the end of the file; 0: nothing was. */
	_Atomic uint64_t reach;
	uint64_t l2_bytes;   /* of all L2 tables; UINT64_MAX where counting costs too much */
	_Atomic bool warned; /* of reserved bits */
};

/* Up to so many bytes of L2 tables are fetched at open and all of them looked at. */
#define QCOW2_L2_SMALL MIB(8)

/* Takes @below over on success. */
int qcow2_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

/* Something was met beyond the end of the file, and ends at @end; 0: it was not. Thread-safe. */
void qcow2_note_beyond(struct qcow2 *q, uint64_t end);

/* Of struct image_ops. */
int qcow2_allocated(struct image *img, uint64_t *ret, struct err *e);

/* Asks the file for all L2 tables when together they are small, so that a random read needs no
 * other round trip than its own. Looks at the L1 table, which is at hand. */
void qcow2_prefetch_tables(struct qcow2 *q);

#endif
