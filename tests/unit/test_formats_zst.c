/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/bytes.h"
#include "formats/decoded.h"
#include "formats/zst.h"
#include "formats/zst_frame.h"
#include "tests/unit/decoded_check.h"
#include "tests/unit/memory_limit.h"

#define PLAIN 3000003U

enum pack {
	SUM = 1,     /* with a checksum in the frame */
	NO_SIZE = 2, /* the frame does not say how long its content is */
};

static void append_frame(struct bytes *out, const void *data, size_t len, unsigned int flags)
{
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(len);
	void *buf = malloc(room);
	size_t n;

	assert_non_null(buf);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, (flags & SUM) != 0);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, !(flags & NO_SIZE));
	n = ZSTD_compress2(ctx, buf, room, data, len);
	assert_false(ZSTD_isError(n));
	bytes_append(out, buf, n);
	free(buf);
	ZSTD_freeCCtx(ctx);
}

static void append_skippable(struct bytes *out, uint32_t magic, const void *data, size_t n)
{
	uint8_t head[8];

	store_le32(head, magic);
	store_le32(head + 4, (uint32_t)n);
	bytes_append(out, head, sizeof(head));
	bytes_append(out, data, n);
}

static struct bytes pack_one(const struct bytes *plain, unsigned int flags)
{
	struct bytes out = { 0 };

	append_frame(&out, plain->data, plain->len, flags);
	return out;
}

/* As pzstd writes: each frame, which does not tell its size, behind a skippable one. */
static struct bytes pack_pzstd(const struct bytes *plain, size_t each)
{
	struct bytes out = { 0 };

	for (size_t at = 0; at < plain->len; at += each) {
		struct bytes frame = { 0 };
		uint8_t size[4];

		append_frame(
			&frame, plain->data + at, min_u64(each, plain->len - at), SUM | NO_SIZE);
		store_le32(size, (uint32_t)frame.len);
		append_skippable(&out, 0x184d2a50, size, sizeof(size));
		bytes_append(&out, frame.data, frame.len);
		free(frame.data);
	}
	return out;
}

/* The seekable format; @table gets it without its frame. */
static struct bytes pack_seekable(const struct bytes *plain, size_t each, struct bytes *table)
{
	struct bytes out = { 0 };
	uint8_t footer[9] = { 0 };
	uint32_t count = 0;

	*table = (struct bytes){ 0 };
	for (size_t at = 0; at < plain->len; at += each) {
		size_t n = min_u64(each, plain->len - at);
		size_t before = out.len;
		uint8_t entry[12];

		append_frame(&out, plain->data + at, n, 0);
		store_le32(entry, (uint32_t)(out.len - before));
		store_le32(entry + 4, (uint32_t)n);
		store_le32(entry + 8, (uint32_t)XXH64(plain->data + at, n, 0));
		bytes_append(table, entry, sizeof(entry));
		count++;
	}
	store_le32(footer, count);
	footer[4] = 0x80;
	store_le32(footer + 5, 0x8f92eab1);
	bytes_append(table, footer, sizeof(footer));
	return out;
}

static void append_table(struct bytes *out, const struct bytes *table)
{
	append_skippable(out, 0x184d2a5e, table->data, table->len);
}

static int try_open(const struct bytes *packed, const struct format_opts *opts, unsigned int flags,
	struct image **ret, struct err *e)
{
	struct fake_image *below = fake_image_from(packed->data, packed->len, "packed");
	int r;

	below->img.flags |= flags;
	r = zst_open(&below->img, opts, ret, e);
	if (r < 0) {
		image_close(&below->img);
	}
	return r;
}

/* Records in memory: one. */
struct one_blob {
	struct blobs blobs;
	void *data;
	size_t len;
	unsigned int puts;
};

static int one_get(struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	struct one_blob *one = (struct one_blob *)b;

	assert_string_equal(name, "zstd-frames");
	if (!one->data) {
		return err_set(e, -ENOENT, "none");
	}
	*ret = malloc(one->len);
	memcpy(*ret, one->data, one->len);
	*ret_len = one->len;
	return 0;
}

static int one_put(struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	struct one_blob *one = (struct one_blob *)b;

	(void)e;
	assert_string_equal(name, "zstd-frames");
	free(one->data);
	one->data = malloc(len);
	memcpy(one->data, data, len);
	one->len = len;
	one->puts++;
	return 0;
}

static const struct blobs_ops one_ops = { one_get, one_put };

static void seek_table_gives_size_and_units(void **state)
{
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes table;
	struct bytes packed = pack_seekable(&plain, 300000, &table);
	struct image *img;
	uint64_t off;
	uint64_t len;

	(void)state;
	append_table(&packed, &table);
	img = decoded_open(zst_open, &packed, NULL, NULL);
	assert_false(img->flags & (IMAGE_SEQUENTIAL | IMAGE_SIZE_PROVISIONAL));
	assert_string_equal(img->id, "packed+zstd");
	assert_int_equal(image_unit_at(img, 1300000, &off, &len, NULL), 0);
	assert_int_equal(off, 1200000);
	assert_int_equal(len, 1200000);
	decoded_check_reads(img, &plain);
	image_close(img);
	free(packed.data);
	free(table.data);
	free(plain.data);
}

static void expect_refusal(const struct bytes *packed, int code, const char *text)
{
	const struct format_opts opts = { .blobs = NULL };
	struct image *img = NULL;
	struct err e = { 0 };

	assert_int_equal(try_open(packed, &opts, 0, &img, &e), code);
	if (!strstr(e.text, text)) {
		fail_msg("'%s' is not in '%s'", text, e.text);
	}
}

static void expect_table_refusal(
	struct bytes frames, struct bytes table, size_t at, uint32_t value, const char *text)
{
	struct bytes packed = { 0 };
	uint32_t saved = load_le32(table.data + at);

	bytes_append(&packed, frames.data, frames.len);
	store_le32(table.data + at, value);
	append_table(&packed, &table);
	store_le32(table.data + at, saved);
	expect_refusal(&packed, -EBADMSG, text);
	free(packed.data);
}

static void seek_table_that_is_wrong_is_refused(void **state)
{
	struct bytes plain = decoded_sample(1000000);
	struct bytes table;
	struct bytes frames = pack_seekable(&plain, 300000, &table);
	uint32_t first = load_le32(table.data);

	(void)state;
	expect_table_refusal(frames, table, 0, first + 1, "do not fill the file");
	expect_table_refusal(frames, table, 0, 0, "impossible size");
	expect_table_refusal(frames, table, 3 * 12 + 4, UINT32_MAX, "impossible size");
	expect_table_refusal(frames, table, table.len - 8,
		load_le32(table.data + table.len - 8) | 0x04000000, "reserved bit");
	free(frames.data);
	free(table.data);
	free(plain.data);
}

static void check_frame_error(
	struct bytes frames, struct bytes table, size_t at, uint32_t value, const char *text)
{
	struct bytes packed = { 0 };
	uint32_t saved = load_le32(table.data + at);
	struct err e = { 0 };
	uint8_t byte;
	struct image *img;

	bytes_append(&packed, frames.data, frames.len);
	store_le32(table.data + at, value);
	append_table(&packed, &table);
	store_le32(table.data + at, saved);
	img = decoded_open(zst_open, &packed, NULL, NULL);
	assert_int_equal(image_read_at(img, &byte, 1, img->size - 1, &e), -EBADMSG);
	if (!strstr(e.text, text)) {
		fail_msg("'%s' is not in '%s'", text, e.text);
	}
	image_close(img);
	free(packed.data);
}

/* Frames without checksums of their own are held to those of the table. */
static void frames_are_held_to_their_entries(void **state)
{
	struct bytes plain = decoded_sample(1000000);
	struct bytes table;
	struct bytes frames = pack_seekable(&plain, 300000, &table);

	(void)state;
	check_frame_error(frames, table, 3 * 12 + 8, 5, "checksum in the seek table");
	check_frame_error(frames, table, 3 * 12 + 4, 99999, "not as long as the seek table");
	check_frame_error(frames, table, 2 * 12 + 4, 299999, "not as long as the seek table");
	free(frames.data);
	free(table.data);
	free(plain.data);
}

static void file_of_this_machine_is_walked(void **state)
{
	const struct format_opts opts = { .blobs = NULL };
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = { 0 };
	struct image *img = NULL;

	(void)state;
	append_skippable(&packed, 0x184d2a53, "hello", 5);
	append_frame(&packed, plain.data, 1800000, SUM);
	append_frame(&packed, "", 0, 0);
	append_skippable(&packed, 0x184d2a5f, "", 0);
	append_frame(&packed, plain.data + 1800000, PLAIN - 1800000, 0);
	assert_int_equal(try_open(&packed, &opts, IMAGE_LOCAL, &img, NULL), 0);
	assert_false(img->flags & (IMAGE_SEQUENTIAL | IMAGE_SIZE_PROVISIONAL));
	decoded_check_reads(img, &plain);
	image_close(img);
	packed.len--;
	assert_int_equal(try_open(&packed, &opts, IMAGE_LOCAL, &img, NULL), -EBADMSG);
	free(packed.data);
	free(plain.data);
}

static int count_bytes(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *next = ctx;

	(void)buf;
	assert_int_equal(off, *next);
	*next += n;
	return 0;
}

static void check_real_end(const struct bytes *packed, uint64_t assumed, uint64_t real)
{
	const struct format_opts opts = { .size = assumed };
	uint64_t known;
	uint64_t next = 0;
	uint8_t byte;
	struct err e = { 0 };
	struct image *img = NULL;

	assert_int_equal(try_open(packed, &opts, 0, &img, NULL), 0);
	assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
	assert_true(img->flags & IMAGE_SEQUENTIAL);
	assert_int_equal(img->size, assumed);
	assert_true(img->bound > real);
	assert_int_equal(image_final_size(img, &known), -EAGAIN);
	assert_int_equal(image_read_at(img, &byte, 1, min_u64(real, assumed) - 2, NULL), 0);
	assert_int_equal(image_read_at(img, &byte, 1, assumed - 1, &e), real == assumed ? 0 : -EIO);
	assert_int_equal(image_stream_at(img, 0, assumed, count_bytes, &next, NULL), 0);
	assert_int_equal(next, real);
	assert_int_equal(image_final_size(img, &known), 0);
	assert_int_equal(known, real);
	image_close(img);
}

static void assumed_size_is_found_out(void **state)
{
	struct bytes plain = decoded_sample(700000);
	struct bytes packed = pack_pzstd(&plain, 200000);

	(void)state;
	check_real_end(&packed, 700000, 700000);
	check_real_end(&packed, 700001, 700000);
	check_real_end(&packed, 699999, 700000);
	check_real_end(&packed, 3, 700000);
	check_real_end(&packed, 5000000, 700000);
	free(packed.data);
	free(plain.data);
}

static void first_frame_says_what_is_assumed(void **state)
{
	struct bytes plain = decoded_sample(700000);
	struct bytes packed = pack_one(&plain, SUM);
	struct image *img = decoded_open(zst_open, &packed, NULL, NULL);
	uint64_t next = 0;

	(void)state;
	assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
	decoded_check_reads(img, &plain);
	image_close(img);
	append_frame(&packed, plain.data, 1000, 0);
	img = decoded_open(zst_open, &packed, NULL, NULL);
	assert_int_equal(img->size, 700000);
	assert_int_equal(image_stream_at(img, 0, 700000, count_bytes, &next, NULL), 0);
	assert_int_equal(next, 701000);
	image_close(img);
	free(packed.data);
	free(plain.data);
}

static void what_was_decoded_once_is_known_afterwards(void **state)
{
	struct one_blob one = { .blobs = { &one_ops } };
	struct bytes plain = decoded_sample(PLAIN);
	struct bytes packed = pack_pzstd(&plain, 400000);
	struct image *img = decoded_open(zst_open, &packed, &one.blobs, NULL);
	uint64_t next = 0;
	uint64_t off;
	uint64_t len;

	(void)state;
	assert_int_equal(image_stream_at(img, 0, 500000, count_bytes, &next, NULL), 0);
	assert_int_equal(one.puts, 0);
	next = 0;
	assert_int_equal(image_stream_at(img, 0, img->size, count_bytes, &next, NULL), 0);
	assert_int_equal(next, PLAIN);
	assert_int_equal(one.puts, 1);
	image_close(img);
	img = decoded_open(zst_open, &packed, &one.blobs, NULL);
	assert_false(img->flags & (IMAGE_SEQUENTIAL | IMAGE_SIZE_PROVISIONAL));
	assert_int_equal(image_unit_at(img, 2000000, &off, &len, NULL), 0);
	assert_int_equal(off, 1200000);
	assert_int_equal(len, 1200000);
	decoded_check_reads(img, &plain);
	image_close(img);
	assert_int_equal(one.puts, 1);
	for (size_t at = 0; at < one.len; at += 5) {
		((uint8_t *)one.data)[at] ^= 0x40;
		img = decoded_open(zst_open, &packed, &one.blobs, NULL);
		assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
		image_close(img);
		((uint8_t *)one.data)[at] ^= 0x40;
	}
	free(one.data);
	free(packed.data);
	free(plain.data);
}

static void features_that_are_refused_are_named(void **state)
{
	static const uint8_t dictionary[] = "\x28\xb5\x2f\xfd\x01\x58\x07";
	static const uint8_t window[] = "\x28\xb5\x2f\xfd\x00\x89\0\0\0\0\0\0";
	static const uint8_t legacy[] = "\x27\xb5\x2f\xfd\0\0\0\0";
	static const uint8_t other[] = "\x29\xb5\x2f\xfd\0\0\0\0";
	static const uint8_t reserved[] = "\x28\xb5\x2f\xfd\x08\x58\0\0";
	static const uint8_t claim[] = "\x28\xb5\x2f\xfd\xc0\x58\0\0\0\0\0\0\0\x7f";
	struct zst_frame f;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(zst_frame_parse(dictionary, 7, 9, &f, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "offset 9 needs dictionary 7"));
	assert_int_equal(zst_frame_parse(window, 12, 9, &f, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "a window of 144 MiB"));
	assert_int_equal(zst_frame_parse(legacy, 8, 9, &f, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "before 0.8"));
	assert_int_equal(zst_frame_parse(other, 8, 9, &f, &e), -EBADMSG);
	assert_int_equal(zst_frame_parse(reserved, 8, 9, &f, &e), -EBADMSG);
	for (size_t n = 0; n < 7; n++) {
		assert_int_equal(zst_frame_parse(dictionary, n, 9, &f, &e), -EBADMSG);
	}
	expect_refusal(&(struct bytes){ (uint8_t *)(uintptr_t)claim, 14 }, -EBADMSG, "claims");
}

/* A file of frames that hold nothing, and one that is only skippable. */
static void empty_frames_end(void **state)
{
	struct bytes packed = { 0 };
	struct bytes nothing = { NULL, 0 };
	uint8_t *zeros = calloc(1, 100000);

	(void)state;
	for (unsigned int i = 0; i < 2000; i++) {
		append_skippable(&packed, 0x184d2a50, "", 0);
		append_frame(&packed, "", 0, 0);
	}
	assert_int_equal(decoded_check_damaged(zst_open, &packed, &nothing), 0);
	free(packed.data);
	packed = (struct bytes){ 0 };
	append_skippable(&packed, 0x184d2a50, zeros, 100000);
	assert_int_equal(decoded_check_damaged(zst_open, &packed, &nothing), 0);
	free(packed.data);
	free(zeros);
}

static void who_was_given_a_damaged_download_is_told(void **state)
{
	struct bytes plain = decoded_noise(7 << 20);
	struct bytes one = pack_one(&plain, SUM);
	struct bytes table;
	struct bytes many = pack_seekable(&plain, 3 << 20, &table);

	(void)state;
	append_table(&many, &table);
	decoded_check_proven(zst_open, &one, &plain);
	decoded_check_downloads(zst_open, &one, &plain);
	decoded_check_proven(zst_open, &many, &plain);
	decoded_check_downloads(zst_open, &many, &plain);
	free(table.data);
	free(many.data);
	free(one.data);
	free(plain.data);
}

/* By their own checksums, and by those of the table. */
static void small_frames_are_shown_when_they_are_proven(void **state)
{
	struct bytes plain = decoded_noise(PLAIN);
	struct bytes table;
	struct bytes packed = pack_seekable(&plain, 300000, &table);

	(void)state;
	append_table(&packed, &table);
	decoded_check_held(zst_open, &packed, &plain, 300000, 600000);
	free(table.data);
	free(packed.data);
	packed = pack_seekable(&plain, DECODED_HELD, &table);
	append_table(&packed, &table);
	decoded_check_held(zst_open, &packed, &plain, 0, DECODED_HELD);
	free(table.data);
	free(packed.data);
	plain.len = 1700000;
	packed = (struct bytes){ 0 };
	append_frame(&packed, plain.data, 900000, SUM);
	append_frame(&packed, plain.data + 900000, 100000, SUM);
	append_frame(&packed, plain.data + 1000000, 700000, SUM);
	decoded_check_held(zst_open, &packed, &plain, 0, 900000);
	free(packed.data);
	free(plain.data);
}

/* A frame is held to what the table says of its size before anything of it is shown. */
static void frame_that_is_longer_than_its_entry_gives_nothing(void **state)
{
	struct bytes plain = decoded_noise(1000000);
	struct bytes table;
	struct bytes packed = pack_seekable(&plain, plain.len, &table);
	uint64_t next = 0;
	struct err e = { 0 };
	struct image *img;

	(void)state;
	store_le32(table.data + 4, 600000);
	append_table(&packed, &table);
	img = decoded_open(zst_open, &packed, NULL, NULL);
	assert_int_equal(image_stream_at(img, 0, 600000, count_bytes, &next, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "not as long as the seek table says"));
	assert_int_equal(next, 0);
	image_close(img);
	free(packed.data);
	free(table.data);
	free(plain.data);
}

static void damaged_files_are_errors_or_right(void **state)
{
	struct bytes plain = decoded_sample(20000);
	struct bytes one = pack_one(&plain, SUM);
	struct bytes several = pack_pzstd(&plain, 7000);
	struct bytes table;
	struct bytes seekable = pack_seekable(&plain, 7000, &table);

	(void)state;
	memory_limit(MIB(256));
	append_table(&seekable, &table);
	decoded_check_truncations(zst_open, &one, &plain, 100);
	decoded_check_truncations(zst_open, &several, &plain, 100);
	decoded_check_truncations(zst_open, &seekable, &plain, 100);
	decoded_check_flips(zst_open, &one, &plain, 1000);
	decoded_check_flips(zst_open, &several, &plain, 1000);
	decoded_check_flips(zst_open, &seekable, &plain, 1000);
	free(one.data);
	free(several.data);
	free(seekable.data);
	free(table.data);
	free(plain.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seek_table_gives_size_and_units),
		cmocka_unit_test(seek_table_that_is_wrong_is_refused),
		cmocka_unit_test(frames_are_held_to_their_entries),
		cmocka_unit_test(file_of_this_machine_is_walked),
		cmocka_unit_test(assumed_size_is_found_out),
		cmocka_unit_test(first_frame_says_what_is_assumed),
		cmocka_unit_test(what_was_decoded_once_is_known_afterwards),
		cmocka_unit_test(features_that_are_refused_are_named),
		cmocka_unit_test(empty_frames_end),
		cmocka_unit_test(who_was_given_a_damaged_download_is_told),
		cmocka_unit_test(small_frames_are_shown_when_they_are_proven),
		cmocka_unit_test(frame_that_is_longer_than_its_entry_gives_nothing),
		cmocka_unit_test(damaged_files_are_errors_or_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
