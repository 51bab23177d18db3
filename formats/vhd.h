/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHD, fixed and dynamic; see vhd_header.h for where the rules come from. Differencing disks are
 * refused by name. The bitmaps in front of the blocks of a dynamic disk are not looked at: every
 * sector of a block that is there is in the file, and what was never written is zeros there (so
 * does QEMU).
 */
#ifndef FORMATS_VHD_H
#define FORMATS_VHD_H

#include "core/image.h"
#include "formats/format.h"

/* Takes @below over on success. */
int vhd_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
