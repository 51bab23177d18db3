/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The indexes of all streams of an .xz file, read from its end with few reads: one of the last 64
 * KiB is enough for most files. What is read and kept is bounded, whatever the file claims.
 */
#ifndef FORMATS_XZ_INDEX_H
#define FORMATS_XZ_INDEX_H

#include <lzma.h>

#include "core/err.h"
#include "core/image.h"

/* Memory of an index: some four million blocks. */
#define XZ_INDEX_MEMORY ((uint64_t)64 << 20)
/* Bytes that are read for it: indexes, footers, headers and padding of all streams. */
#define XZ_INDEX_READ_MAX ((uint64_t)128 << 20)

/* *ret is for lzma_index_end(). -EBADMSG: no whole .xz file; -ENOTSUP: an index or padding beyond
 * the bounds. */
int xz_index_read(struct image *img, lzma_index **ret, struct err *e);

#endif
