/* SPDX-License-Identifier: Apache-2.0 */
/* VDI of VirtualBox, version 1.1, static and dynamic; see vdi_header.h for where the rules come
 * from. Differencing and undo images are refused by name. */
#ifndef FORMATS_VDI_H
#define FORMATS_VDI_H

#include "core/image.h"
#include "formats/format.h"

/* Takes @below over on success. */
int vdi_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
