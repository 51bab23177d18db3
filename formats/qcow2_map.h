/* SPDX-License-Identifier: Apache-2.0 */
/* From guest ranges to runs of one kind. */
#ifndef FORMATS_QCOW2_MAP_H
#define FORMATS_QCOW2_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "formats/qcow2.h"

/* As map of struct mapped_ops; @m is a struct qcow2. */
int qcow2_map(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e);

/* Of struct image_ops: a page of an L2 table. */
int qcow2_table_at(
	struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end, struct err *e);

#endif
