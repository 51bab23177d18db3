/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of an overlay. All numbers are little endian; nothing in it is ever moved.
 *
 *   0         header, 64 KiB, written once
 *               0  magic "LZDovl\r\n"      8  u32 version, 1         12  u32 unit, 4096
 *              16  uuid, 16 bytes         32  u64 size of the disk   40  i64 created, Unix time
 *              48  u64 offset of the roots, of the map, of the data, and the file's length
 *              80  u32 length of the base's id, u32 length of the source
 *              88  u64 xxh3 of the header with this field as 0
 *              96  the id of the base, its source; zeros
 *   65536     roots: one bit for each page of the map, which says that this page exists
 *   ...       map: two bits for each unit: 0 the base has it, 1 it is in the data, 2 it is zeros
 *   ...       data, sparse, as long as the disk: the unit at offset x of the disk is at x of it
 *
 * Roots and map consist of sectors of 512 bytes: 504 bytes of bits, the lowest bit of the first
 * byte first, then a u64: xxh3 of the 504, seeded with the uuid and the sector's number. So a
 * sector is of this file and of this place, or damaged. All sectors of the roots are there from the
 * beginning; of the map, only what the roots say.
 *
 * The order of things. A flush makes the data durable before any word about it is written: it
 * copies the pages that changed, syncs the file, writes the copies, syncs again. Disks write
 * sectors whole (512 bytes or more), so each sector of the map is the one before or the one after,
 * and any mixture is right: a unit that became data had its bytes synced before; the bytes of one
 * that became zeros may be there or punched out; and none ever goes back to the base. A page of the
 * map is written before the bit that says it exists, with nothing in it, when the first unit in it
 * is to be written: a full disk is met there, and not by a flush. Bits that a crash made us lose
 * leave bytes in the data that nobody looks at; the next opening punches them out.
 *
 * A lock (OFD, all of the file) is held while it is open for writing.
 */
#ifndef CACHE_OVERLAY_FILE_H
#define CACHE_OVERLAY_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

#define OVERLAY_FILE_SECTOR  512U
#define OVERLAY_FILE_PAYLOAD 504U
#define OVERLAY_FILE_PAGE    4096U

/* Bits of the roots in one sector; units in one sector and in one page of the map. */
#define OVERLAY_FILE_ROOT_BITS  (OVERLAY_FILE_PAYLOAD * 8U)
#define OVERLAY_FILE_SLOTS      (OVERLAY_FILE_PAYLOAD * 4U)
#define OVERLAY_FILE_PAGE_SLOTS (OVERLAY_FILE_SLOTS * (OVERLAY_FILE_PAGE / OVERLAY_FILE_SECTOR))

/* Where things are, for a disk of `size` bytes. */
struct overlay_file_shape {
	uint64_t size;
	uint64_t units;
	uint64_t pages; /* of the map */
	uint64_t roots; /* pages of the roots */
	uint64_t root_off;
	uint64_t map_off;
	uint64_t data_off;
	uint64_t end; /* length of the file */
};

/* -EFBIG: no file can be that long. */
int overlay_file_shape(uint64_t size, struct overlay_file_shape *ret);

struct overlay_file_header {
	uint8_t uuid[16];
	int64_t created;
	char *id; /* owned, as is source */
	char *source;
	struct overlay_file_shape shape;
};
void overlay_file_header_clear(struct overlay_file_header *h);

/* Makes the header of a new file: a new uuid, now. */
int overlay_file_header_make(uint64_t size, const char *id, const char *source,
	struct overlay_file_header *ret, struct err *e);

/* What the sums of this file's sectors are seeded with. */
uint64_t overlay_file_seed(const struct overlay_file_header *h);

/* Fills in the sum of sector @number (counted from the first of the roots) behind its payload. */
void overlay_file_seal(uint64_t seed, uint64_t number, uint8_t *sector);
bool overlay_file_sealed(uint64_t seed, uint64_t number, const uint8_t *sector);

/* Makes a file at @path, locked, durable and empty of changes. -EEXIST: there is one. *ret is the
 * descriptor. @path NULL: one without a name in directory @dir, not durable. */
int overlay_file_create(const char *path, const char *dir, const struct overlay_file_header *h,
	int *ret, struct err *e);

/* Opens the file at @path and reads its header: @writable locks it, else *ret_busy says whether
 * somebody has. Errors as of overlay_open(), and -ENOENT. */
int overlay_file_open(const char *path, bool writable, int *ret, bool *ret_busy,
	struct overlay_file_header *ret_header, struct err *e);

#endif
