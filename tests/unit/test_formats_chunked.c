/* SPDX-License-Identifier: Apache-2.0 */
/* A file of several chunks, some in one stream, some zeros; and what is wrong with layers. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/bytes.h"
#include "formats/chunked.h"
#include "tests/unit/fake_image.h"

#define SIZE    400000U
#define ZERO_AT 120000U
#define ZERO_TO 250000U
/* The chunks; those at 60000 and 90000 are one stream. */
static const uint32_t borders[] = { 0, 60000, 90000, ZERO_AT, ZERO_TO, 390000, SIZE };
#define CHUNKS (ARRAY_SIZE(borders) - 1)

struct sample {
	uint8_t plain[SIZE];
	uint8_t packed[2 * SIZE];
	size_t len;
	struct toc_chunk chunks[CHUNKS];
	struct toc toc;
	struct toc_file file;
	enum toc_kind kind;
};

/* No SHA-256, but as different for different bytes; what a digest is is the opener's business. */
static bool digest(const void *buf, size_t len, uint8_t ret[TOC_DIGEST])
{
	uLong sum = crc32(crc32(0, NULL, 0), buf, (uInt)len);

	memset(ret, 0, TOC_DIGEST);
	store_le32(ret, (uint32_t)sum);
	store_le32(ret + 4, (uint32_t)len);
	return true;
}

static size_t gzip(uint8_t *out, size_t room, uint8_t *in, size_t len)
{
	z_stream z = { .next_in = in, .avail_in = (uInt)len };

	z.next_out = out;
	z.avail_out = (uInt)room;
	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return room - z.avail_out;
}

static void pack(struct sample *s, size_t from, size_t to)
{
	uint8_t *out = s->packed + s->len;
	size_t room = sizeof(s->packed) - s->len;
	size_t n = s->kind == TOC_ESTARGZ ? gzip(out, room, s->plain + from, to - from)
					  : ZSTD_compress(out, room, s->plain + from, to - from, 1);

	assert_true(n <= room);
	s->len += n;
}

static struct sample *make_sample(enum toc_kind kind)
{
	struct sample *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->kind = kind;
	s->len = 512; /* what is before the first chunk */
	for (size_t i = 0; i < SIZE; i++) {
		s->plain[i] = i >= ZERO_AT && i < ZERO_TO ? 0 : fake_byte(i >> 3, i & 63);
	}
	for (size_t i = 0; i < CHUNKS; i++) {
		struct toc_chunk *c = &s->chunks[i];

		*c = (struct toc_chunk){
			.offset = borders[i], .size = borders[i + 1] - borders[i], .host = s->len
		};
		assert_true(digest(s->plain + c->offset, c->size, c->digest));
		if (c->offset == ZERO_AT) {
			c->host = UINT64_MAX;
		} else if (i == 2) {
			c->host = s->chunks[1].host;
			c->inner = c->offset - s->chunks[1].offset;
			c->stored = s->chunks[1].stored;
		} else {
			pack(s, borders[i], borders[i == 1 ? 3 : i + 1]);
			c->stored = s->len - c->host;
		}
	}
	s->toc.chunks = s->chunks;
	s->toc.chunk_count = CHUNKS;
	s->file = (struct toc_file){ .size = SIZE, .count = CHUNKS };
	return s;
}

static struct image *open_sample(struct sample *s, struct fake_image **ret_blob)
{
	const struct chunked_opts opts = { .kind = s->kind,
		.toc = &s->toc,
		.file = &s->file,
		.name = "disk/disk.img",
		.sha256 = digest };
	struct fake_image *blob = fake_image_from(s->packed, s->len, "blob");
	struct image *img = NULL;

	assert_int_equal(chunked_open(&blob->img, &opts, &img, NULL), 0);
	assert_int_equal(img->size, SIZE);
	if (ret_blob) {
		*ret_blob = blob;
	}
	return img;
}

static bool reads(struct image *img, const struct sample *s, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct err e = { 0 };
	bool good;

	assert_non_null(buf);
	if (image_read_at(img, buf, len, off, &e) < 0) {
		fail_msg("%s", e.text);
	}
	good = memcmp(buf, s->plain + off, len) == 0;
	free(buf);
	return good;
}

static void all_bytes_are_there_in_any_order(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_ZSTD_CHUNKED; kind++) {
		struct sample *s = make_sample(kind);
		struct image *img = open_sample(s, NULL);
		uint64_t random = 1;

		assert_true(reads(img, s, SIZE - 1, 1));
		assert_true(reads(img, s, ZERO_AT - 5, 10));
		assert_true(reads(img, s, ZERO_TO - 5, 10));
		for (unsigned int i = 0; i < 200; i++) {
			uint64_t off;

			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			off = (random >> 33) % SIZE;
			assert_true(reads(
				img, s, off, min_u64(1 + (random >> 20) % 70000, SIZE - off)));
		}
		assert_true(reads(img, s, 0, SIZE));
		image_close(img);
		free(s);
	}
}

static void zeros_are_holes_that_cost_nothing(void **state)
{
	struct sample *s = make_sample(TOC_ESTARGZ);
	struct fake_image *blob;
	struct image *img = open_sample(s, &blob);
	struct extent x;
	uint64_t off;
	uint64_t len;

	(void)state;
	assert_int_equal(image_extent_at(img, 0, &x, NULL), 0);
	assert_false(x.zero);
	assert_int_equal(x.length, ZERO_AT);
	assert_int_equal(image_extent_at(img, ZERO_AT + 1, &x, NULL), 0);
	assert_true(x.zero);
	assert_int_equal(x.offset + x.length, ZERO_TO);
	assert_int_equal(image_extent_at(img, SIZE - 1, &x, NULL), 0);
	assert_false(x.zero);
	assert_true(reads(img, s, ZERO_AT, ZERO_TO - ZERO_AT));
	assert_int_equal(blob->bytes, 0);
	assert_int_equal(image_unit_at(img, ZERO_TO + 7, &off, &len, NULL), 0);
	assert_int_equal(off, ZERO_TO);
	assert_int_equal(len, 390000 - ZERO_TO);
	assert_int_equal(image_unit_at(img, ZERO_AT, &off, &len, NULL), 0);
	assert_int_equal(len, 0);
	assert_int_equal(image_allocated(img, &len, NULL), 0);
	assert_int_equal(len, SIZE - (ZERO_TO - ZERO_AT));
	image_close(img);
	free(s);
}

static void a_read_fetches_the_chunks_it_touches(void **state)
{
	struct sample *s = make_sample(TOC_ZSTD_CHUNKED);
	struct fake_image *blob;
	struct image *img = open_sample(s, &blob);

	(void)state;
	assert_true(reads(img, s, 395000, 100));
	assert_int_equal(blob->bytes, s->chunks[5].stored);
	assert_true(reads(img, s, 391000, 100));
	assert_int_equal(blob->bytes, s->chunks[5].stored);
	image_close(img);
	free(s);
}

static int error_at(struct image *img, uint64_t off, struct err *e)
{
	uint8_t byte;

	return image_read_at(img, &byte, 1, off, e);
}

static void other_bytes_than_the_digest_says_are_an_error(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_ZSTD_CHUNKED; kind++) {
		struct sample *s = make_sample(kind);
		struct image *img;
		struct err e = { 0 };

		s->chunks[4].digest[3] ^= 1;
		img = open_sample(s, NULL);
		for (unsigned int i = 0; i < 2; i++) {
			assert_int_equal(error_at(img, ZERO_TO, &e), -ENOKEY);
			assert_non_null(strstr(e.text, "disk/disk.img"));
			assert_non_null(strstr(e.text, "digest"));
		}
		assert_true(reads(img, s, 0, ZERO_TO));
		image_close(img);
		free(s);
	}
}

/* Whatever happens to the layer, bytes are right or an error. */
static void damage_is_an_error_or_makes_no_difference(void **state)
{
	uint64_t random = 5;

	(void)state;
	for (unsigned int i = 0; i < 400; i++) {
		struct sample *s = make_sample(i % 2 ? TOC_ESTARGZ : TOC_ZSTD_CHUNKED);
		uint8_t *buf = malloc(SIZE);
		struct image *img;
		struct err e = { 0 };
		int r;

		assert_non_null(buf);
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		s->packed[512 + (random >> 33) % (s->len - 512)] ^=
			(uint8_t)(1U << (random >> 60) % 8);
		img = open_sample(s, NULL);
		for (size_t c = 0; c < CHUNKS; c++) {
			r = image_read_at(img, buf, borders[c + 1] - borders[c], borders[c], &e);
			assert_true(r == 0 || r == -EBADMSG || r == -ENOKEY);
			assert_true(r < 0 || memcmp(buf, s->plain + borders[c],
						     borders[c + 1] - borders[c]) == 0);
		}
		image_close(img);
		free(buf);
		free(s);
	}
}

/* Streams that end before their chunk does, and those that say they hold more. */
static void what_is_cut_off_is_an_error(void **state)
{
	(void)state;
	for (enum toc_kind kind = TOC_ESTARGZ; kind <= TOC_ZSTD_CHUNKED; kind++) {
		struct sample *s = make_sample(kind);
		struct image *img;
		struct err e = { 0 };

		s->chunks[0].stored /= 2;
		s->chunks[2].inner += 1;
		s->chunks[5].stored = 1;
		img = open_sample(s, NULL);
		assert_int_equal(error_at(img, 0, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "decompressed"));
		assert_int_equal(error_at(img, 90000, &e), -EBADMSG);
		assert_int_equal(error_at(img, SIZE - 1, &e), -EBADMSG);
		assert_true(reads(img, s, 60000, 30000));
		image_close(img);
		free(s);
	}
}

static void errors_of_the_layer_are_told_and_not_kept(void **state)
{
	struct sample *s = make_sample(TOC_ESTARGZ);
	struct fake_image *blob;
	struct image *img = open_sample(s, &blob);
	struct err e = { 0 };

	(void)state;
	blob->fail_next = 1;
	assert_int_equal(error_at(img, 5, &e), -EIO);
	assert_true(reads(img, s, 0, 60000));
	image_close(img);
	free(s);
}

struct reader {
	struct image *img;
	const struct sample *sample;
	bool good;
};

static void *read_everything(void *ctx)
{
	struct reader *r = ctx;

	r->good = reads(r->img, r->sample, 0, SIZE);
	return NULL;
}

static void readers_share_what_is_decoded(void **state)
{
	struct sample *s = make_sample(TOC_ESTARGZ);
	struct fake_image *blob;
	struct image *img = open_sample(s, &blob);
	struct reader readers[4];
	pthread_t threads[4];

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		readers[i] = (struct reader){ img, s, false };
		assert_int_equal(
			pthread_create(&threads[i], NULL, read_everything, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_true(readers[i].good);
	}
	/* The stream of two chunks is read for each of them. */
	assert_int_equal(blob->bytes, s->len - 512 + s->chunks[1].stored);
	image_close(img);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_bytes_are_there_in_any_order),
		cmocka_unit_test(zeros_are_holes_that_cost_nothing),
		cmocka_unit_test(a_read_fetches_the_chunks_it_touches),
		cmocka_unit_test(other_bytes_than_the_digest_says_are_an_error),
		cmocka_unit_test(damage_is_an_error_or_makes_no_difference),
		cmocka_unit_test(what_is_cut_off_is_an_error),
		cmocka_unit_test(errors_of_the_layer_are_told_and_not_kept),
		cmocka_unit_test(readers_share_what_is_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
