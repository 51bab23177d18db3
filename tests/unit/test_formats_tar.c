/* SPDX-License-Identifier: Apache-2.0 */
/* Archives that no program writes: what GNU tar, bsdtar and Python write is compared in
 * tests/integration/test_tar.py. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/tar_header.h"
#include "formats/tar_member.h"
#include "formats/tar_walk.h"
#include "tests/unit/fake_image.h"

#define ROOM 65536U

/* An archive that is being made. */
struct archive {
	uint8_t bytes[ROOM];
	size_t len;
};

static void seal(uint8_t *block)
{
	unsigned int sum = 0;

	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		sum += block[i];
	}
	snprintf((char *)block + 148, 8, "%06o", sum);
}

static uint8_t *add_header(struct archive *a, const char *name, char type, uint64_t size)
{
	uint8_t *block = a->bytes + a->len;

	assert_true(a->len + TAR_BLOCK <= ROOM);
	memcpy(block, name, strlen(name));
	snprintf((char *)block + 124, 12, "%011o", (unsigned int)size);
	block[156] = (uint8_t)type;
	memcpy(block + 257, "ustar\00000", 8);
	seal(block);
	a->len += TAR_BLOCK;
	return block;
}

static void add_data(struct archive *a, const void *data, size_t len)
{
	assert_true(a->len + round_up(len, TAR_BLOCK) <= ROOM);
	memcpy(a->bytes + a->len, data, len);
	a->len += round_up(len, TAR_BLOCK);
}

/* An entry whose data is text: an extension header, or a file. */
static void add_text(struct archive *a, const char *name, char type, const char *text)
{
	add_header(a, name, type, strlen(text));
	add_data(a, text, strlen(text));
}

static struct image *open_archive(const struct archive *a)
{
	return &fake_image_from(a->bytes, a->len, "archive")->img;
}

/* Walks over the archive; the last entry's name and size are checked, if there is a name. */
static int walk(const struct archive *a, const char *last, uint64_t size, struct err *e)
{
	struct image *img = open_archive(a);
	struct tar_walk *w = NULL;
	const struct tar_entry *entry = NULL;
	char name[1000] = "";
	uint64_t found = 0;
	int r;

	assert_int_equal(tar_walk_new(img, 0, &w, NULL), 0);
	while ((r = tar_walk_next(w, &entry, e)) > 0) {
		snprintf(name, sizeof(name), "%s", entry->name);
		found = entry->map.size;
	}
	if (r == 0 && last) {
		assert_string_equal(name, last);
		assert_int_equal(found, size);
	}
	tar_walk_free(w);
	image_close(img);
	return r;
}

static void numbers_in_all_their_forms(void **state)
{
	uint64_t n = 0;

	(void)state;
	assert_true(tar_number((const uint8_t *)"00000000017\0", 12, &n));
	assert_int_equal(n, 15);
	assert_true(tar_number((const uint8_t *)"  17 ", 5, &n));
	assert_int_equal(n, 15);
	assert_true(tar_number((const uint8_t *)"\0\0\0\0", 4, &n));
	assert_int_equal(n, 0);
	assert_true(tar_number((const uint8_t *)"\x80\0\0\2\x40\0\0\0", 8, &n));
	assert_int_equal(n, 0x240000000);
	assert_true(tar_number((const uint8_t *)"777777777777", 12, &n));
	assert_int_equal(n, 0xfffffffff);
	assert_false(tar_number((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8, &n));
	assert_false(tar_number((const uint8_t *)"\x80\1\0\0\0\0\0\0\0\0\0\0", 12, &n)); /* 2^80 */
	assert_false(tar_number((const uint8_t *)"0000008", 7, &n));
	assert_false(tar_number((const uint8_t *)"-1", 2, &n));
	assert_false(tar_number((const uint8_t *)"7777777777777777777777", 22, &n));
}

static void both_checksums_are_right(void **state)
{
	struct archive a = { .len = 0 };
	uint8_t *block = add_header(&a, "n\xe4me", '0', 0);
	struct tar_header h;
	int sum = 0;

	(void)state;
	assert_int_equal(tar_header_parse(block, &h, NULL), 0);
	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		sum += (int8_t)block[i];
	}
	snprintf((char *)block + 148, 8, "%06o", (unsigned int)sum);
	assert_int_equal(tar_header_parse(block, &h, NULL), 0);
	assert_string_equal(h.name, "n\xe4me");
	block[0]++;
	assert_int_equal(tar_header_parse(block, &h, NULL), -EBADMSG);
}

static void one_block_of_zeros_is_passed_over(void **state)
{
	struct archive a = { .len = 0 };

	(void)state;
	add_text(&a, "one", '0', "1");
	a.len += TAR_BLOCK;
	add_text(&a, "two", '0', "22");
	assert_int_equal(walk(&a, "two", 2, NULL), 0); /* and no zeros at the end */
	a.len += TAR_BLOCK;
	assert_int_equal(walk(&a, "two", 2, NULL), 0);
	a.len += TAR_BLOCK;
	add_text(&a, "behind", '0', "333");
	assert_int_equal(walk(&a, "two", 2, NULL), 0);
}

/* The size in an extension header is that of the next entry, not of the next header: readers that
 * took it for that of a long name's header saw other entries than the rest of the world. */
static void extensions_are_about_the_next_entry(void **state)
{
	struct archive a = { .len = 0 };

	(void)state;
	add_text(&a, "x", 'x', "10 size=5\n10 path=a\n");
	add_text(&a, "L", 'L', "long");
	add_header(&a, "short", '0', 0);
	add_data(&a, "12345", 5);
	assert_int_equal(walk(&a, "a", 5, NULL), 0);
	add_text(&a, "L", 'L', "long");
	add_text(&a, "short", '0', "1");
	assert_int_equal(walk(&a, "long", 1, NULL), 0);
	add_text(&a, "short", '0', "");
	assert_int_equal(walk(&a, "short", 0, NULL), 0);
}

static void assert_refused(const char *pax, char type, int code)
{
	struct archive a = { .len = 0 };
	struct err e = { 0 };

	add_text(&a, "x", type, pax);
	add_text(&a, "name", '0', "data");
	assert_int_equal(walk(&a, NULL, 0, &e), code);
	assert_true(e.text[0]);
}

static void broken_extensions_are_refused(void **state)
{
	(void)state;
	assert_refused("99 path=a\n", 'x', -EBADMSG);
	assert_refused("8 path=a\n", 'x', -EBADMSG);
	assert_refused("0 path=a\n", 'x', -EBADMSG);
	assert_refused("99999999999999999999 path=a\n", 'x', -EBADMSG);
	assert_refused("7 path\n", 'x', -EBADMSG);
	assert_refused("6 =aa\n", 'x', -EBADMSG);
	assert_refused("11 size=-5\n", 'x', -EBADMSG);
	assert_refused("30 size=18446744073709551616\n\n", 'x', -EBADMSG);
	assert_refused("28 size=9223372036854775808\n", 'x', -EBADMSG);
	assert_refused("12 size=1e3\n", 'x', -EBADMSG);
	assert_refused("24 GNU.sparse.map=1,2,3\n", 'x', -EBADMSG);
	assert_refused("26 GNU.sparse.map=5,1,3,1\n", 'x', -EBADMSG);
	assert_refused("26 GNU.sparse.numbytes=12\n", 'x', -EBADMSG);
	assert_refused("22 GNU.sparse.major=2\n", 'x', -ENOTSUP);
	assert_refused("12 path=abc\n", 'g', -ENOTSUP);
	assert_refused("25 GNU.sparse.realsize=1\n", 'g', -ENOTSUP);
}

static void harmless_globals_are_ignored(void **state)
{
	struct archive a = { .len = 0 };

	(void)state;
	add_text(&a, "pax_global_header", 'g', "20 comment=00112233\n");
	add_text(&a, "name", '0', "data");
	assert_int_equal(walk(&a, "name", 4, NULL), 0);
}

static void many_extensions_in_a_row_are_refused(void **state)
{
	struct archive a = { .len = 0 };
	struct err e = { 0 };

	(void)state;
	for (unsigned int i = 0; i < 50; i++) {
		add_text(&a, "L", 'L', "n");
	}
	assert_int_equal(walk(&a, NULL, 0, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "in a row"));
}

static void huge_sizes_are_refused(void **state)
{
	static const char types[] = { '0', 'x', 'L', 'S' };

	(void)state;
	for (size_t i = 0; i < sizeof(types); i++) {
		struct archive a = { .len = 0 };
		uint8_t *block = add_header(&a, "big", types[i], 0);
		struct err e = { 0 };

		memset(block + 124, 0xff, 12);
		block[124] = 0x80;
		memset(block + 125, 0, 3);
		seal(block);
		assert_int_equal(walk(&a, NULL, 0, &e), -EBADMSG);
		assert_true(e.text[0]);
	}
}

static void maps_that_cannot_be_are_refused(void **state)
{
	static const char *const maps[] = {
		"1\n0\n513\n",           /* more than is stored */
		"1\n0\n511\n",           /* less */
		"2\n100\n256\n0\n256\n", /* out of order */
		"1\n900\n512\n",         /* behind the end */
		"1\n18446744073709551615\n512\n",
		"1048577\n",
		"99999999999999999999\n",
		"1\n0\n",
		"\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		struct archive a = { .len = 0 };
		struct err e = { 0 };
		char data[2 * TAR_BLOCK] = "";

		add_text(&a, "x", 'x',
			"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
			"28 GNU.sparse.realsize=1024\n");
		add_header(&a, "file", '0', sizeof(data));
		memcpy(data, maps[i], strlen(maps[i]));
		add_data(&a, data, sizeof(data));
		assert_int_equal(walk(&a, NULL, 0, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "sparse"));
	}
}

static void few_reads_find_a_file_that_is_far_away(void **state)
{
	struct fake_image *f;
	uint8_t *bytes = calloc(1, MIB(40));
	struct archive a = { .len = 0 };
	struct tar_walk *w = NULL;
	const struct tar_entry *entry = NULL;
	unsigned int entries = 0;

	(void)state;
	add_header(&a, "disk/", '5', 0);
	add_header(&a, "disk/image", '0', MIB(39));
	memcpy(bytes, a.bytes, a.len);
	f = fake_image_from(bytes, MIB(40), "archive");
	assert_int_equal(tar_walk_new(&f->img, 0, &w, NULL), 0);
	while (tar_walk_next(w, &entry, NULL) > 0) {
		entries++;
	}
	assert_int_equal(entries, 2);
	assert_int_equal(f->transfers, 2);
	assert_true(f->bytes <= 16384);
	tar_walk_free(w);
	image_close(&f->img);
	free(bytes);
}

/* Reads, streams and extents of a file with holes agree. */
static int collect(void *ctx, uint64_t off, const void *buf, size_t n)
{
	memcpy((uint8_t *)ctx + off, buf, n);
	return 0;
}

static void a_file_with_holes(void **state)
{
	struct fake_image *archive = fake_image_new(4096, 3, NULL);
	struct tar_map map = { 0 };
	struct image *img = NULL;
	uint8_t read[2000];
	uint8_t streamed[2000];
	struct extent x;

	(void)state;
	assert_int_equal(tar_map_add(&map, 100, 200, NULL), 0);
	assert_int_equal(tar_map_add(&map, 300, 1, NULL), 0);
	assert_int_equal(tar_map_add(&map, 1000, 500, NULL), 0);
	assert_int_equal(tar_map_place(&map, 512, 701, 2000, NULL), 0);
	assert_int_equal(tar_member_open(&archive->img, &map, "f", &img, NULL), 0);
	assert_int_equal(image_read_at(img, read, sizeof(read), 0, NULL), 0);
	assert_int_equal(image_stream_at(img, 0, 2000, collect, streamed, NULL), 0);
	assert_memory_equal(read, streamed, sizeof(read));
	assert_true(is_zero(read, 100) && is_zero(read + 301, 699) && is_zero(read + 1500, 500));
	assert_true(fake_matches(read + 100, 3, 512, 201));
	assert_true(fake_matches(read + 1000, 3, 713, 500));
	assert_int_equal(image_extent_at(img, 150, &x, NULL), 0);
	assert_true(!x.zero && x.length == 150 && x.host == 562);
	assert_int_equal(image_extent_at(img, 500, &x, NULL), 0);
	assert_true(x.zero && x.length == 500);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_in_all_their_forms),
		cmocka_unit_test(both_checksums_are_right),
		cmocka_unit_test(one_block_of_zeros_is_passed_over),
		cmocka_unit_test(extensions_are_about_the_next_entry),
		cmocka_unit_test(broken_extensions_are_refused),
		cmocka_unit_test(harmless_globals_are_ignored),
		cmocka_unit_test(many_extensions_in_a_row_are_refused),
		cmocka_unit_test(huge_sizes_are_refused),
		cmocka_unit_test(maps_that_cannot_be_are_refused),
		cmocka_unit_test(few_reads_find_a_file_that_is_far_away),
		cmocka_unit_test(a_file_with_holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
