/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xz: "The .xz File Format", version 1.2.0 (tukaani.org/xz/xz-file-format.txt). The file may be
 * several streams with padding between them (section 2); each ends with an index of its blocks
 * (section 4) and a footer that says how long that index is (section 2.1.2). All of it is read when
 * the image is opened, from the end, so that the size is exact and every block can be found.
 *
 * A block is decoded from its beginning and its check (CRC32, CRC64, SHA-256; section 3.4) is
 * verified at its end: before anything of it is handed over, when it has DECODED_HELD bytes or
 * less. Its sizes must be those that the index names. A file of one block can only be decoded in
 * order: IMAGE_SEQUENTIAL. What needs more than DECODED_MEMORY_MAX to decode is refused:
 * dictionaries of more than 128 MiB.
 */
#ifndef FORMATS_XZ_H
#define FORMATS_XZ_H

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"

/* See format_open(). */
int xz_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
