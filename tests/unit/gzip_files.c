/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/gzip_files.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/gzip.h"
#include "tests/unit/test.h"

uint64_t gzf_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Text, zeros and noise in turn, so that blocks and ratios differ. */
uint8_t *gzf_plain(size_t n, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;
	uint8_t *p = malloc(n + 8);

	assert_non_null(p);
	for (size_t at = 0; at < n;) {
		uint64_t r = gzf_random(&state);
		size_t run = min_u64(n - at, 1 + r % 60000);

		for (size_t i = 0; i < run; i++) {
			if (r >> 60 < 3) {
				p[at + i] = 0;
			} else if (r >> 60 < 6) {
				p[at + i] = (uint8_t)(gzf_random(&state) >> 11);
			} else {
				p[at + i] = (uint8_t)('a' + (gzf_random(&state) >> 13) % 23);
			}
		}
		at += run;
	}
	return p;
}

void gzf_bytes(struct gz *z, const void *p, size_t n)
{
	if (z->n + n > z->room) {
		z->room = (z->n + n) * 2;
		z->p = realloc(z->p, z->room);
		assert_non_null(z->p);
	}
	if (n > 0) {
		memcpy(z->p + z->n, p, n);
	}
	z->n += n;
}

void gzf_member(struct gz *z, const uint8_t *p, size_t n, struct member m)
{
	uint8_t out[65536];
	uint8_t extra[] = { 'x', 'y', 3, 0, 1, 2, 3 };
	uint8_t name[] = "disk.raw";
	uint8_t comment[] = "a comment";
	gz_header head = { .extra = extra,
		.extra_len = sizeof(extra),
		.name = name,
		.comment = comment,
		.hcrc = 1 };
	z_stream s = { 0 };
	size_t at = 0;
	int r = Z_OK;

	assert_int_equal(deflateInit2(&s, m.level, Z_DEFLATED, 31, 8, m.strategy), Z_OK);
	if (m.fields) {
		assert_int_equal(deflateSetHeader(&s, &head), Z_OK);
	}
	while (r != Z_STREAM_END) {
		size_t k = m.flush ? min_u64(n - at, m.flush) : n - at;
		bool last = at + k == n;

		s.next_in = (uint8_t *)(uintptr_t)(p + at);
		s.avail_in = (uInt)k;
		do {
			s.next_out = out;
			s.avail_out = sizeof(out);
			r = deflate(&s, last ? Z_FINISH : Z_FULL_FLUSH);
			assert_true(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
			gzf_bytes(z, out, sizeof(out) - s.avail_out);
		} while (s.avail_out == 0);
		at += k;
	}
	deflateEnd(&s);
}

/* One BGZF block: SAM specification 4.1. */
void gzf_bgzf(struct gz *z, const uint8_t *p, size_t n)
{
	uint8_t head[18] = { 31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, 'B', 'C', 2, 0 };
	uint8_t body[70000];
	uint8_t tail[8];
	z_stream s = { .avail_in = (uInt)n, .avail_out = sizeof(body) };
	size_t len;

	s.next_in = (uint8_t *)(uintptr_t)p;
	s.next_out = body;
	assert_int_equal(deflateInit2(&s, 1, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	deflateEnd(&s);
	len = sizeof(body) - s.avail_out;
	head[16] = (uint8_t)(len + 25);
	head[17] = (uint8_t)((len + 25) >> 8);
	store_le32(tail, (uint32_t)crc32(0, p, (uInt)n));
	store_le32(tail + 4, (uint32_t)n);
	gzf_bytes(z, head, sizeof(head));
	gzf_bytes(z, body, len);
	gzf_bytes(z, tail, sizeof(tail));
}

const char *const gzf_kind_names[KINDS] = { "single", "members", "bgzf", "flushed", "stored",
	"huffman", "fixed", "padded" };

static void make_members(struct gz *z, const uint8_t *p, size_t n)
{
	const struct member fast = { .level = 1 };
	uint64_t state = 77;

	gzf_member(z, p, 0, (struct member){ .level = 9, .fields = true });
	for (size_t at = 0; at < n;) {
		size_t k = min_u64(n - at, 1 + gzf_random(&state) % (n / 5));

		gzf_member(z, p + at, k, (struct member){ .level = 1, .fields = k % 2 == 0 });
		gzf_member(z, p, 0, fast);
		at += k;
	}
}

struct gz gzf_make(enum kind kind, const uint8_t *p, size_t n)
{
	static const uint8_t zeros[5000];
	struct gz z = { 0 };

	switch (kind) {
	case SINGLE:
		gzf_member(&z, p, n, (struct member){ .level = 1, .fields = true });
		break;
	case MEMBERS:
		make_members(&z, p, n);
		break;
	case BGZF:
		for (size_t at = 0; at < n; at += min_u64(n - at, 0xff00)) {
			gzf_bgzf(&z, p + at, min_u64(n - at, 0xff00));
		}
		gzf_bgzf(&z, p, 0);
		break;
	case FLUSHED:
		gzf_member(&z, p, n, (struct member){ .level = 1, .flush = 131072 });
		break;
	case STORED:
		gzf_member(&z, p, n, (struct member){ .level = 0 });
		break;
	case HUFFMAN:
		gzf_member(&z, p, n, (struct member){ .level = 1, .strategy = Z_HUFFMAN_ONLY });
		break;
	case FIXED:
		gzf_member(&z, p, n, (struct member){ .level = 1, .strategy = Z_FIXED });
		break;
	case PADDED:
		gzf_member(&z, p, n, (struct member){ .level = 6 });
		gzf_bytes(&z, zeros, sizeof(zeros));
		break;
	case KINDS:
		break;
	}
	return z;
}

uint8_t *gzf_big_plain;
struct gz gzf_big[KINDS];

int gzf_setup(void **state)
{
	(void)state;
	gzf_big_plain = gzf_plain(GZF_PLAIN, 1);
	for (enum kind k = 0; k < KINDS; k++) {
		gzf_big[k] = gzf_make(k, gzf_big_plain, GZF_PLAIN);
	}
	return 0;
}

int gzf_teardown(void **state)
{
	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		free(gzf_big[k].p);
	}
	free(gzf_big_plain);
	return 0;
}

int gzf_try_open(const struct gz *z, const char *id, struct blobs *blobs, struct image **ret,
	struct fake_image **ret_fake)
{
	const struct format_opts opts = { .blobs = blobs };
	struct fake_image *f = fake_image_from(z->p, z->n, id);
	struct err e = { 0 };
	int r = gzip_open(&f->img, &opts, ret, &e);

	if (r < 0) {
		assert_int_equal(e.code, r);
		assert_true(e.text[0]);
		image_close(&f->img);
	} else if (ret_fake) {
		*ret_fake = f;
	}
	return r;
}

struct image *gzf_open(const struct gz *z, struct blobs *blobs, struct fake_image **ret_fake)
{
	struct image *img = NULL;

	assert_int_equal(gzf_try_open(z, "gz-1", blobs, &img, ret_fake), 0);
	return img;
}

int gzf_sink(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct checker *c = ctx;

	if (off != c->next || off + n > c->len || memcmp(buf, c->plain + off, n) != 0) {
		c->wrong = true;
	}
	c->next = off + n;
	return c->stop_at && c->next >= c->stop_at ? -ECANCELED : 0;
}

void gzf_stream_all(struct image *img, const uint8_t *plain, size_t n)
{
	struct checker c = { .plain = plain, .len = n };
	struct err e = { 0 };
	int r = image_stream_at(img, 0, img->size, gzf_sink, &c, &e);

	if (r < 0) {
		fail_msg("%s", e.text);
	}
	assert_false(c.wrong);
	assert_int_equal(c.next, n);
}

void gzf_check_read(struct image *img, const uint8_t *plain, uint64_t off, size_t n)
{
	uint8_t *buf = malloc(n + 1);
	struct err e = { 0 };
	int r = image_read_at(img, buf, n, off, &e);

	if (r < 0) {
		fail_msg("%zu at %llu: %s", n, (unsigned long long)off, e.text);
	}
	assert_memory_equal(buf, plain + off, n);
	free(buf);
}

void gzf_check_units(struct image *img, const uint8_t *plain, size_t n)
{
	uint64_t at = 0;

	while (at < min_u64(n, img->size)) {
		struct checker c = { .plain = plain, .len = n, .next = at };
		struct err e = { 0 };
		uint64_t off;
		uint64_t len;

		assert_int_equal(image_unit_at(img, at, &off, &len, NULL), 0);
		assert_int_equal(off, at);
		assert_true(len > 0);
		len = min_u64(len, img->size - off);
		if (image_stream_at(img, off, len, gzf_sink, &c, &e) < 0) {
			fail_msg("unit at %llu: %s", (unsigned long long)off, e.text);
		}
		assert_false(c.wrong);
		assert_int_equal(c.next, min_u64(off + len, n));
		at += len;
	}
}

uint64_t gzf_points(struct image *img)
{
	struct report rep = REPORT_INIT;
	uint64_t n;

	image_report(img, &rep);
	n = report_find(&rep, "gzip", "seek_points")->number;
	report_clear(&rep);
	return n;
}
