/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK: sparse extents (monolithicSparse), stream-optimised ones, and descriptors that name extent
 * files beside them (monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs). Refused by
 * name: images over a parent, and the formats of ESX (COWD, SESPARSE). Sources of the rules: see
 * vmdk_header.h and vmdk_descriptor.h.
 *
 *      vmdk_header.c       header and footer of a sparse extent
 *      vmdk_descriptor.c   the text
 *      vmdk.c              grain directory and grain tables -> runs; what is opened how
 *      vmdk_extents.c      several files as one disk
 */
#ifndef FORMATS_VMDK_H
#define FORMATS_VMDK_H

#include "core/image.h"
#include "formats/format.h"

/* Takes @below over on success. Extent files are opened through opts->open_backing, in formats
 * "raw" and "vmdk"; without it an image that names some is refused, as is one that is itself an
 * extent. */
int vmdk_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
