/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One block of 512 bytes that stands before an entry of a tar archive, in the dialects that occur:
 * V7, ustar (POSIX.1-1988), GNU, star. Pure: bytes in, struct or error out. Sources of the rules:
 * POSIX.1-2017, pax, "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format" and
 * "Storing Sparse Files"; where they leave room, what Go's archive/tar does, because that is what
 * the container engines read layers with.
 */
#ifndef FORMATS_TAR_HEADER_H
#define FORMATS_TAR_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define TAR_BLOCK 512U

/* Types that mean something to the reader; others are entries that are no file. */
#define TAR_TYPE_FILE       '0'
#define TAR_TYPE_FILE_V7    '\0'
#define TAR_TYPE_CONTIGUOUS '7'
#define TAR_TYPE_HARDLINK   '1'
#define TAR_TYPE_SYMLINK    '2'
#define TAR_TYPE_FIFO       '6'
#define TAR_TYPE_DIR        '5'
#define TAR_TYPE_GNU_NAME   'L' /* the data is the next entry's name */
#define TAR_TYPE_GNU_LINK   'K' /* the data is the next entry's link */
#define TAR_TYPE_GNU_SPARSE 'S'
#define TAR_TYPE_PAX        'x' /* the data is records about the next entry */
#define TAR_TYPE_PAX_GLOBAL 'g'

struct tar_header {
	char type;
	uint64_t size;  /* as the header says, also where the type has no data */
	char name[257]; /* prefix, slash, name */
	char link[101];
};

/* -EBADMSG: no header (checksum) or one that cannot be true. */
int tar_header_parse(const uint8_t block[TAR_BLOCK], struct tar_header *ret, struct err *e);

/* A number of @n bytes: octal, or base 256 when the first byte's top bit is set. False: neither, or
 * negative, or beyond 64 bits. Nothing but blanks is 0. */
bool tar_number(const uint8_t *field, size_t n, uint64_t *ret);

#endif
