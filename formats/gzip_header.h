/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a gzip member, RFC 1952 section 2.3, taken in whatever pieces it arrives: its name
 * and comment may be of any length, so nothing of it is kept. All its fields are checked, the CRC
 * of the header (FHCRC) included. Pure: no I/O, no memory.
 */
#ifndef FORMATS_GZIP_HEADER_H
#define FORMATS_GZIP_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define GZIP_ID1 0x1fU
#define GZIP_ID2 0x8bU

enum gzip_header_part {
	GZIP_HEADER_FIXED,
	GZIP_HEADER_EXTRA_LEN,
	GZIP_HEADER_EXTRA,
	GZIP_HEADER_NAME,
	GZIP_HEADER_COMMENT,
	GZIP_HEADER_CRC,
	GZIP_HEADER_DONE,
};

struct gzip_header {
	enum gzip_header_part part; /* what comes next */
	unsigned int have;          /* bytes of that part that went by */
	uint8_t flags;
	uint16_t extra_len;
	uint16_t crc_stored;
	uint32_t crc; /* of all before the stored one */
};

void gzip_header_init(struct gzip_header *h);

/* Takes up to @n bytes; *ret_used of them belong to the header. 1: it is complete, 0: more is
 * needed, -EBADMSG: this is no gzip header; the text has no offset, the caller knows it. */
int gzip_header_feed(
	struct gzip_header *h, const uint8_t *p, size_t n, size_t *ret_used, struct err *e);

#endif
