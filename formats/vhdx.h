/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX, fixed and dynamic, of 512 and 4096 byte sectors; a log that was not replayed is replayed in
 * memory. Differencing disks are refused by name. Sources of the rules: see vhdx_header.h and
 * vhdx_log.h.
 *
 *      vhdx_header.c   headers, region tables, metadata
 *      vhdx_log.c      the log
 *      vhdx.c          block allocation table -> runs; open, report
 */
#ifndef FORMATS_VHDX_H
#define FORMATS_VHDX_H

#include "core/image.h"
#include "formats/format.h"

/* Takes @below over on success. */
int vhdx_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
