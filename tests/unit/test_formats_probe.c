/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/format.h"
#include "tests/unit/fake_image.h"

/* An image of @size zero bytes with @n bytes at @at. */
static struct image *image_with(uint64_t size, size_t at, const void *bytes, size_t n)
{
	uint8_t *data = calloc(1, size + 1);
	struct image *img;

	assert_non_null(data);
	memcpy(data + at, bytes, n);
	img = &fake_image_from(data, size, NULL)->img;
	free(data);
	return img;
}

static void formats_are_recognised_by_their_first_bytes(void **state)
{
	static const struct {
		const char *name;
		size_t at;
		size_t n;
		const char *bytes;
	} cases[] = {
		{ "qcow2", 0, 8, "QFI\xfb\0\0\0\3" },
		{ "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
		{ "qed", 0, 4, "QED\0" },
		{ "vmdk", 0, 4, "KDMV" },
		{ "vmdk", 0, 4, "COWD" },
		{ "vmdk", 0, 21, "# Disk DescriptorFile" },
		{ "vmdk", 0, 27, "# a comment\r\n\n  \nversion=1\n" },
		{ "raw", 0, 22, "# a comment\nversion=9\n" },
		{ "raw", 0, 10, "version=1\n" },
		{ "vhdx", 0, 8, "vhdxfile" },
		{ "vhd", 0, 8, "conectix" },
		{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
		{ "parallels", 0, 16, "WithouFreSpacExt" },
		{ "gzip", 0, 3, "\x1f\x8b\x08" },
		{ "xz", 0, 6,
			"\xfd"
			"7zXZ\0" },
		{ "zstd", 0, 4, "\x28\xb5\x2f\xfd" },
		{ "zstd", 0, 4, "\x5e\x2a\x4d\x18" },
		{ "bzip2", 0, 10, "BZh9\x31\x41\x59\x26\x53\x59" },
		{ "lzma", 0, 14, "\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0" },
		{ "lz4", 0, 4, "\x04\x22\x4d\x18" },
		{ "zip", 0, 4, "PK\3\4" },
		{ "7z", 0, 6, "7z\xbc\xaf\x27\x1c" },
		{ "html", 0, 15, "<!DOCTYPE html>" },
		{ "html", 0, 9, "\r\n <HTML>" },
		{ "html", 0, 9, "\xef\xbb\xbf<html>" },
		{ "xml", 0, 5, "<?xml" },
		/* Near misses are disks. */
		{ "raw", 0, 8, "BZh9\x31\x41\x59\x26" },
		{ "raw", 0, 14, "\x5d\0\0\x81\0\xff\xff\xff\xff\xff\xff\xff\xff\0" },
		{ "raw", 257, 6, "ustar\0" },
		{ "raw", 0, 6, "LUKS\xba\xbe" },
		{ "raw", 510, 2, "\x55\xaa" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct image *img = image_with(8192, cases[i].at, cases[i].bytes, cases[i].n);
		const char *name = NULL;

		assert_int_equal(format_probe(img, &name, NULL), 0);
		assert_string_equal(name, cases[i].name);
		image_close(img);
	}
}

static void tar_is_recognised_with_a_true_checksum(void **state)
{
	static const uint8_t magic[8] = { 'u', 's', 't', 'a', 'r', 0, '0', '0' };
	uint8_t head[512] = "disk.img";
	const char *name = NULL;
	unsigned int sum = 0;
	struct image *img;

	(void)state;
	memcpy(head + 257, magic, sizeof(magic));
	memset(head + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(head); i++) {
		sum += head[i];
	}
	snprintf((char *)head + 148, 7, "%06o", sum);
	img = image_with(10240, 0, head, sizeof(head));
	assert_int_equal(format_probe(img, &name, NULL), 0);
	assert_string_equal(name, "tar");
	image_close(img);
}

static void fixed_vhd_is_recognised_by_its_footer(void **state)
{
	struct image *img = image_with(MIB(1) + 512, MIB(1), "conectix", 8);
	const char *name = NULL;

	(void)state;
	assert_int_equal(format_probe(img, &name, NULL), 0);
	assert_string_equal(name, "vhd");
	image_close(img);
}

static void recognised_but_unreadable_formats_are_refused_by_name(void **state)
{
	struct image *img = image_with(8192, 0, "7z\xbc\xaf\x27\x1c", 6);
	const struct format_opts opts = { 0 };
	struct image *top = NULL;
	struct err e;

	(void)state;
	assert_int_equal(format_open(img, &opts, &top, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "7z"));
	assert_null(top);
	image_close(img);
}

static void web_page_is_no_disk_unless_the_user_insists(void **state)
{
	static const char page[] = "<!DOCTYPE html><html><body>Please log in</body></html>";
	struct image *img = image_with(2048, 0, page, sizeof(page));
	struct format_opts opts = { 0 };
	struct image *top = NULL;
	char buf[sizeof(page)];
	struct err e;

	(void)state;
	assert_int_equal(format_open(img, &opts, &top, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "web page"));
	opts.format = "raw";
	assert_int_equal(format_open(img, &opts, &top, &e), 0);
	assert_int_equal(top->size, 2048);
	assert_int_equal(image_read_at(top, buf, sizeof(buf), 0, &e), 0);
	assert_string_equal(buf, page);
	image_close(top);
}

static void too_small_a_file_is_no_disk_unless_the_user_insists(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 511 };
	struct format_opts opts = { 0 };
	struct image *top = NULL;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct image *img = image_with(sizes[i], 0, "", 0);

		opts.format = NULL;
		assert_int_equal(format_open(img, &opts, &top, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "too small"));
		opts.format = "raw";
		assert_int_equal(format_open(img, &opts, &top, &e), 0);
		assert_int_equal(top->size, sizes[i]);
		image_close(top);
	}
}

static void raw_disk_is_the_image_below(void **state)
{
	struct image *img = &fake_image_new(100000, 7, "the-id")->img;
	const struct format_opts opts = { 0 };
	struct image *top = NULL;
	uint8_t buf[1000];
	struct extent x;

	(void)state;
	assert_int_equal(format_open(img, &opts, &top, NULL), 0);
	assert_string_equal(top->ops->name, "raw");
	assert_string_equal(top->id, "the-id");
	assert_int_equal(image_read_at(top, buf, sizeof(buf), 99000, NULL), 0);
	assert_true(fake_matches(buf, 7, 99000, sizeof(buf)));
	assert_int_equal(image_extent_at(top, 5000, &x, NULL), 0);
	assert_int_equal(x.host, 5000);
	assert_int_equal(x.length, 95000);
	assert_false(x.zero);
	image_close(top);
}

static void unknown_format_names_are_refused(void **state)
{
	struct image *img = &fake_image_new(100000, 7, NULL)->img;
	const struct format_opts opts = { .format = "floppy" };
	struct image *top = NULL;
	struct err e;

	(void)state;
	assert_true(format_is_known("raw"));
	assert_false(format_is_known("floppy"));
	assert_false(format_is_known("bzip2"));
	assert_int_equal(format_open(img, &opts, &top, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "floppy"));
	assert_non_null(strstr(format_names(), "raw"));
	image_close(img);
}

static void failing_read_of_the_head_fails_the_open(void **state)
{
	struct fake_image *f = fake_image_new(100000, 7, NULL);
	const struct format_opts opts = { 0 };
	struct image *top = NULL;
	struct err e;

	(void)state;
	f->fail_next = 1;
	f->fail_code = -ETIMEDOUT;
	assert_int_equal(format_open(&f->img, &opts, &top, &e), -ETIMEDOUT);
	image_close(&f->img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_are_recognised_by_their_first_bytes),
		cmocka_unit_test(tar_is_recognised_with_a_true_checksum),
		cmocka_unit_test(fixed_vhd_is_recognised_by_its_footer),
		cmocka_unit_test(recognised_but_unreadable_formats_are_refused_by_name),
		cmocka_unit_test(web_page_is_no_disk_unless_the_user_insists),
		cmocka_unit_test(too_small_a_file_is_no_disk_unless_the_user_insists),
		cmocka_unit_test(raw_disk_is_the_image_below),
		cmocka_unit_test(unknown_format_names_are_refused),
		cmocka_unit_test(failing_read_of_the_head_fails_the_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
