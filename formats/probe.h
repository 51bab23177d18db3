/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recognisers: does a file begin as this format does? Pure functions of its first bytes, strict
 * enough that a disk with a boot sector is never taken for something else.
 */
#ifndef FORMATS_PROBE_H
#define FORMATS_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* So many bytes of the beginning are enough for every recogniser. */
#define PROBE_HEAD 4096U

/* What a recogniser sees. @head holds the first @len bytes, all of the file when it is shorter than
 * PROBE_HEAD. @tail holds the last 512 bytes, or is NULL where they cannot matter. */
struct probe_view {
	const uint8_t *head;
	size_t len;
	const uint8_t *tail;
};

typedef bool probe_fn(const struct probe_view *v);

probe_fn probe_qcow2;     /* versions from 2 on; an unknown one is for the opener to name */
probe_fn probe_qcow;      /* version 1, another format */
probe_fn probe_qed;       /* "QED\0" */
probe_fn probe_vmdk;      /* sparse extent, ESX extent, or a text descriptor */
probe_fn probe_vhdx;      /* MS-VHDX 2.2.1 */
probe_fn probe_vhd;       /* footer (its copy at the head of dynamic ones): VHD specification */
probe_fn probe_vdi;       /* magic at 64 */
probe_fn probe_parallels; /* both generations of the header */
probe_fn probe_gzip;      /* RFC 1952, deflate */
probe_fn probe_xz;        /* .xz file format 2.1.1.1 */
probe_fn probe_zstd;      /* RFC 8878, also skippable frames */
probe_fn probe_bzip2;     /* header and the magic of a first block or of the end */
probe_fn probe_lzma;      /* .lzma has no magic: plausible properties, dictionary and size */
probe_fn probe_lz4;       /* frame magic */
probe_fn probe_zip;       /* local file header */
probe_fn probe_7z;        /* signature */
probe_fn probe_tar;       /* POSIX ustar or GNU, checksum verified */
probe_fn probe_html;      /* a web page, as portals and error handlers send it */
probe_fn probe_xml;       /* an XML document, as object stores report errors */

#endif
