/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a seek index looks like outside of memory: one record with all points, and records (pages)
 * of GZIP_PAGE compressed windows each, which are written once and then left alone, so that what is
 * written while an image is read stays in proportion to it. Numbers are little-endian.
 *
 *	points:	magic "LDGZIDX1", head { file size u64, total u64, count u32, flags u32 },
 *		count times { in_bits u64, out u64, member_off u64, crc u32, window_crc u32,
 *		window_len u32, header u32 }, seal
 *	page:	magic "LDGZWIN1", head { file size u64, page u64, count u32, 0 u32 },
 *		count times { length u32 }, count zstd frames, seal
 *	seal:	CRC-32 of the id of the compressed file u32, CRC-32 of all before u32
 *
 * Pure, but for memory. Parsing believes nothing: what is not as it should be is -EBADMSG.
 */
#ifndef FORMATS_GZIP_RECORD_H
#define FORMATS_GZIP_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GZIP_PAGE 16U

struct gzip_point {
	uint64_t in_bits;    /* in the compressed file */
	uint64_t out;        /* decoded bytes before it */
	uint64_t member_off; /* of those, bytes of the same member */
	uint32_t crc;        /* of them, CRC-32 */
	uint32_t window_len; /* min(member_off, 32 KiB); 0 when `header` */
	uint32_t window_crc;
	size_t window; /* its number among the windows; not in the record */
	bool header;   /* a member's header is here, else a block */
};

/* Of which compressed file a record is. */
struct gzip_record_of {
	const char *id;
	uint64_t file_size;
};

struct gzip_points {
	struct gzip_point *points; /* malloc()ed */
	size_t count;
	size_t windows; /* so many have one */
	bool complete;
	uint64_t total; /* decoded bytes, when complete */
};

/* The compressed windows of one page; data is malloc()ed or lent, as the function says. */
struct gzip_page {
	uint64_t number;
	size_t count;
	uint8_t *data[GZIP_PAGE];
	uint32_t len[GZIP_PAGE];
};

/* *ret is malloc()ed. -ENOMEM or 0. */
int gzip_record_put_points(const struct gzip_record_of *of, const struct gzip_points *points,
	void **ret, size_t *ret_len);
int gzip_record_put_page(
	const struct gzip_record_of *of, const struct gzip_page *page, void **ret, size_t *ret_len);

/* The points are in order, the first is the beginning, and each is possible after the one before.
 * -EBADMSG, -ENOMEM or 0. */
int gzip_record_get_points(
	const struct gzip_record_of *of, const void *data, size_t len, struct gzip_points *ret);

/* The windows are pointed at within @data. -EBADMSG or 0. */
int gzip_record_get_page(const struct gzip_record_of *of, uint64_t number, const void *data,
	size_t len, struct gzip_page *ret);

#endif
