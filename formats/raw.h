/* SPDX-License-Identifier: Apache-2.0 */
/* The image below is the disk, byte for byte. */
#ifndef FORMATS_RAW_H
#define FORMATS_RAW_H

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"

/* Takes @below over on success. Any size will do. */
int raw_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
