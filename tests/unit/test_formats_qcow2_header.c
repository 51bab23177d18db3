/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/qcow2_header.h"

#define FILE_SIZE MIB(1)

/* A valid header of version 3: clusters of 64 KiB, a disk of 8 MiB, its L1 table at 192 KiB. */
static void valid_header(uint8_t buf[QCOW2_HEAD])
{
	memset(buf, 0, QCOW2_HEAD);
	store_be32(buf, 0x514649fb);
	store_be32(buf + 4, 3);
	store_be32(buf + 20, 16);
	store_be64(buf + 24, MIB(8));
	store_be32(buf + 36, 1);
	store_be64(buf + 40, KIB(192));
	store_be32(buf + 96, 4);
	store_be32(buf + 100, 112);
}

static int parse(const uint8_t *buf, struct qcow2_header *h, struct err *e)
{
	return qcow2_header_parse(buf, QCOW2_HEAD, FILE_SIZE, h, e);
}

static void valid_header_is_understood(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	valid_header(buf);
	store_be64(buf + 8, 1000);
	store_be32(buf + 16, 8);
	memcpy(buf + 1000, "base.raw", 8);
	store_be32(buf + 112, 0xe2792aca);
	store_be32(buf + 116, 3);
	memcpy(buf + 120, "raw", 3);
	assert_int_equal(parse(buf, &h, NULL), 0);
	assert_int_equal(h.version, 3);
	assert_int_equal(h.cluster_bits, 16);
	assert_int_equal(h.size, MIB(8));
	assert_int_equal(h.l1_offset, KIB(192));
	assert_int_equal(h.l1_entries, 1);
	assert_int_equal(h.compression, QCOW2_ZLIB);
	assert_false(h.extended_l2 || h.dirty || h.corrupt);
	assert_string_equal(h.backing, "base.raw");
	assert_string_equal(h.backing_format, "raw");
}

static void version_2_has_no_feature_words(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	valid_header(buf);
	store_be32(buf + 4, 2);
	store_be64(buf + 72, 0x0537be7800000018ULL); /* an unknown extension, not feature bits */
	assert_int_equal(parse(buf, &h, NULL), 0);
	assert_int_equal(h.version, 2);
}

static void features_are_told(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	valid_header(buf);
	store_be64(buf + 72, 1 | 2 | 8 | 16);
	buf[104] = 1;
	assert_int_equal(parse(buf, &h, NULL), 0);
	assert_true(h.dirty && h.corrupt && h.extended_l2);
	assert_int_equal(h.compression, QCOW2_ZSTD);
}

static void longer_header_asks_for_more(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	valid_header(buf);
	store_be32(buf + 20, 21);
	store_be64(buf + 40, MIB(2));
	store_be32(buf + 112, 0x12345678);
	store_be32(buf + 116, 100000);
	assert_int_equal(qcow2_header_parse(buf, QCOW2_HEAD, MIB(8), &h, NULL), MIB(2));
	/* In a file that ends before, it cannot be had. */
	assert_int_equal(qcow2_header_parse(buf, QCOW2_HEAD, QCOW2_HEAD, &h, NULL), -EBADMSG);
	store_be64(buf + 8, 100000);
	store_be32(buf + 16, 8);
	store_be32(buf + 112, 0);
	assert_int_equal(qcow2_header_parse(buf, QCOW2_HEAD, MIB(8), &h, NULL), MIB(2));
}

static void header_at_its_shortest_is_understood(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	valid_header(buf);
	store_be64(buf + 24, 0);
	store_be32(buf + 36, 0);
	store_be32(buf + 100, 104);
	assert_int_equal(qcow2_header_parse(buf, 104, 104, &h, NULL), 0);
	assert_int_equal(h.size, 0);
	assert_int_equal(h.l1_entries, 0);
	for (size_t n = 0; n < 104; n++) {
		assert_int_equal(qcow2_header_parse(buf, n, n, &h, NULL), -EBADMSG);
	}
}

static void nothing_is_changed_by_a_refusal(void **state)
{
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h = { .version = 77 };
	struct err e = { 0 };

	(void)state;
	valid_header(buf);
	store_be64(buf + 72, 1ULL << 40);
	assert_int_equal(parse(buf, &h, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "bit 40"));
	assert_int_equal(h.version, 77);
}

static void l1_table_must_fit_the_disk_and_the_file(void **state)
{
	static const struct {
		uint64_t size;
		uint64_t offset;
		uint32_t entries;
		int result;
	} cases[] = {
		{ MIB(512), KIB(192), 1, 0 },
		{ MIB(512) + 1, KIB(192), 1, -EBADMSG },
		{ MIB(512) + 1, KIB(192), 2, 0 },
		{ MIB(512), FILE_SIZE - KIB(64), 1, 0 },
		{ MIB(512), FILE_SIZE, 1, -EBADMSG },
		{ MIB(512), 0, 1, -EBADMSG },
		{ 0, 0, 0, 0 },
		{ 0, 512, 0, -EBADMSG },
		{ 0, 0, 0x400001, -EBADMSG },
		{ GIB(512) * 8192, FILE_SIZE - KIB(64), 0x400000, -EBADMSG },
		{ INT64_MAX, KIB(192), 0x400000, -EBADMSG },
		{ UINT64_MAX, KIB(192), 0x400000, -EBADMSG },
	};
	uint8_t buf[QCOW2_HEAD];
	struct qcow2_header h;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		valid_header(buf);
		store_be64(buf + 24, cases[i].size);
		store_be64(buf + 40, cases[i].offset);
		store_be32(buf + 36, cases[i].entries);
		assert_int_equal(parse(buf, &h, NULL), cases[i].result);
	}
}

static void names_for_messages_hold_no_secrets(void **state)
{
	static const char *const cases[][2] = {
		{ "base.raw", "base.raw" },
		{ "a/b@c?d", "a/b@c?d" },
		{ "https://me:pw@host:80/x.raw?sig=1", "https://host:80/x.raw" },
		{ "https://me:p@w@host/x#y", "https://host/x" },
		{ "https://host/a@b", "https://host/a@b" },
		{ "json:{\"password\":\"x\"}", "json:{...}" },
		{ "two\nlines\x7f\t", "two?lines??" },
		{ "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x92\xbe",
			"\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x92\xbe" },
		{ "\xff\xc3", "??" },
		{ "\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ????" },
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		qcow2_header_safe_name(cases[i][0], out, sizeof(out));
		assert_string_equal(out, cases[i][1]);
	}
	qcow2_header_safe_name("base.raw", out, 5);
	assert_string_equal(out, "base");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_header_is_understood),
		cmocka_unit_test(version_2_has_no_feature_words),
		cmocka_unit_test(features_are_told),
		cmocka_unit_test(longer_header_asks_for_more),
		cmocka_unit_test(header_at_its_shortest_is_understood),
		cmocka_unit_test(nothing_is_changed_by_a_refusal),
		cmocka_unit_test(l1_table_must_fit_the_disk_and_the_file),
		cmocka_unit_test(names_for_messages_hold_no_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
