/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/format.h"
#include "formats/vdi_header.h"
#include "tests/unit/fake_image.h"

#define BLOCK     65536U
#define MAP       65536U /* on a page of its own */
#define DATA      131072U
#define FILE_SIZE MIB(1)

static void put_header(uint8_t *b)
{
	memset(b, 0, VDI_HEADER);
	store_le32(b + 64, 0xbeda107f);
	store_le32(b + 68, 0x00010001);
	store_le32(b + 76, 1);
	store_le32(b + 340, MAP);
	store_le32(b + 344, DATA);
	store_le32(b + 360, 512);
	store_le64(b + 368, 8 * BLOCK);
	store_le32(b + 376, BLOCK);
	store_le32(b + 384, 8);
}

/* Of 8 blocks: 0 and 1 lie one behind the other, 2 was never written, 3 is discarded, 4 is block 5
 * of the file, the others lie beyond its end. */
static struct fake_image *make_file(void)
{
	static const uint32_t map[] = { 0, 1, 0xffffffff, 0xfffffffe, 5, 14, 1000, 0xfffffffd };
	uint8_t *file = calloc(1, FILE_SIZE);
	struct fake_image *f;

	assert_non_null(file);
	put_header(file);
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		store_le32(file + MAP + i * 4, map[i]);
	}
	for (size_t i = DATA; i < FILE_SIZE; i++) {
		file[i] = fake_byte(1, i);
	}
	f = fake_image_from(file, FILE_SIZE, "file");
	free(file);
	return f;
}

static struct image *open_vdi(struct fake_image *f)
{
	const struct format_opts opts = { 0 };
	struct image *img = NULL;
	struct err e;

	if (format_open(&f->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void blocks_are_read_from_where_the_map_says(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_vdi(f);
	uint8_t *buf = malloc(5 * BLOCK);

	(void)state;
	assert_non_null(buf);
	assert_int_equal(image_read_at(img, buf, 5 * BLOCK, 0, NULL), 0);
	assert_true(fake_matches(buf, 1, DATA, 2 * BLOCK));
	assert_true(is_zero(buf + 2 * BLOCK, 2 * BLOCK));
	assert_true(fake_matches(buf + 4 * BLOCK, 1, DATA + 5 * BLOCK, BLOCK));
	assert_int_equal(f->transfers, 5); /* probe, header, map, two runs */
	free(buf);
	image_close(img);
}

static void what_lies_beyond_the_end_is_an_error(void **state)
{
	struct image *img = open_vdi(make_file());
	struct err e;
	uint8_t b;

	(void)state;
	for (uint64_t block = 5; block < 8; block++) {
		assert_int_equal(image_read_at(img, &b, 1, block * BLOCK, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "beyond the end"));
	}
	image_close(img);
}

static void extents_are_as_long_as_they_can_be(void **state)
{
	struct image *img = open_vdi(make_file());
	struct extent x;

	(void)state;
	assert_int_equal(image_extent_at(img, 10, &x, NULL), 0);
	assert_int_equal(x.length, 2 * BLOCK - 10);
	assert_int_equal(x.host, DATA + 10);
	assert_int_equal(image_extent_at(img, 2 * BLOCK, &x, NULL), 0);
	assert_true(x.zero);
	assert_int_equal(x.length, 2 * BLOCK);
	image_close(img);
}

static void headers_are_checked(void **state)
{
	uint8_t b[VDI_HEADER];
	struct vdi_header h;

	(void)state;
	put_header(b);
	store_le64(b + 368, 1000);
	assert_int_equal(vdi_header_parse(b, sizeof(b), FILE_SIZE, &h, NULL), 0);
	assert_int_equal(h.size, 1024);
	assert_int_equal(vdi_header_parse(b, 511, FILE_SIZE, &h, NULL), -EBADMSG);
	assert_int_equal(vdi_header_parse(b, sizeof(b), MAP + 31, &h, NULL), -EBADMSG);
	store_le32(b + 76, 4);
	assert_int_equal(vdi_header_parse(b, sizeof(b), FILE_SIZE, &h, NULL), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_read_from_where_the_map_says),
		cmocka_unit_test(what_lies_beyond_the_end_is_an_error),
		cmocka_unit_test(extents_are_as_long_as_they_can_be),
		cmocka_unit_test(headers_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
