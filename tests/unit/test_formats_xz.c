/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/decoded.h"
#include "formats/xz.h"
#include "tests/unit/decoded_check.h"
#include "tests/unit/memory_limit.h"

#define PLAIN 2900003U

/* Compresses with an encoder that was set up. */
static struct bytes run_encoder(lzma_stream *strm, const void *data, size_t len)
{
	struct bytes out = { malloc(2 * len + 65536), 2 * len + 65536 };

	assert_non_null(out.data);
	strm->next_in = data;
	strm->avail_in = len;
	strm->next_out = out.data;
	strm->avail_out = out.len;
	assert_int_equal(lzma_code(strm, LZMA_FINISH), LZMA_STREAM_END);
	out.len -= strm->avail_out;
	lzma_end(strm);
	return out;
}

static struct bytes pack_blocks(const void *data, size_t len, uint64_t block)
{
	lzma_stream strm = LZMA_STREAM_INIT;
	lzma_mt mt = { .threads = 1, .block_size = block, .preset = 0, .check = LZMA_CHECK_CRC64 };

	assert_int_equal(lzma_stream_encoder_mt(&strm, &mt), LZMA_OK);
	return run_encoder(&strm, data, len);
}

static struct bytes pack_one(const void *data, size_t len, lzma_check check)
{
	lzma_stream strm = LZMA_STREAM_INIT;

	assert_int_equal(lzma_easy_encoder(&strm, 0, check), LZMA_OK);
	return run_encoder(&strm, data, len);
}

static struct bytes pack_filtered(const void *data, size_t len)
{
	lzma_stream strm = LZMA_STREAM_INIT;
	lzma_options_lzma lzma;
	lzma_options_delta delta = { .type = LZMA_DELTA_TYPE_BYTE, .dist = 4 };
	lzma_filter filters[] = {
		{ LZMA_FILTER_X86, NULL },
		{ LZMA_FILTER_DELTA, &delta },
		{ LZMA_FILTER_LZMA2, &lzma },
		{ LZMA_VLI_UNKNOWN, NULL },
	};

	assert_false(lzma_lzma_preset(&lzma, 0));
	assert_int_equal(lzma_stream_encoder(&strm, filters, LZMA_CHECK_SHA256), LZMA_OK);
	return run_encoder(&strm, data, len);
}

static void append_zeros(struct bytes *b, size_t n)
{
	const uint8_t zeros[64] = { 0 };

	bytes_append(b, zeros, n);
}

static void blocks_become_units_and_are_read_in_any_order(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_blocks(plain.data, plain.len, MIB(1) + 4096);
	struct fake_image *below;
	struct image *img = decoded_open(xz_open, &packed, NULL, &below);
	uint64_t off;
	uint64_t len;

	(void)state;
	assert_int_equal(below->transfers, 2);
	assert_false(img->flags & (IMAGE_SEQUENTIAL | IMAGE_SIZE_PROVISIONAL));
	assert_string_equal(img->id, "packed+xz");
	assert_int_equal(image_unit_at(img, MIB(1) + 4096, &off, &len, NULL), 0);
	assert_int_equal(off, MIB(1) + 4096);
	assert_int_equal(len, MIB(1) + 4096);
	assert_int_equal(image_unit_at(img, PLAIN - 1, &off, &len, NULL), 0);
	assert_int_equal(off, 2 * (MIB(1) + 4096));
	assert_int_equal(off + len, PLAIN);
	decoded_check_reads(img, &plain);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

static void one_block_is_sequential(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_one(plain.data, plain.len, LZMA_CHECK_CRC32);
	struct image *img = decoded_open(xz_open, &packed, NULL, NULL);

	(void)state;
	assert_true(img->flags & IMAGE_SEQUENTIAL);
	decoded_check_reads(img, &plain);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

static void small_blocks_are_grouped(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_blocks(plain.data, plain.len, 50000);
	struct image *img = decoded_open(xz_open, &packed, NULL, NULL);
	uint64_t off;
	uint64_t len;

	(void)state;
	assert_int_equal(image_unit_at(img, 1, &off, &len, NULL), 0);
	assert_int_equal(off, 0);
	assert_int_equal(len, 21 * 50000);
	decoded_check_reads(img, &plain);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

/* Streams with other filters and checks, padding, and one that holds nothing. */
static void streams_are_one_image(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_blocks(plain.data, 1500000, MIB(1));
	struct bytes second = pack_filtered(plain.data + 1500000, 700000);
	struct bytes empty = pack_one("", 0, LZMA_CHECK_CRC64);
	struct bytes third = pack_one(plain.data + 2200000, PLAIN - 2200000, LZMA_CHECK_NONE);
	struct image *img;

	(void)state;
	append_zeros(&packed, 4);
	bytes_append(&packed, second.data, second.len);
	bytes_append(&packed, empty.data, empty.len);
	bytes_append(&packed, third.data, third.len);
	append_zeros(&packed, 64);
	img = decoded_open(xz_open, &packed, NULL, NULL);
	decoded_check_reads(img, &plain);
	image_close(img);
	free(third.data);
	free(empty.data);
	free(second.data);
	free(packed.data);
	free(plain.data);
}

static void damaged_block_is_named_and_the_others_are_read(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_blocks(plain.data, plain.len, MIB(1));
	struct err e = { 0 };
	uint8_t buf[1000];
	struct image *img;

	(void)state;
	packed.data[packed.len / 2] ^= 1;
	img = decoded_open(xz_open, &packed, NULL, NULL);
	assert_int_equal(image_read_at(img, buf, sizeof(buf), MIB(1) - sizeof(buf), NULL), 0);
	assert_memory_equal(buf, plain.data + MIB(1) - sizeof(buf), sizeof(buf));
	assert_int_equal(image_read_at(img, buf, sizeof(buf), PLAIN - sizeof(buf), NULL), 0);
	assert_memory_equal(buf, plain.data + PLAIN - sizeof(buf), sizeof(buf));
	assert_int_equal(image_read_at(img, buf, sizeof(buf), MIB(2) - sizeof(buf), &e), -EBADMSG);
	assert_non_null(strstr(e.text, "block 2 at offset "));
	image_close(img);
	free(packed.data);
	free(plain.data);
}

/* The block header at @head: its filter flags end with the size of the dictionary. */
static void set_dictionary(struct bytes *packed, size_t head, uint8_t bits)
{
	size_t len = lzma_block_header_size_decode(packed->data[head]);
	uint8_t *lzma2 = memmem(packed->data + head, len, "\x21\x01", 2);

	assert_non_null(lzma2);
	lzma2[2] = bits;
	store_le32(packed->data + head + len - 4, lzma_crc32(packed->data + head, len - 4, 0));
}

static void memory_that_a_file_may_demand_is_bounded(void **state)
{
	struct bytes plain = decoded_sample(100000);
	struct bytes packed = pack_one(plain.data, plain.len, LZMA_CHECK_CRC64);
	struct err e = { 0 };
	uint8_t byte;
	struct image *img;

	(void)state;
	set_dictionary(&packed, 12, 30); /* 128 MiB */
	img = decoded_open(xz_open, &packed, NULL, NULL);
	decoded_check_reads(img, &plain);
	image_close(img);
	set_dictionary(&packed, 12, 40); /* 4 GiB - 1 */
	img = decoded_open(xz_open, &packed, NULL, NULL);
	assert_int_equal(image_read_at(img, &byte, 1, 0, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "MiB of memory"));
	image_close(img);
	free(packed.data);
	free(plain.data);
}

/* A file whose index says @blocks times that there is a block of @unpadded and @size bytes. */
static struct bytes claim(size_t blocks, uint64_t unpadded, uint64_t size)
{
	lzma_index *index = lzma_index_init(NULL);
	lzma_stream_flags flags = { .check = LZMA_CHECK_CRC32 };
	struct bytes b = { calloc(1, LZMA_STREAM_HEADER_SIZE), LZMA_STREAM_HEADER_SIZE };
	uint8_t footer[LZMA_STREAM_HEADER_SIZE];
	size_t at = 0;
	size_t n;
	uint8_t *encoded;

	for (size_t i = 0; i < blocks; i++) {
		assert_int_equal(lzma_index_append(index, NULL, unpadded, size), LZMA_OK);
	}
	assert_int_equal(lzma_stream_header_encode(&flags, b.data), LZMA_OK);
	n = min_u64(lzma_index_total_size(index), MIB(2));
	b.data = realloc(b.data, b.len + n);
	memset(b.data + b.len, 0x55, n);
	b.len += n;
	n = lzma_index_size(index);
	encoded = malloc(n);
	assert_int_equal(lzma_index_buffer_encode(index, encoded, &at, n), LZMA_OK);
	bytes_append(&b, encoded, n);
	free(encoded);
	flags.backward_size = n;
	assert_int_equal(lzma_stream_footer_encode(&flags, footer), LZMA_OK);
	bytes_append(&b, footer, sizeof(footer));
	lzma_index_end(index, NULL);
	return b;
}

static void open_claim(size_t blocks, uint64_t unpadded, uint64_t size, int code, const char *text)
{
	const struct format_opts opts = { .blobs = NULL };
	struct bytes packed = claim(blocks, unpadded, size);
	struct fake_image *below = fake_image_from(packed.data, packed.len, "claim");
	struct image *img = NULL;
	struct err e = { 0 };

	assert_int_equal(xz_open(&below->img, &opts, &img, &e), code);
	assert_non_null(strstr(e.text, text));
	image_close(&below->img);
	free(packed.data);
}

static void index_that_lies_is_refused(void **state)
{
	(void)state;
	open_claim(1, 1000, 1ULL << 50, -EBADMSG, "claims");
	open_claim(1, 1ULL << 40, 1000, -EBADMSG, "no valid index");
	open_claim(5000000, 5, 1, -ENOTSUP, "MiB of memory");
}

static int first_unit_only(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *next = ctx;

	(void)buf;
	assert_int_equal(off, *next);
	*next += n;
	return n == 0 ? -ECANCELED : 0;
}

/* Who needs one block is asked before the next one is fetched. */
static void nothing_is_fetched_of_a_block_that_nobody_wants(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_blocks(plain.data, plain.len, MIB(1) + 4096);
	struct fake_image *below;
	struct image *img = decoded_open(xz_open, &packed, NULL, &below);
	uint64_t whole;
	uint64_t next = 0;
	struct err e = { 0 };

	(void)state;
	below->bytes = 0;
	assert_int_equal(image_stream_at(img, 0, MIB(1) + 4096, first_unit_only, &next, &e), 0);
	whole = below->bytes;
	below->bytes = 0;
	next = 0;
	assert_int_equal(image_stream_at(img, 0, PLAIN, first_unit_only, &next, &e), -ECANCELED);
	assert_int_equal(next, MIB(1) + 4096);
	assert_int_equal(below->bytes, whole);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

static void closing_interrupts(void **state)
{
	struct bytes plain = decoded_sample(100000);
	struct bytes packed = pack_one(plain.data, plain.len, LZMA_CHECK_CRC64);
	struct image *img = decoded_open(xz_open, &packed, NULL, NULL);
	uint8_t byte;

	(void)state;
	image_interrupt(img);
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), -ECANCELED);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

static void who_was_given_a_damaged_download_is_told(void **state)
{
	struct bytes plain = decoded_noise(7 << 20);
	struct bytes packed = pack_blocks(plain.data, plain.len, MIB(3));

	(void)state;
	decoded_check_proven(xz_open, &packed, &plain);
	decoded_check_downloads(xz_open, &packed, &plain);
	free(packed.data);
	free(plain.data);
}

static void small_blocks_are_shown_when_they_are_proven(void **state)
{
	static const struct {
		uint64_t block;
		uint64_t damaged;
	} cases[] = { { 1300000, 1 }, { DECODED_HELD, 0 }, { 70000, 4 } };
	struct bytes plain = decoded_noise(PLAIN);
	struct bytes packed;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t from = cases[i].damaged * cases[i].block;

		packed = pack_blocks(plain.data, plain.len, cases[i].block);
		decoded_check_held(xz_open, &packed, &plain, from, from + cases[i].block);
		free(packed.data);
	}
	plain.len = 300000;
	packed = pack_one(plain.data, plain.len, LZMA_CHECK_SHA256);
	decoded_check_held(xz_open, &packed, &plain, 0, plain.len);
	free(packed.data);
	free(plain.data);
}

static void damaged_files_are_errors_or_right(void **state)
{
	struct bytes plain = decoded_sample(20000);
	struct bytes packed = pack_blocks(plain.data, plain.len, 6000);
	struct bytes one = pack_one(plain.data, plain.len, LZMA_CHECK_CRC32);

	(void)state;
	memory_limit(MIB(256));
	decoded_check_truncations(xz_open, &packed, &plain, 100);
	decoded_check_truncations(xz_open, &one, &plain, 100);
	decoded_check_flips(xz_open, &packed, &plain, 1000);
	decoded_check_flips(xz_open, &one, &plain, 1000);
	free(one.data);
	free(packed.data);
	free(plain.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_become_units_and_are_read_in_any_order),
		cmocka_unit_test(one_block_is_sequential),
		cmocka_unit_test(small_blocks_are_grouped),
		cmocka_unit_test(streams_are_one_image),
		cmocka_unit_test(damaged_block_is_named_and_the_others_are_read),
		cmocka_unit_test(memory_that_a_file_may_demand_is_bounded),
		cmocka_unit_test(index_that_lies_is_refused),
		cmocka_unit_test(nothing_is_fetched_of_a_block_that_nobody_wants),
		cmocka_unit_test(closing_interrupts),
		cmocka_unit_test(who_was_given_a_damaged_download_is_told),
		cmocka_unit_test(small_blocks_are_shown_when_they_are_proven),
		cmocka_unit_test(damaged_files_are_errors_or_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
