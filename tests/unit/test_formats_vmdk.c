/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and descriptors, and what a sparse extent asks of the image below. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/format.h"
#include "formats/vmdk_descriptor.h"
#include "formats/vmdk_extents.h"
#include "formats/vmdk_header.h"
#include "tests/unit/fake_image.h"

#define GRAIN     4096U
#define DIRECTORY 512U
#define TABLE     65536U /* of the first 2 MiB; on a page of its own */
#define DATA      131072U
#define FILE_SIZE MIB(1)

/* No strings: nothing ends them. */
static const uint8_t magic[] = { 'K', 'D', 'M', 'V' };
static const uint8_t old_magic[] = { 'C', 'O', 'W', 'D' };
static const uint8_t newlines[] = { '\n', ' ', '\r', '\n' };

static void put_header(uint8_t *b, uint64_t sectors, uint64_t directory)
{
	memset(b, 0, VMDK_SECTOR);
	memcpy(b, magic, sizeof(magic));
	store_le32(b + 4, 1);
	store_le32(b + 8, 1);
	store_le64(b + 12, sectors);
	store_le64(b + 20, GRAIN / VMDK_SECTOR);
	store_le32(b + 44, 512);
	store_le64(b + 56, directory);
	memcpy(b + 73, newlines, sizeof(newlines));
}

/* A disk of 4 MiB: 16 grains at 0, one more at 40960; nothing in the second 2 MiB. */
static struct fake_image *make_file(void)
{
	uint8_t *file = calloc(1, FILE_SIZE);
	struct fake_image *f;

	assert_non_null(file);
	put_header(file, MIB(4) / VMDK_SECTOR, DIRECTORY / VMDK_SECTOR);
	store_le32(file + DIRECTORY, TABLE / VMDK_SECTOR);
	for (uint32_t i = 0; i < 16; i++) {
		store_le32(file + TABLE + (size_t)i * 4, (DATA + i * GRAIN) / VMDK_SECTOR);
	}
	for (size_t i = 0; i < 16 * (size_t)GRAIN; i++) {
		file[DATA + i] = fake_byte(1, i);
	}
	store_le32(file + TABLE + 32 * 4, (uint32_t)(FILE_SIZE / VMDK_SECTOR));
	f = fake_image_from(file, FILE_SIZE, "file");
	free(file);
	return f;
}

static struct image *open_vmdk(struct fake_image *f)
{
	const struct format_opts opts = { 0 };
	struct image *img = NULL;
	struct err e;

	if (format_open(&f->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_string_equal(img->ops->name, "vmdk");
	return img;
}

static void a_contiguous_run_is_read_at_once(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_vmdk(f);
	uint8_t buf[16 * GRAIN];
	unsigned int before;

	(void)state;
	assert_int_equal(img->size, MIB(4));
	assert_int_equal(image_read_at(img, buf, 1, 0, NULL), 0);
	before = f->transfers;
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 0, NULL), 0);
	assert_true(fake_matches(buf, 1, 0, sizeof(buf)));
	assert_int_equal(f->transfers - before, 1);
	image_close(img);
}

static void tables_are_read_only_where_somebody_reads(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_vmdk(f);
	unsigned int before = f->transfers;
	uint8_t buf[512];

	(void)state;
	assert_int_equal(image_read_at(img, buf, sizeof(buf), MIB(3), NULL), 0);
	assert_true(is_zero(buf, sizeof(buf)));
	assert_int_equal(f->transfers, before);
	image_close(img);
}

static void extents_tell_data_from_holes(void **state)
{
	struct image *img = open_vmdk(make_file());
	uint64_t allocated = 0;
	struct extent x;

	(void)state;
	assert_int_equal(image_extent_at(img, 0, &x, NULL), 0);
	assert_false(x.zero);
	assert_int_equal(x.length, 16 * GRAIN);
	assert_int_equal(x.host, DATA);
	assert_int_equal(image_extent_at(img, 16 * GRAIN, &x, NULL), 0);
	assert_true(x.zero && !x.allocated);
	assert_int_equal(x.length, 16 * GRAIN);
	assert_int_equal(image_extent_at(img, MIB(2), &x, NULL), 0);
	assert_true(x.zero);
	assert_int_equal(x.length, MIB(2));
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_int_equal(allocated, 17 * GRAIN); /* what is broken counts as data */
	image_close(img);
}

static void data_behind_the_end_of_the_file_is_an_error_and_no_zeros(void **state)
{
	struct image *img = open_vmdk(make_file());
	struct extent x;
	struct err e;
	uint8_t b;

	(void)state;
	assert_int_equal(image_read_at(img, &b, 1, 32 * GRAIN, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "beyond the end"));
	assert_int_equal(image_extent_at(img, 32 * GRAIN, &x, &e), -EBADMSG);
	image_close(img);
}

static void failing_reads_of_tables_are_told_and_tried_anew(void **state)
{
	struct fake_image *f = make_file();
	struct image *img = open_vmdk(f);
	struct err e;
	uint8_t b;

	(void)state;
	f->fail_next = 1;
	f->fail_code = -ETIMEDOUT;
	assert_int_equal(image_read_at(img, &b, 1, 5, &e), -ETIMEDOUT);
	assert_int_equal(image_read_at(img, &b, 1, 5, &e), 0);
	assert_int_equal(b, fake_byte(1, 5));
	image_close(img);
}

static void headers_are_checked(void **state)
{
	uint8_t b[VMDK_SECTOR];
	struct vmdk_header h;
	struct err e;

	(void)state;
	put_header(b, 8, 1);
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), 0);
	assert_int_equal(h.size, 4096);
	assert_int_equal(h.tables, 1);
	assert_int_equal(vmdk_header_parse(b, 100, MIB(1), &h, &e), -EBADMSG);
	put_header(b, UINT64_MAX, 1);
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), -EBADMSG);
	put_header(b, UINT64_MAX / 1024, 1);
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), -EBADMSG);
	put_header(b, 8, MIB(1) / VMDK_SECTOR);
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), -EBADMSG);
	put_header(b, 8, UINT64_MAX);
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), 0);
	assert_true(h.footer);
	memcpy(b, old_magic, sizeof(old_magic));
	assert_int_equal(vmdk_header_parse(b, sizeof(b), MIB(1), &h, &e), -ENOTSUP);
}

static void descriptor_lists_extents_in_order(void **state)
{
	static const char text[] = "# Disk DescriptorFile\r\nversion=1\r\n"
				   "CREATETYPE = \"twoGbMaxExtentFlat\"\r\nparentCID=ffffffff\r\n"
				   "RW 4 FLAT \"a b.vmdk\" 2\nRDONLY 8 ZERO\n  RW 1 SPARSE \"c\"";
	struct vmdk_descriptor d;

	(void)state;
	assert_int_equal(vmdk_descriptor_parse(text, sizeof(text), true, &d, NULL), 0);
	assert_int_equal(d.count, 3);
	assert_int_equal(d.size, 13 * 512);
	assert_string_equal(d.extents[0].name, "a b.vmdk");
	assert_int_equal(d.extents[0].offset, 1024);
	assert_int_equal(d.extents[1].kind, VMDK_ZEROS);
	assert_int_equal(d.extents[2].kind, VMDK_SPARSE);
	vmdk_descriptor_clear(&d);
	assert_int_equal(vmdk_descriptor_parse(text, sizeof(text), false, &d, NULL), 0);
	assert_int_equal(d.count, 0);
	vmdk_descriptor_clear(&d);
}

static void descriptor_of_a_child_is_refused_by_name(void **state)
{
	static const char text[] = "parentCID=0000abcd\nparentFileNameHint=\"mother\x01.vmdk\"\n";
	struct vmdk_descriptor d;
	struct err e;

	(void)state;
	assert_int_equal(vmdk_descriptor_parse(text, sizeof(text), false, &d, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "mother?.vmdk"));
	vmdk_descriptor_clear(&d);
}

static int give_extent(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	struct fake_image **files = ctx;

	(void)e;
	assert_string_equal(format, "raw");
	assert_int_equal(depth, 1);
	*ret = &files[strcmp(name, "b") == 0]->img;
	return 0;
}

static void count_up(void *ctx)
{
	++*(unsigned int *)ctx;
}

/* A disk of 12288 bytes: the first file "a", zeros, the second "b". */
static struct image *open_two(struct fake_image *files[2])
{
	static const char text[] = "# Disk DescriptorFile\nversion=1\n"
				   "createType=\"twoGbMaxExtentFlat\"\n"
				   "RW 8 FLAT \"a\" 0\nRW 8 ZERO\nRW 8 FLAT \"b\" 0\n";
	const struct format_opts opts = {
		.format = "vmdk", .open_backing = give_extent, .ctx = files
	};
	struct fake_image *descriptor = fake_image_from(text, sizeof(text) - 1, "text");
	struct image *img = NULL;
	struct err e;

	if (format_open(&descriptor->img, &opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void each_extent_may_withdraw_and_forget(void **state)
{
	struct fake_image *files[] = { fake_image_new(4096, 1, NULL),
		fake_image_new(4096, 2, NULL) };
	struct image *img = open_two(files);
	unsigned int told = 0;

	(void)state;
	image_listen(img, count_up, &told);
	for (unsigned int i = 0; i < ARRAY_SIZE(files); i++) {
		listener_tell(&files[i]->listener);
		assert_int_equal(told, i + 1);
	}
	image_forget(img);
	assert_int_equal(files[0]->forgets, 1);
	assert_int_equal(files[1]->forgets, 1);
	image_listen(img, NULL, NULL);
	listener_tell(&files[1]->listener);
	assert_int_equal(told, 2);
	image_close(img);
}

/* Where something goes wrong, it says in which of the files. */
static void an_extent_that_fails_is_named(void **state)
{
	struct fake_image *files[] = { fake_image_new(4096, 1, NULL),
		fake_image_new(4096, 2, NULL) };
	struct image *img = open_two(files);
	uint8_t buf[512];
	struct err e;

	(void)state;
	files[0]->fail_code = -EIO;
	files[1]->fail_code = -EBADMSG;
	files[0]->fail_next = files[1]->fail_next = 1;
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 8192, &e), -EBADMSG);
	assert_memory_equal(e.text, "extent file \"b\": ", 17);
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 0, &e), -EIO);
	assert_memory_equal(e.text, "extent file \"a\": ", 17);
	image_close(img);
}

static int prove_nothing(struct image *img, struct err *e)
{
	(void)img;
	return err_set(e, -EBADMSG, "it was damaged");
}

/* @name says whether the file has something to prove. */
static int give_proving_extent(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	static struct image_ops owing;
	struct image *img = &fake_image_new(4096, 1, NULL)->img;

	(void)ctx;
	(void)e;
	assert_string_equal(format, "raw");
	assert_int_equal(depth, 1);
	if (strcmp(name, "owes") == 0) {
		owing = *img->ops;
		owing.prove = prove_nothing;
		img->ops = &owing;
	}
	*ret = img;
	return 0;
}

#define TYPE "createType=\"twoGbMaxExtentFlat\"\n"

static struct image *open_extents(const char *text)
{
	const struct format_opts opts = { .open_backing = give_proving_extent };
	struct vmdk_descriptor d;
	struct image *img = NULL;

	assert_int_equal(vmdk_descriptor_parse(text, strlen(text), true, &d, NULL), 0);
	assert_int_equal(
		vmdk_extents_open(&fake_image_new(512, 2, NULL)->img, &opts, &d, &img, NULL), 0);
	vmdk_descriptor_clear(&d);
	return img;
}

static void extent_files_are_asked_for_proof(void **state)
{
	struct image *img = open_extents(TYPE "RW 8 FLAT \"a\" 0\nRW 8 ZERO\n");
	struct err e = { 0 };

	(void)state;
	assert_false(image_owes_proof(img));
	assert_int_equal(image_prove(img, NULL), 0);
	image_close(img);
	img = open_extents(TYPE "RW 8 FLAT \"a\" 0\nRW 8 ZERO\nRW 8 FLAT \"owes\" 0\n");
	assert_true(image_owes_proof(img));
	assert_int_equal(image_prove(img, &e), -EBADMSG);
	assert_string_equal(e.text, "extent file \"owes\": it was damaged");
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_contiguous_run_is_read_at_once),
		cmocka_unit_test(tables_are_read_only_where_somebody_reads),
		cmocka_unit_test(extents_tell_data_from_holes),
		cmocka_unit_test(data_behind_the_end_of_the_file_is_an_error_and_no_zeros),
		cmocka_unit_test(failing_reads_of_tables_are_told_and_tried_anew),
		cmocka_unit_test(headers_are_checked),
		cmocka_unit_test(descriptor_lists_extents_in_order),
		cmocka_unit_test(descriptor_of_a_child_is_refused_by_name),
		cmocka_unit_test(each_extent_may_withdraw_and_forget),
		cmocka_unit_test(an_extent_that_fails_is_named),
		cmocka_unit_test(extent_files_are_asked_for_proof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
