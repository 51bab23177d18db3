/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a gzip file, and any as what was learned of it before: opening, streaming and
 * reading end, soon, within bounds, with an error that says what is wrong.
 *
 * An input is the length of the file (u32), the length of the record of points (u32),
 * little-endian, the file, that record, and the record of the first page of windows. The checksums
 * of records are put right, so that what is behind them gets something to do. */
#include <assert.h>
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/gzip.h"
#include "tests/fuzz/sparse.h"

#define STREAM_MAX MIB(16)
#define RECORD_MIN 40U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct records {
	struct blobs blobs;
	uint64_t file_size;
	const uint8_t *points;
	size_t points_len;
	const uint8_t *page;
	size_t page_len;
};

/* As formats/gzip_record.h has it. */
static void seal(const struct records *r, uint8_t *p, size_t len)
{
	if (len >= RECORD_MIN) {
		store_le64(p + 8, r->file_size);
		store_le32(p + len - 8, libdeflate_crc32(0, "fuzz", 4));
		store_le32(p + len - 4, libdeflate_crc32(0, p, len - 4));
	}
}

static int get(struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	const struct records *r = (struct records *)b;
	bool page = strchr(name, '.') != NULL;
	size_t len = page ? r->page_len : r->points_len;
	uint8_t *copy = malloc(len + 1);

	(void)e;
	assert(copy);
	if (len > 0) {
		memcpy(copy, page ? r->page : r->points, len);
	}
	seal(r, copy, len);
	*ret = copy;
	*ret_len = len;
	return 0;
}

static int put(struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	(void)b;
	(void)name;
	(void)data;
	(void)len;
	(void)e;
	return 0;
}

static void check_error(int r, const struct err *e)
{
	if (r < 0 && r != -ECANCELED) {
		assert(r == -EBADMSG || r == -EIO);
		assert(e->code == r && e->text[0]);
	}
}

struct stream {
	uint64_t next;
	uint64_t most;
};

static int sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct stream *s = ctx;

	(void)buf;
	assert(off == s->next);
	s->next += n;
	return s->next >= s->most ? -ECANCELED : 0;
}

static void check_stream(struct image *img, uint64_t off, uint64_t len)
{
	struct stream s = { off, off + STREAM_MAX };
	struct err e = { 0 };

	check_error(image_stream_at(img, off, len, sink, &s, &e), &e);
}

static void check_units(struct image *img)
{
	uint64_t at = 0;

	for (unsigned int i = 0; i < 8 && at < img->size; i++) {
		uint64_t off;
		uint64_t len;

		assert(image_unit_at(img, at, &off, &len, NULL) == 0);
		assert(off <= at && len > at - off);
		check_stream(img, off, min_u64(len, img->size - off));
		at = off + len;
	}
}

static void check_read(struct image *img, uint64_t off)
{
	static uint8_t buf[65536];
	struct err e = { 0 };

	if (off < img->size && off < STREAM_MAX) {
		check_error(image_read_at(img, buf, min_u64(sizeof(buf), img->size - off), off, &e),
			&e);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct blobs_ops ops = { get, put };
	struct records r = { .blobs = { &ops } };
	const struct format_opts opts = { .blobs = &r.blobs };
	struct report rep = REPORT_INIT;
	struct image *img = NULL;
	struct image *file;
	struct err e = { 0 };
	size_t file_len;
	int result;

	if (len < 8) {
		return 0;
	}
	file_len = min_u64(load_le32(data), len - 8);
	r.points_len = min_u64(load_le32(data + 4), len - 8 - file_len);
	r.points = data + 8 + file_len;
	r.page = r.points + r.points_len;
	r.page_len = len - 8 - file_len - r.points_len;
	file = sparse_image(data + 8, file_len);
	r.file_size = file->size;
	result = gzip_open(file, &opts, &img, &e);
	check_error(result, &e);
	if (result < 0) {
		image_close(file);
		return 0;
	}
	if (img->size > 0) {
		check_read(img, 0);
		check_units(img);
		check_stream(img, 0, img->size);
		check_read(img, img->size / 2);
	}
	image_report(img, &rep);
	report_clear(&rep);
	image_close(img);
	return 0;
}
