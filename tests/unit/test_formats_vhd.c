/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/format.h"
#include "formats/vhd_header.h"
#include "tests/unit/fake_image.h"

static void put_sum(uint8_t *b, size_t len, size_t at)
{
	uint32_t sum = 0;

	store_be32(b + at, 0);
	for (size_t i = 0; i < len; i++) {
		sum += b[i];
	}
	store_be32(b + at, ~sum);
}

static void put_footer(uint8_t *b, uint32_t type, const char *creator, uint64_t size)
{
	memset(b, 0, VHD_FOOTER);
	memcpy(b, "conectix", 8);
	store_be32(b + 12, 0x10000);
	store_be64(b + 16, type == 3 ? VHD_FOOTER : UINT64_MAX);
	memcpy(b + 28, creator, 4);
	store_be64(b + 48, size);
	store_be32(b + 56, 100U << 16 | 4U << 8 | 17U); /* 3481600 bytes */
	store_be32(b + 60, type);
	put_sum(b, VHD_FOOTER, 64);
}

static void size_is_the_one_that_the_creator_means(void **state)
{
	static const struct {
		const char *creator;
		uint64_t size;
	} cases[] = { { "win ", MIB(5) }, { "qem2", MIB(5) }, { "d2v ", MIB(5) }, { "tap", MIB(5) },
		{ "CTXS", MIB(5) }, { "wa\0", MIB(5) }, { "vpc ", 3481600 }, { "qemu", 3481600 } };
	uint8_t b[VHD_FOOTER];
	struct vhd_header h;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_footer(b, 2, cases[i].creator, MIB(5));
		assert_int_equal(vhd_header_footer(b, &h, NULL), 0);
		assert_int_equal(h.size, cases[i].size);
	}
}

static void checksums_are_checked(void **state)
{
	uint8_t b[VHD_FOOTER];
	struct vhd_header h;
	struct err e;

	(void)state;
	put_footer(b, 2, "win ", MIB(5));
	b[300] ^= 1;
	assert_int_equal(vhd_header_footer(b, &h, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "checksum"));
}

static void differencing_disks_are_refused_by_name(void **state)
{
	uint8_t b[VHD_FOOTER];
	struct vhd_header h;
	struct err e;

	(void)state;
	put_footer(b, 4, "win ", MIB(5));
	assert_int_equal(vhd_header_footer(b, &h, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "differencing"));
}

static struct image *open_vhd(struct fake_image *f)
{
	const struct format_opts opts = { 0 };
	struct image *img = NULL;
	struct err e;

	if (format_open(&f->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_string_equal(img->ops->name, "vhd");
	return img;
}

static void fixed_disk_is_the_file_without_its_footer(void **state)
{
	uint8_t *file = calloc(1, 100 * 512 + VHD_FOOTER);
	struct image *img;
	uint8_t buf[1000];

	(void)state;
	assert_non_null(file);
	for (size_t i = 0; i < (size_t)100 * 512; i++) {
		file[i] = fake_byte(1, i);
	}
	put_footer(file + (size_t)100 * 512, 2, "win ", (uint64_t)100 * 512);
	img = open_vhd(fake_image_from(file, 100 * 512 + VHD_FOOTER, "file"));
	free(file);
	assert_int_equal(img->size, 100 * 512);
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 50000, NULL), 0);
	assert_true(fake_matches(buf, 1, 50000, sizeof(buf)));
	image_close(img);
}

static void dynamic_disk_has_a_bitmap_before_each_block(void **state)
{
	uint8_t *file = calloc(1, MIB(1));
	uint8_t buf[8192];
	struct image *img;
	struct err e;

	(void)state;
	assert_non_null(file);
	for (size_t i = 4096; i < MIB(1); i++) {
		file[i] = fake_byte(1, i);
	}
	put_footer(file, 3, "win ", 4 * 4096);
	memcpy(file + 512, "cxsparse", 8);
	store_be64(file + 512 + 16, 2048);
	store_be32(file + 512 + 28, 4);
	store_be32(file + 512 + 32, 4096);
	put_sum(file + 512, VHD_DYNAMIC, 36);
	store_be32(file + 2048, 16);
	store_be32(file + 2052, UINT32_MAX);
	store_be32(file + 2056, 40);
	store_be32(file + 2060, 0xfffffffe);
	img = open_vhd(fake_image_from(file, MIB(1), "file"));
	free(file);
	assert_int_equal(image_read_at(img, buf, 8192, 0, NULL), 0);
	assert_true(fake_matches(buf, 1, 16 * 512 + 512, 4096));
	assert_true(is_zero(buf + 4096, 4096));
	assert_int_equal(image_read_at(img, buf, 100, 8192 + 50, NULL), 0);
	assert_true(fake_matches(buf, 1, 40 * 512 + 512 + 50, 100));
	assert_int_equal(image_read_at(img, buf, 1, 3 * 4096, &e), -EBADMSG);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_is_the_one_that_the_creator_means),
		cmocka_unit_test(checksums_are_checked),
		cmocka_unit_test(differencing_disks_are_refused_by_name),
		cmocka_unit_test(fixed_disk_is_the_file_without_its_footer),
		cmocka_unit_test(dynamic_disk_has_a_bitmap_before_each_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
