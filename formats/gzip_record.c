/* SPDX-License-Identifier: Apache-2.0 */
/* Points and windows as bytes, and back. */
#include "formats/gzip_record.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/gzip_decoder.h"

#define MAGIC_LEN 8U
#define HEAD_LEN  (MAGIC_LEN + 24U)
#define SEAL_LEN  8U
#define POINT_LEN 40U

#define COMPLETE 1U

static const char points_magic[MAGIC_LEN + 1] = "LDGZIDX1";
static const char page_magic[MAGIC_LEN + 1] = "LDGZWIN1";

struct head {
	uint64_t file_size;
	uint64_t number;
	uint32_t count;
	uint32_t flags;
};

static uint32_t id_sum(const struct gzip_record_of *of)
{
	return libdeflate_crc32(0, of->id, strlen(of->id));
}

static uint8_t *begin(const char *magic, const struct head *head, size_t len)
{
	uint8_t *p = calloc(1, len);

	if (p) {
		memcpy(p, magic, MAGIC_LEN);
		store_le64(p + MAGIC_LEN, head->file_size);
		store_le64(p + MAGIC_LEN + 8, head->number);
		store_le32(p + MAGIC_LEN + 16, head->count);
		store_le32(p + MAGIC_LEN + 20, head->flags);
	}
	return p;
}

static void seal(const struct gzip_record_of *of, uint8_t *p, size_t len)
{
	store_le32(p + len - SEAL_LEN, id_sum(of));
	store_le32(p + len - 4, libdeflate_crc32(0, p, len - 4));
}

static int open_seal(const struct gzip_record_of *of, const char *magic, const uint8_t *p,
	size_t len, struct head *ret)
{
	if (len < HEAD_LEN + SEAL_LEN || memcmp(p, magic, MAGIC_LEN) != 0 ||
		load_le32(p + len - 4) != libdeflate_crc32(0, p, len - 4) ||
		load_le32(p + len - SEAL_LEN) != id_sum(of)) {
		return -EBADMSG;
	}
	*ret = (struct head){
		.file_size = load_le64(p + MAGIC_LEN),
		.number = load_le64(p + MAGIC_LEN + 8),
		.count = load_le32(p + MAGIC_LEN + 16),
		.flags = load_le32(p + MAGIC_LEN + 20),
	};
	return ret->file_size == of->file_size ? 0 : -EBADMSG;
}

static void put_point(uint8_t *at, const struct gzip_point *p)
{
	store_le64(at, p->in_bits);
	store_le64(at + 8, p->out);
	store_le64(at + 16, p->member_off);
	store_le32(at + 24, p->crc);
	store_le32(at + 28, p->window_crc);
	store_le32(at + 32, p->window_len);
	store_le32(at + 36, p->header);
}

int gzip_record_put_points(const struct gzip_record_of *of, const struct gzip_points *points,
	void **ret, size_t *ret_len)
{
	const struct head head = {
		.file_size = of->file_size,
		.number = points->complete ? points->total : 0,
		.count = (uint32_t)points->count,
		.flags = points->complete ? COMPLETE : 0,
	};
	size_t len = HEAD_LEN + points->count * POINT_LEN + SEAL_LEN;
	uint8_t *p = begin(points_magic, &head, len);

	if (!p) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < points->count; i++) {
		put_point(p + HEAD_LEN + i * POINT_LEN, &points->points[i]);
	}
	seal(of, p, len);
	*ret = p;
	*ret_len = len;
	return 0;
}

static bool get_point(const uint8_t *at, const struct gzip_record_of *of, struct gzip_point *ret)
{
	uint32_t header = load_le32(at + 36);

	*ret = (struct gzip_point){
		.in_bits = load_le64(at),
		.out = load_le64(at + 8),
		.member_off = load_le64(at + 16),
		.crc = load_le32(at + 24),
		.window_crc = load_le32(at + 28),
		.window_len = load_le32(at + 32),
		.header = header == 1,
	};
	if (ret->in_bits / 8 > of->file_size || ret->member_off > ret->out || header > 1) {
		return false;
	}
	if (ret->header) {
		return ret->in_bits % 8 == 0 && ret->member_off == 0 && ret->window_len == 0 &&
		       ret->crc == 0;
	}
	return ret->window_len == min_u64(ret->member_off, GZIP_WINDOW);
}

static bool follows(const struct gzip_point *p, const struct gzip_point *before)
{
	uint64_t step = p->out - before->out;

	/* Of the same member, or of one that begins behind. */
	return p->out > before->out && p->in_bits > before->in_bits &&
	       (p->header || p->member_off == before->member_off + step || p->member_off <= step);
}

static bool get_all(const struct gzip_record_of *of, const uint8_t *at, struct gzip_points *points)
{
	for (size_t i = 0; i < points->count; i++) {
		struct gzip_point *p = &points->points[i];

		if (!get_point(at + i * POINT_LEN, of, p)) {
			return false;
		}
		if (i == 0 ? p->out != 0 || p->in_bits != 0 || !p->header : !follows(p, p - 1)) {
			return false;
		}
		p->window = points->windows;
		points->windows += p->window_len > 0;
	}
	return !points->complete || points->total >= points->points[points->count - 1].out;
}

int gzip_record_get_points(
	const struct gzip_record_of *of, const void *data, size_t len, struct gzip_points *ret)
{
	struct gzip_points points = { 0 };
	struct head head;
	int r = open_seal(of, points_magic, data, len, &head);

	if (r < 0) {
		return r;
	}
	if (head.count == 0 || head.flags > COMPLETE ||
		len - HEAD_LEN - SEAL_LEN != (uint64_t)head.count * POINT_LEN) {
		return -EBADMSG;
	}
	points.count = head.count;
	points.complete = head.flags == COMPLETE;
	points.total = head.number;
	points.points = calloc(points.count, sizeof(*points.points));
	if (!points.points) {
		return -ENOMEM;
	}
	if (!get_all(of, (const uint8_t *)data + HEAD_LEN, &points)) {
		free(points.points);
		return -EBADMSG;
	}
	*ret = points;
	return 0;
}

int gzip_record_put_page(
	const struct gzip_record_of *of, const struct gzip_page *page, void **ret, size_t *ret_len)
{
	const struct head head = {
		.file_size = of->file_size,
		.number = page->number,
		.count = (uint32_t)page->count,
	};
	size_t len = HEAD_LEN + page->count * 4 + SEAL_LEN;
	uint8_t *p;
	uint8_t *at;

	for (size_t i = 0; i < page->count; i++) {
		len += page->len[i];
	}
	p = begin(page_magic, &head, len);
	if (!p) {
		return -ENOMEM;
	}
	at = p + HEAD_LEN + page->count * 4;
	for (size_t i = 0; i < page->count; i++) {
		store_le32(p + HEAD_LEN + i * 4, page->len[i]);
		memcpy(at, page->data[i], page->len[i]);
		at += page->len[i];
	}
	seal(of, p, len);
	*ret = p;
	*ret_len = len;
	return 0;
}

int gzip_record_get_page(const struct gzip_record_of *of, uint64_t number, const void *data,
	size_t len, struct gzip_page *ret)
{
	struct gzip_page page = { .number = number };
	const uint8_t *p = data;
	struct head head;
	size_t rest;
	size_t at;
	int r = open_seal(of, page_magic, p, len, &head);

	if (r < 0) {
		return r;
	}
	rest = len - HEAD_LEN - SEAL_LEN;
	if (head.number != number || head.count > GZIP_PAGE || rest < head.count * 4UL) {
		return -EBADMSG;
	}
	page.count = head.count;
	at = HEAD_LEN + page.count * 4;
	rest -= page.count * 4;
	for (size_t i = 0; i < page.count; i++) {
		page.len[i] = load_le32(p + HEAD_LEN + i * 4);
		if (page.len[i] > rest) {
			return -EBADMSG;
		}
		/* Who asked lent the bytes, and reads them only. */
		page.data[i] = (uint8_t *)(uintptr_t)(p + at);
		at += page.len[i];
		rest -= page.len[i];
	}
	if (rest > 0) {
		return -EBADMSG;
	}
	*ret = page;
	return 0;
}
