/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive (an .ova, a cloud's disk.tar.gz) in the chain of formats: the one file in it that
 * may be a disk, or the one that the user names.
 */
#ifndef FORMATS_TAR_H
#define FORMATS_TAR_H

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"
#include "formats/tar_member.h"

/* -EBADMSG: there is no disk in it, or more than one; the text names what there is. */
int tar_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
