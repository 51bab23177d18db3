/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps of sparse files that are in the archive itself. Sources of the rules: the GNU tar manual,
 * "Storing Sparse Files" (old GNU format) and "PAX Format, Version 1.0".
 */
#ifndef FORMATS_TAR_SPARSE_H
#define FORMATS_TAR_SPARSE_H

#include <stdint.h>

#include "core/err.h"
#include "formats/tar_header.h"
#include "formats/tar_map.h"

/* Gives the 512 bytes at @off, or a negative errno; valid until the next call. */
typedef int tar_block_fn(void *ctx, uint64_t off, const uint8_t **ret, struct err *e);

/* Type S: @at is its header; more of the map may follow. *ret_data: where the data begins; the size
 * of the file is in @map, whose pieces are without `host`. */
int tar_sparse_old(uint64_t at, tar_block_fn *block, void *ctx, struct tar_map *map,
	uint64_t *ret_data, struct err *e);

/* PAX 1.0: the map is text at the front of the @len bytes at @data. *ret_data: where it ends. */
int tar_sparse_text(uint64_t data, uint64_t len, tar_block_fn *block, void *ctx,
	struct tar_map *map, uint64_t *ret_data, struct err *e);

#endif
