/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd: RFC 8878, frames (section 3.1) in a row, skippable frames (3.1.2) among them. What is known
 * of them when the image is opened decides what it can do:
 *  - the seekable format (a table in a skippable frame at the end; contrib/seekable_format of
 *    zstd): exact size, frames are decoded where somebody reads, and held to their entries;
 *  - a file of this machine whose frames all name their content's size: the same, found by a walk
 *    from block header to block header;
 *  - a file that was once decoded to its end: the same, from what was put in struct blobs then;
 *  - else (a single frame, and pzstd's, cannot be told from several): it is decoded in order. What
 *    the first frame names, or the user, is taken for its size: IMAGE_SIZE_PROVISIONAL.
 *
 * A frame is held to its content's size and checksum, where it has them: before anything of it is
 * handed over, when that size is DECODED_HELD or less. Windows of more than 128 MiB, and
 * dictionaries, are refused.
 */
#ifndef FORMATS_ZST_H
#define FORMATS_ZST_H

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"

/* See format_open(). */
int zst_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
