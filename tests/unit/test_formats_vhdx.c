/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, metadata and the log; whole images are for the integration tests. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/vhdx_header.h"
#include "formats/vhdx_log.h"
#include "tests/unit/fake_image.h"

#define LOG       MIB(1)
#define FILE_SIZE MIB(3)

static void crc_is_crc_32c(void **state)
{
	static const uint8_t digits[] = "0123456789";

	(void)state;
	/* RFC 3720, appendix B.4: 32 bytes of zeros; and the check value of the polynomial. */
	assert_int_equal(
		~vhdx_header_crc_more(UINT32_MAX, (const uint8_t[32]){ 0 }, 32), 0x8a9136aaU);
	assert_int_equal(~vhdx_header_crc_more(UINT32_MAX, digits + 1, 9), 0xe3069283U);
}

static void put_header(uint8_t *b, uint64_t sequence)
{
	memset(b, 0, VHDX_HEADER_SIZE);
	memcpy(b, "head", 4);
	store_le64(b + 8, sequence);
	store_le32(b + 64, 1U << 16);
	store_le32(b + 68, (uint32_t)MIB(1));
	store_le64(b + 72, LOG + sequence);
	store_le32(b + 4, vhdx_header_crc(b, VHDX_HEADER_SIZE, 4));
}

static void newest_valid_header_is_chosen(void **state)
{
	static uint8_t a[VHDX_HEADER_SIZE];
	static uint8_t b[VHDX_HEADER_SIZE];
	struct vhdx_header h;

	(void)state;
	put_header(a, 7);
	put_header(b, 8);
	assert_int_equal(vhdx_header_choose(a, b, &h, NULL), 0);
	assert_int_equal(h.log_offset, LOG + 8);
	assert_false(h.dirty);
	assert_int_equal(vhdx_header_choose(b, a, &h, NULL), 0);
	assert_int_equal(h.log_offset, LOG + 8);
	b[4000] = 1;
	assert_int_equal(vhdx_header_choose(a, b, &h, NULL), 0);
	assert_int_equal(h.log_offset, LOG + 7);
	a[4000] = 1;
	assert_int_equal(vhdx_header_choose(a, b, &h, NULL), -EBADMSG);
	put_header(a, 0);
	assert_int_equal(vhdx_header_choose(a, b, &h, NULL), 0);
}

static void bitmaps_take_part_in_the_count_of_entries(void **state)
{
	uint8_t items[VHDX_ITEMS][8] = { 0 };
	struct vhdx_metadata m;

	(void)state;
	store_le32(items[VHDX_ITEM_PARAMETERS], (uint32_t)MIB(256));
	store_le32(items[VHDX_ITEM_SECTOR], 512);
	store_le64(items[VHDX_ITEM_SIZE], GIB(4));
	assert_int_equal(vhdx_header_metadata((const uint8_t(*)[8])items, &m, NULL), 0);
	assert_int_equal(m.chunk, 16);
	assert_int_equal(m.bat_entries, 16);
	store_le64(items[VHDX_ITEM_SIZE], GIB(4) + 512);
	assert_int_equal(vhdx_header_metadata((const uint8_t(*)[8])items, &m, NULL), 0);
	assert_int_equal(m.bat_entries, 18);
	store_le32(items[VHDX_ITEM_PARAMETERS] + 4, 2);
	assert_int_equal(vhdx_header_metadata((const uint8_t(*)[8])items, &m, NULL), -ENOTSUP);
}

/* One entry that zeroes 8192 bytes at 2 MiB and replaces the second half of them. */
static struct fake_image *make_dirty(const struct vhdx_header *h)
{
	uint8_t *file = malloc(FILE_SIZE);
	uint8_t *entry = file + LOG;
	struct fake_image *f;

	assert_non_null(file);
	for (size_t i = 0; i < FILE_SIZE; i++) {
		file[i] = fake_byte(1, i);
	}
	memset(entry, 0, 8192);
	memcpy(entry, "loge", 4);
	store_le32(entry + 8, 8192);
	store_le64(entry + 16, 9);
	store_le32(entry + 24, 2);
	memcpy(entry + 32, h->log_guid, VHDX_GUID);
	store_le64(entry + 48, FILE_SIZE);
	store_le64(entry + 56, FILE_SIZE + 4096);
	memcpy(entry + 64, "zero", 4);
	store_le64(entry + 72, 8192);
	store_le64(entry + 80, MIB(2));
	store_le64(entry + 88, 9);
	memcpy(entry + 96, "descTAILLEADLEAD", 16);
	store_le64(entry + 112, MIB(2) + 4096);
	store_le64(entry + 120, 9);
	memcpy(entry + 4096, "data", 4);
	memset(entry + 4104, 'm', 4084);
	store_le32(entry + 8188, 9);
	store_le32(entry + 4, vhdx_header_crc(entry, 8192, 4));
	f = fake_image_from(file, FILE_SIZE, "file");
	free(file);
	return f;
}

static void log_is_laid_over_the_file(void **state)
{
	const struct vhdx_header h = {
		.dirty = true,
		.log_guid = { 5 },
		.log_offset = LOG,
		.log_length = MIB(1),
	};
	struct fake_image *f = make_dirty(&h);
	struct image *img = NULL;
	uint8_t buf[12288];
	struct extent x;
	struct err e;

	(void)state;
	if (vhdx_log_open(&f->img, &h, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_int_equal(img->size, FILE_SIZE + 4096);
	assert_int_equal(image_read_at(img, buf, 12288, MIB(2) - 4096, NULL), 0);
	assert_true(fake_matches(buf, 1, MIB(2) - 4096, 4096));
	assert_true(is_zero(buf + 4096, 4096));
	assert_memory_equal(buf + 8192, "LEADLEADmmm", 11);
	assert_memory_equal(buf + 12288 - 5, "mTAIL", 5);
	assert_int_equal(image_read_at(img, buf, 3, MIB(2) + 4096 + 6, NULL), 0);
	assert_memory_equal(buf, "ADm", 3);
	assert_int_equal(image_read_at(img, buf, 4096, FILE_SIZE - 10, NULL), 0);
	assert_true(fake_matches(buf, 1, FILE_SIZE - 10, 10));
	assert_true(is_zero(buf + 10, 4086));
	assert_int_equal(image_extent_at(img, FILE_SIZE, &x, NULL), 0);
	assert_true(x.zero);
	assert_int_equal(image_extent_at(img, MIB(2), &x, NULL), 0);
	assert_false(x.zero);
	image_close(img); /* the file is only lent */
	image_close(&f->img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_is_crc_32c),
		cmocka_unit_test(newest_valid_header_is_chosen),
		cmocka_unit_test(bitmaps_take_part_in_the_count_of_entries),
		cmocka_unit_test(log_is_laid_over_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
