/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a VDI image, version 1.1. Source of the rules: VirtualBox, src/VBox/Storage/
 * VDICore.h, VDIHEADER1PLUS, and its checks in VDI.cpp, vdiValidateHeader(); limits as QEMU 7.2
 * has them. Pure: bytes in, struct or error out.
 */
#ifndef FORMATS_VDI_HEADER_H
#define FORMATS_VDI_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define VDI_HEADER 512U

struct vdi_header {
	bool fixed;    /* all blocks were allocated when the image was made */
	uint64_t size; /* bytes of the disk; whole sectors of 512 bytes, as QEMU rounds it up */
	uint64_t block_size; /* a power of two */
	uint64_t blocks;     /* entries of the map; enough for `size` */
	uint64_t map;        /* where in the file it is; all of it lies there */
	uint64_t data;       /* where block 0 of the file is */
};

/* Parses the first @len bytes (VDI_HEADER, or all of a shorter file) of a file of @file_size.
 * -EBADMSG (breaks the rules) or -ENOTSUP (a version or kind we refuse, named). */
int vdi_header_parse(
	const uint8_t *buf, size_t len, uint64_t file_size, struct vdi_header *ret, struct err *e);

#endif
