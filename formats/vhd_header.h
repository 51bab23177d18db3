/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Footer and dynamic header of a VHD. Source of the rules: Microsoft, "Virtual Hard Disk Image
 * Format Specification" 1.0, sections "Hard Disk Footer Format" and "Dynamic Disk Header Format";
 * whose size counts, and the limit of 2040 GiB, as QEMU has it (block/vpc.c). Pure: bytes in,
 * struct or error out.
 */
#ifndef FORMATS_VHD_HEADER_H
#define FORMATS_VHD_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define VHD_FOOTER  512U
#define VHD_DYNAMIC 1024U

struct vhd_header {
	bool dynamic;
	char creator[5];     /* printable */
	uint64_t size;       /* bytes of the disk */
	uint64_t dynamic_at; /* where in the file the dynamic header is */

	/* Of a dynamic disk. */
	uint64_t block_size; /* a power of two */
	uint64_t bitmap;     /* bytes in front of each block */
	uint64_t table;      /* where in the file the allocation table is; all of it lies there */
	uint64_t blocks;     /* its entries; enough for `size` */
};

/* Whether @buf, VHD_FOOTER bytes, begins as a footer does. */
bool vhd_header_is_footer(const uint8_t *buf);

/*
 * Parses a footer, or its copy at the beginning of a dynamic disk. A size that the creator keeps in
 * the geometry (Virtual PC, old QEMU) is taken from there, all others from the current size.
 * -EBADMSG (breaks the rules, a wrong checksum) or -ENOTSUP (a kind we refuse, named).
 */
int vhd_header_footer(const uint8_t *buf, struct vhd_header *ret, struct err *e);

/* Completes @h with the VHD_DYNAMIC bytes at `dynamic_at` of a file of @file_size. */
int vhd_header_dynamic(const uint8_t *buf, uint64_t file_size, struct vhd_header *h, struct err *e);

#endif
