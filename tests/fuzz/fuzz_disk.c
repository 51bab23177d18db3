/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an image of FUZZ_FORMAT ("qcow2", ...): opening, reading, mapping and counting end,
 * soon, within bounds, and agree with each other: what an extent calls zero reads as zeros. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "core/report.h"
#include "formats/format.h"
#include "tests/fuzz/sparse.h"

#define EXTENTS 64
#define READ    262144U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The backing file: a raw disk, shorter than most images. */
static int open_backing(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	static const uint8_t bytes[100000] = { [0 ... 99999] = 'b' };
	const struct format_opts opts = { .format = "raw", .depth = depth };
	struct image *file = sparse_image(bytes, sizeof(bytes));

	(void)ctx;
	(void)format;
	assert(strlen(name) > 0);
	if (format_open(file, &opts, ret, e) < 0) {
		abort();
	}
	return 0;
}

/* A broken image says so, with an offset or a reason, and nothing else goes wrong. */
static void check_error(int r, const struct err *e)
{
	if (r < 0) {
		assert(r == -EBADMSG || r == -ENOTSUP);
		assert(e->code == r && e->text[0]);
	}
}

static int read_part(struct image *img, uint8_t *buf, uint64_t off, size_t n)
{
	struct err e = { 0 };
	int r = image_read_at(img, buf, n, off, &e);

	check_error(r, &e);
	return r;
}

/* Reads the same bytes whole and in two parts. */
static void check_reads(struct image *img, uint64_t off)
{
	static uint8_t a[READ];
	static uint8_t b[READ];
	size_t n = min_u64(READ, img->size - off);
	size_t half = n / 3;

	if (read_part(img, a, off, n) == 0) {
		assert(read_part(img, b, off, half) == 0);
		assert(read_part(img, b + half, off + half, n - half) == 0);
		assert(memcmp(a, b, n) == 0);
	}
}

static void check_extents(struct image *img)
{
	static uint8_t buf[READ];
	uint64_t off = 0;

	for (unsigned int i = 0; i < EXTENTS && off < img->size; i++) {
		struct err e = { 0 };
		struct extent x;
		int r = image_extent_at(img, off, &x, &e);
		size_t n;

		check_error(r, &e);
		if (r < 0) {
			off += min_u64(img->size - off, 65536);
			continue;
		}
		n = min_u64(x.length, READ);
		if (x.zero) {
			assert(read_part(img, buf, off, n) == 0);
			assert(is_zero(buf, n));
		}
		off = x.offset + x.length;
	}
}

static void check_image(struct image *img)
{
	struct report rep = REPORT_INIT;
	struct err e = { 0 };
	uint64_t allocated = 0;
	int r;

	image_prefetch(img, 0, img->size);
	check_extents(img);
	if (img->size > 0) {
		check_reads(img, 0);
		check_reads(img, img->size / 2);
		check_reads(img, img->size - min_u64(img->size, 100000));
	}
	r = image_allocated(img, &allocated, &e);
	check_error(r, &e);
	assert(allocated <= img->size);
	image_report(img, &rep);
	report_clear(&rep);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct format_opts opts = { .format = FUZZ_FORMAT, .open_backing = open_backing };
	struct image *file = sparse_image(data, len);
	struct image *img = NULL;
	struct err e = { 0 };
	int r;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	r = format_open(file, &opts, &img, &e);
	check_error(r, &e);
	if (r == 0) {
		check_image(img);
	}
	image_close(r == 0 ? img : file);
	return 0;
}
