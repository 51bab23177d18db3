/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structures of a VHDX that say where everything is. Source of the rules: Microsoft,
 * [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format", sections 2.2 (header section), 2.5 (BAT) and
 * 2.6 (metadata region); where programs in the field are laxer, QEMU 7.2's behaviour. Pure: bytes
 * in, struct or error out.
 */
#ifndef FORMATS_VHDX_HEADER_H
#define FORMATS_VHDX_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define VHDX_HEADER_SIZE  4096U
#define VHDX_TABLE_SIZE   65536U /* of a region table and of the metadata table */
#define VHDX_HEADER_1     65536U
#define VHDX_HEADER_2     131072U
#define VHDX_REGIONS_1    196608U
#define VHDX_REGIONS_2    262144U
#define VHDX_HEADERS_SIZE 1048576U /* the header section: all of the above */
#define VHDX_GUID         16U

/* CRC-32C (Castagnoli) of @len bytes, those of [hole, hole + 4) taken as zeros. */
uint32_t vhdx_header_crc(const uint8_t *buf, size_t len, size_t hole);

/* The same in pieces: @crc is UINT32_MAX for the first, the complement of the last is the sum. */
uint32_t vhdx_header_crc_more(uint32_t crc, const uint8_t *buf, size_t len);

struct vhdx_header {
	bool dirty; /* there is a log to be replayed */
	uint8_t log_guid[VHDX_GUID];
	uint64_t log_offset;
	uint64_t log_length;
};

/* Which of the two headers counts, both VHDX_HEADER_SIZE long: the valid one, of two the newer.
 * -EBADMSG: neither is valid. */
int vhdx_header_choose(
	const uint8_t *first, const uint8_t *second, struct vhdx_header *ret, struct err *e);

struct vhdx_regions {
	uint64_t bat; /* where it is in the file, whole, as the next */
	uint64_t bat_length;
	uint64_t metadata;
	uint64_t metadata_length;
};

/* Parses a region table of VHDX_TABLE_SIZE bytes; -EBADMSG, or -ENOTSUP for a required region that
 * we do not know. */
int vhdx_header_regions(
	const uint8_t *buf, uint64_t file_size, struct vhdx_regions *ret, struct err *e);

/* The items that count, in the order of the fields of struct vhdx_metadata. */
enum vhdx_item {
	VHDX_ITEM_PARAMETERS,
	VHDX_ITEM_SIZE,
	VHDX_ITEM_SECTOR,
	VHDX_ITEMS,
};

/* Parses the metadata table of VHDX_TABLE_SIZE bytes at @buf: where in a region of @length bytes
 * the items are; each is at least 8 bytes (SECTOR: 4) and lies in it. */
int vhdx_header_items(
	const uint8_t *buf, uint64_t length, uint32_t ret_at[VHDX_ITEMS], struct err *e);

struct vhdx_metadata {
	uint64_t size; /* bytes; whole logical sectors; at most 64 TiB */
	uint32_t block_size;
	uint32_t sector;      /* logical: 512 or 4096 */
	bool fixed;           /* no block is ever given back */
	uint64_t chunk;       /* blocks between two entries of sector bitmaps */
	uint64_t bat_entries; /* needed */
};

/* From the 8 bytes of each item. -ENOTSUP: a differencing disk. */
int vhdx_header_metadata(
	const uint8_t items[VHDX_ITEMS][8], struct vhdx_metadata *ret, struct err *e);

#endif
