/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/digest.h"
#include "sources/source.h"
#include "tests/unit/fake_image.h"

#define SIZE  MIB(40)
#define PIECE KIB(256)

/* "abc", FIPS 180-2 and RFC 1321. */
#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_SHA1   "a9993e364706816aba3e25717850c26c9cd0d89d"
#define ABC_MD5    "900150983cd24fb0d6963f7d28e17f72"

static int verify_abc(const char *checksum)
{
	struct image *img;
	int r;

	assert_int_equal(
		source_digest_open(&fake_image_from("abc", 3, NULL)->img, checksum, &img, NULL), 0);
	r = source_digest_finish(img, NULL);
	image_close(img);
	return r;
}

static void published_values_match(void **state)
{
	(void)state;
	assert_int_equal(verify_abc("sha256:" ABC_SHA256), 0);
	assert_int_equal(verify_abc("SHA1:" ABC_SHA1), 0);
	assert_int_equal(verify_abc("md5:900150983CD24FB0D6963F7D28E17F72"), 0);
	assert_int_equal(verify_abc("md5:900150983cd24fb0d6963f7d28e17f73"), -ENOKEY);
}

static void what_is_no_checksum_is_refused(void **state)
{
	static const char *const wrong[] = { "", "sha256", "sha256:", "sha256:00", "md4:" ABC_MD5,
		"md5:" ABC_MD5 "00", "md5:g00150983cd24fb0d6963f7d28e17f72", ABC_SHA256,
		"sha25:" ABC_SHA256 };
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(source_digest_check(wrong[i], &e), -EINVAL);
	}
	assert_int_equal(source_digest_check("sha256:" ABC_SHA256, &e), 0);
}

/* The digest of the fake image, as one finds it that reads it from beginning to end. */
static void right_checksum(char *ret, size_t room)
{
	struct image *img;
	struct err e;
	const char *at;

	assert_int_equal(source_digest_open(&fake_image_new(SIZE, 3, NULL)->img,
				 "sha256:" ABC_SHA256, &img, NULL),
		0);
	assert_int_equal(source_digest_finish(img, &e), -ENOKEY);
	at = strstr(e.text, "SHA256 ");
	assert_non_null(at);
	snprintf(ret, room, "sha256:%.64s", at + 7);
	image_close(img);
}

/* Reads all pieces, jumping by @step, and finishes. Returns how many bytes that fetched. */
static uint64_t read_by(uint64_t step)
{
	struct fake_image *fake = fake_image_new(SIZE, 3, NULL);
	uint8_t *buf = malloc(PIECE);
	uint64_t pieces = SIZE / PIECE;
	struct image *img;
	uint64_t bytes;
	char text[80];

	assert_non_null(buf);
	right_checksum(text, sizeof(text));
	assert_int_equal(source_digest_open(&fake->img, text, &img, NULL), 0);
	for (uint64_t i = 0; i < pieces; i++) {
		uint64_t at = i * step % pieces * PIECE;

		assert_int_equal(image_read_at(img, buf, PIECE, at, NULL), 0);
		assert_true(fake_matches(buf, 3, at, PIECE));
	}
	assert_int_equal(source_digest_finish(img, NULL), 0);
	bytes = fake->bytes;
	image_close(img);
	free(buf);
	return bytes;
}

static void in_order_nothing_is_fetched_twice(void **state)
{
	(void)state;
	assert_int_equal(read_by(1), SIZE);
}

static void any_order_gives_the_same_digest(void **state)
{
	static const uint64_t steps[] = { 3, 7, 63, 81, 159 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		assert_true(read_by(steps[i]) <= 2 * SIZE);
	}
}

static void what_was_read_wrong_is_noticed(void **state)
{
	struct image *img;
	uint8_t buf[4096];
	char text[80];

	(void)state;
	right_checksum(text, sizeof(text));
	assert_int_equal(
		source_digest_open(&fake_image_new(SIZE, 4, NULL)->img, text, &img, NULL), 0);
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 0, NULL), 0);
	assert_int_equal(source_digest_finish(img, NULL), -ENOKEY);
	image_close(img);
}

static void a_source_that_fails_is_told_as_such(void **state)
{
	struct fake_image *fake = fake_image_new(SIZE, 3, NULL);
	struct image *img;
	char text[80];

	(void)state;
	right_checksum(text, sizeof(text));
	assert_int_equal(source_digest_open(&fake->img, text, &img, NULL), 0);
	fake->fail_code = -ETIMEDOUT;
	fake->fail_after = MIB(1);
	fake->fail_next = 1;
	assert_int_equal(source_digest_finish(img, NULL), -ETIMEDOUT);
	assert_int_equal(source_digest_finish(img, NULL), 0);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_values_match),
		cmocka_unit_test(what_is_no_checksum_is_refused),
		cmocka_unit_test(in_order_nothing_is_fetched_twice),
		cmocka_unit_test(any_order_gives_the_same_digest),
		cmocka_unit_test(what_was_read_wrong_is_noticed),
		cmocka_unit_test(a_source_that_fails_is_told_as_such),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
