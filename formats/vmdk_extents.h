/* SPDX-License-Identifier: Apache-2.0 */
/* The disk that a descriptor makes of several files, one behind the other. */
#ifndef FORMATS_VMDK_EXTENTS_H
#define FORMATS_VMDK_EXTENTS_H

#include "core/image.h"
#include "formats/format.h"
#include "formats/vmdk_descriptor.h"

/* Opens all files that @d names. Takes @below, the file of the descriptor, over on success. */
int vmdk_extents_open(struct image *below, const struct format_opts *opts,
	const struct vmdk_descriptor *d, struct image **ret, struct err *e);

#endif
