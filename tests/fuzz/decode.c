/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/decode.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "core/report.h"
#include "formats/format.h"
#include "tests/fuzz/sparse.h"

#define DECODED_MAX MIB(2)
#define READ        4096U

/* The beginning of what was decoded. */
struct seen {
	uint64_t next;
	uint8_t buf[DECODED_MAX];
};

static int look(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct seen *seen = ctx;

	assert(off == seen->next);
	if (n > sizeof(seen->buf) - off) {
		return -ECANCELED; /* enough */
	}
	memcpy(seen->buf + off, buf, n);
	seen->next += n;
	return 0;
}

/* -EIO is for ends that are not where they were assumed; -ENOMEM for dictionaries that are
 * admitted, though not by the limit of a test. */
static void check_error(int r, const struct err *e)
{
	if (r < 0) {
		assert(r == -EBADMSG || r == -ENOTSUP || r == -EIO || r == -ENOMEM);
		assert(e->code == r && e->text[0]);
	}
}

static void check_read(struct image *img, const struct seen *seen, uint64_t off)
{
	uint8_t buf[READ];
	struct err e = { 0 };
	size_t n = min_u64(READ, min_u64(img->size, seen->next) - off);
	int r = image_read_at(img, buf, n, off, &e);

	check_error(r, &e);
	assert(r < 0 || memcmp(buf, seen->buf + off, n) == 0);
}

static void check_units(struct image *img)
{
	uint64_t off = 0;

	for (unsigned int i = 0; i < 100 && off < img->size; i++) {
		struct err e = { 0 };
		uint64_t start;
		uint64_t len;

		assert(image_unit_at(img, off, &start, &len, &e) == 0);
		assert(start == off && len > 0);
		assert(image_unit_at(img, off + len / 2, &start, &len, &e) == 0 || len == 1);
		assert(start == off);
		off += len;
	}
}

static void check_image(struct image *img)
{
	static struct seen seen;
	struct report rep = REPORT_INIT;
	struct err e = { 0 };
	uint64_t known;
	int r = 0;

	seen.next = 0;
	check_units(img);
	if (img->size > 0) {
		r = image_stream_at(img, 0, img->size, look, &seen, &e);
	}
	if (r != -ECANCELED) {
		check_error(r, &e);
	}
	assert(r < 0 || img->size == 0 || image_final_size(img, &known) == 0);
	known = min_u64(img->size, seen.next);
	if (known > 0) {
		check_read(img, &seen, 0);
		check_read(img, &seen, known / 2);
		check_read(img, &seen, known - 1);
	}
	image_report(img, &rep);
	report_clear(&rep);
}

void decode_check(const char *format, const uint8_t *data, size_t len)
{
	const struct format_opts opts = { .format = format };
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
}
