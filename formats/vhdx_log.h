/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a VHDX that was not closed: what it says is laid over the file in memory, the file
 * stays as it is. Source of the rules: Microsoft, [MS-VHDX], section 2.3 "Log"; the search for the
 * active sequence is that of section 2.3.3 "Log Replay".
 */
#ifndef FORMATS_VHDX_LOG_H
#define FORMATS_VHDX_LOG_H

#include "core/image.h"
#include "formats/vhdx_header.h"

/* Hyper-V and QEMU write logs of 1 MiB. */
#define VHDX_LOG_MAX MIB(64)

/* Changes that one log may make. */
#define VHDX_LOG_PATCHES_MAX 65536U

/*
 * An image that is @file with the log of @h (dirty) replayed. @file is lent to it: it stays the
 * caller's until he sets `borrows_below` of the new image to false. -EBADMSG: the log is broken,
 * has no valid sequence of entries, or the file lacks what it needs; -ENOTSUP: it is too large.
 */
int vhdx_log_open(
	struct image *file, const struct vhdx_header *h, struct image **ret, struct err *e);

#endif
