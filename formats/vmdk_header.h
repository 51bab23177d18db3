/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header (and footer) of a hosted sparse extent. Source of the rules: VMware, "Virtual Disk
 * Format 1.1", sections "Hosted Sparse Extents" (the header), "Stream-Optimized Compressed Sparse
 * Extents" (footer and markers); limits as QEMU 7.2 has them.
 */
#ifndef FORMATS_VMDK_HEADER_H
#define FORMATS_VMDK_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define VMDK_SECTOR 512U

/* A footer is a marker, a header and the marker of the end. */
#define VMDK_FOOTER 1536U

struct vmdk_header {
	uint32_t version;           /* 1 to 3 */
	bool zero_grains;           /* a grain table's entry of 1 means zeros */
	bool compressed;            /* each grain is a zlib stream ... */
	bool markers;               /* ... behind a marker */
	bool footer;                /* the grain directory's place stands in a footer: read that */
	uint64_t size;              /* bytes; at most INT64_MAX */
	uint64_t grain_size;        /* bytes; a power of two */
	uint32_t grains_per_table;  /* 1 to 512 */
	uint64_t directory;         /* bytes from the beginning of the file */
	uint64_t tables;            /* entries of the directory */
	uint64_t descriptor;        /* bytes from the beginning; 0: there is none */
	uint64_t descriptor_length; /* bytes */
};

/*
 * Parses the first sector @buf of a file of @file_size bytes. -EBADMSG (breaks the rules) or
 * -ENOTSUP (an extent of another kind, named). A `size` of 0: the file is a descriptor only. When
 * `footer` is set, the directory is not known yet.
 */
int vmdk_header_parse(
	const uint8_t *buf, size_t len, uint64_t file_size, struct vmdk_header *ret, struct err *e);

/* Parses the last VMDK_FOOTER bytes of a file of @file_size bytes whose header @h says that they
 * are a footer, and completes @h with it. */
int vmdk_header_footer(
	const uint8_t *buf, uint64_t file_size, struct vmdk_header *h, struct err *e);

#endif
