/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip files (RFC 1952) as images: what gzip, pigz, bgzip and others make, of one member or many.
 * The first pass finds seek points (gzip_index.h), which make every later one random access, also
 * over what only a part of the file was read for; its units are what lies between two of them.
 *
 * The size is only known when the end was decoded once, by this process or by one whose index was
 * kept; until then it is provisional. Every member's CRC-32 and length are checked. Zeros behind
 * the last member are padding; anything else there is an error, met by who reads to the end.
 *
 * Memory: some hundred KiB for each stream under way, and up to 8 MiB where bytes are held back
 * until they are known to be right.
 */
#ifndef FORMATS_GZIP_H
#define FORMATS_GZIP_H

#include "formats/format.h"

int gzip_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

#endif
