/* SPDX-License-Identifier: Apache-2.0 */
/* gzip files that are cut, flipped, or followed by something else: an error, or right bytes. */
#include "formats/gzip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/gzip_files.h"
#include "tests/unit/memory_limit.h"
#include "tests/unit/test.h"

#define SMALL 300000U

/* Reads all of a file that may be broken. What a member gave before its damage showed cannot be
 * judged; but no one gets to the end of wrong bytes. */
static bool reads_whole(const struct gz *z, struct blobs *blobs, const uint8_t *plain, size_t n)
{
	struct checker c = { .plain = plain, .len = n };
	struct err e = { 0 };
	struct image *img = NULL;
	int r = gzf_try_open(z, "gz-1", blobs, &img, NULL);

	if (r == 0) {
		r = image_stream_at(img, 0, img->size, gzf_sink, &c, &e);
		image_close(img);
		if (r == 0 && (c.wrong || c.next != n)) {
			fail_msg("wrong bytes and no error");
		}
		if (r < 0) {
			assert_int_equal(r, -EBADMSG);
			assert_non_null(strstr(e.text, "gzip: "));
		}
	}
	return r == 0;
}

static void a_cut_file_is_an_error(void **state)
{
	uint8_t *plain = gzf_plain(SMALL, 9);

	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		struct gz z = gzf_make(k, plain, SMALL);
		uint64_t random = 1000 + k;
		size_t whole = z.n;
		unsigned int read = 0;

		assert_true(reads_whole(&z, NULL, plain, SMALL));
		for (unsigned int i = 0; i < 100; i++) {
			z.n = i < 30 ? whole - 1 - i : gzf_random(&random) % whole;
			read += reads_whole(&z, NULL, plain, SMALL);
		}
		/* Padding may be cut, and the empty members at the end. */
		assert_true(read == 0 || k == PADDED || k == BGZF || k == MEMBERS);
		free(z.p);
	}
	free(plain);
}

static void a_flipped_bit_is_an_error_or_harmless(void **state)
{
	size_t n = 60000;
	uint8_t *plain = gzf_plain(n, 10);

	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		struct gz z = gzf_make(k, plain, n);
		uint64_t random = 2000 + k;
		unsigned int errors = 0;

		for (unsigned int i = 0; i < 1000; i++) {
			uint64_t bit = gzf_random(&random) % (z.n * 8);

			z.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
			errors += !reads_whole(&z, NULL, plain, n);
			z.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		/* Times, names and the like are nobody's business. */
		assert_true(errors > 800);
		free(z.p);
	}
	free(plain);
}

/* Who decodes with an index gets right bytes or none, at any place: they are held back until they
 * were compared with what the first pass saw. */
static void a_flipped_bit_under_an_index_never_gives_a_wrong_byte(void **state)
{
	static const enum kind kinds[] = { SINGLE, MEMBERS, BGZF };
	size_t n = MIB(9);
	uint8_t *plain = gzf_plain(n, 11);
	uint8_t *buf = malloc(65536);

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct gz z = gzf_make(kinds[k], plain, n);
		uint64_t random = 3000 + k;
		unsigned int errors = 0;
		struct fake_blobs b;
		struct image *img;

		fake_blobs_init(&b);
		img = gzf_open(&z, &b.blobs, NULL);
		gzf_stream_all(img, plain, n);
		image_close(img);
		for (unsigned int i = 0; i < 12; i++) {
			uint64_t bit = gzf_random(&random) % (z.n * 8);
			uint64_t near = min_u64(bit / 8 * n / z.n, n - 65536);

			z.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
			img = gzf_open(&z, &b.blobs, NULL);
			for (unsigned int j = 0; j < 2; j++) {
				uint64_t off = j ? near : gzf_random(&random) % (n - 65536);
				int r = image_read_at(img, buf, 65536, off, NULL);

				errors += r < 0;
				assert_true(r == 0 || r == -EBADMSG);
				if (r == 0) {
					assert_memory_equal(buf, plain + off, 65536);
				}
			}
			/* The index stays: it was not the first pass that failed. */
			z.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
			image_close(img);
		}
		assert_true(errors > 0);
		fake_blobs_clear(&b);
		free(z.p);
	}
	free(buf);
	free(plain);
}

/* A member whose checksum is wrong gives no more bytes once that is known, and no index. */
static void a_wrong_checksum_is_remembered(void **state)
{
	size_t n = MIB(5);
	uint8_t *plain = gzf_plain(n, 12);

	(void)state;
	for (size_t from_end = 1; from_end <= 8; from_end += 7) {
		struct gz z = gzf_make(SINGLE, plain, n);
		struct checker c = { .plain = plain, .len = n };
		struct err e = { 0 };
		struct fake_blobs b;
		struct image *img;
		uint8_t byte;

		fake_blobs_init(&b);
		z.p[z.n - from_end] ^= 1;
		img = gzf_open(&z, &b.blobs, NULL);
		assert_int_equal(image_stream_at(img, 0, img->size, gzf_sink, &c, &e), -EBADMSG);
		assert_non_null(strstr(e.text, from_end == 1 ? "length" : "CRC-32"));
		assert_int_equal(c.next, n);
		e.text[0] = '\0';
		assert_int_equal(image_read_at(img, &byte, 1, 5, &e), -EBADMSG);
		assert_non_null(strstr(e.text, from_end == 1 ? "length" : "CRC-32"));
		image_close(img);
		img = gzf_open(&z, &b.blobs, NULL);
		assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
		assert_int_equal(gzf_points(img), 1);
		image_close(img);
		fake_blobs_clear(&b);
		free(z.p);
	}
	free(plain);
}

/* Members of so many bytes or less are proven before they are shown. */
#define HELD 65536U

static struct gz members(const uint8_t *plain, const size_t *lens, size_t count)
{
	struct gz z = { 0 };

	for (size_t i = 0; i < count; i++) {
		gzf_member(&z, plain, lens[i], (struct member){ .level = 1 });
		plain += lens[i];
	}
	return z;
}

static void whatever_is_read_first_fails(const struct gz *z, uint64_t off)
{
	struct image *img = gzf_open(z, NULL, NULL);
	uint8_t buf[100];
	uint8_t untouched[sizeof(buf)];

	memset(buf, 0xa5, sizeof(buf));
	memset(untouched, 0xa5, sizeof(untouched));
	assert_int_equal(image_read_at(img, buf, sizeof(buf), off, NULL), -EBADMSG);
	assert_memory_equal(buf, untouched, sizeof(buf));
	image_close(img);
}

/* The second member is damaged: its last byte, or its trailer. */
static void check_second_member(struct gz *z, size_t at, const uint8_t *plain, const size_t *lens)
{
	struct checker c = { .plain = plain, .len = lens[0] + lens[1] };
	struct image *img;

	z->p[at] ^= 1;
	whatever_is_read_first_fails(z, lens[0]);
	whatever_is_read_first_fails(z, lens[0] + lens[1] / 2);
	whatever_is_read_first_fails(z, lens[0] + lens[1] - 100);
	img = gzf_open(z, NULL, NULL);
	assert_int_equal(image_stream_at(img, 0, img->size, gzf_sink, &c, NULL), -EBADMSG);
	assert_false(c.wrong);
	assert_int_equal(c.next, lens[0]);
	image_close(img);
	z->p[at] ^= 1;
}

static void small_members_are_shown_when_they_are_proven(void **state)
{
	static const size_t lens[][3] = {
		{ 65280, 65280, 65280 },
		{ 20000, HELD, 70 },
		{ 700000, 30000, 300000 },
	};
	uint8_t *plain = malloc(MIB(2));
	uint64_t random = 14;

	(void)state;
	assert_non_null(plain);
	for (size_t i = 0; i < MIB(2); i++) {
		plain[i] = (uint8_t)(gzf_random(&random) >> 11);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct gz z = members(plain, lens[i], 3);
		struct gz two = members(plain, lens[i], 2);
		uint8_t *last = memmem(z.p, z.n, plain + lens[i][0] + lens[i][1] - 40, 32);

		assert_non_null(last);
		check_second_member(&z, (size_t)(last - z.p), plain, lens[i]);
		check_second_member(&z, two.n - 8, plain, lens[i]);
		check_second_member(&z, two.n - 4, plain, lens[i]);
		free(two.p);
		free(z.p);
	}
	free(plain);
}

/* Around what is held back, and with members that hold nothing. */
static void members_of_all_sizes_are_read(void **state)
{
	static const size_t lens[] = { 1, 0, HELD - 1, HELD, HELD + 1, 0, 0, 2 * HELD, 5, 400000,
		HELD, HELD, 0 };
	size_t n = 0;
	uint8_t *plain = gzf_plain(MIB(1), 15);
	struct gz z = members(plain, lens, ARRAY_SIZE(lens));
	struct image *img;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		n += lens[i];
	}
	img = gzf_open(&z, NULL, NULL);
	for (size_t off = 0; off + 50000 < n; off += 30011) {
		gzf_check_read(img, plain, off, 50000);
	}
	gzf_stream_all(img, plain, n);
	image_close(img);
	free(z.p);
	free(plain);
}

static void what_follows_the_last_member_is_not_ignored(void **state)
{
	uint8_t *plain = gzf_plain(SMALL, 13);
	const char *const tails[] = { "garbage", "\x1f\x8c\x08", "\0\0\0\0x", "\x1f" };
	const size_t lens[] = { 7, 3, 5, 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct gz z = gzf_make(SINGLE, plain, SMALL);
		struct checker c = { .plain = plain, .len = SMALL };
		struct err e = { 0 };
		struct image *img;

		gzf_bytes(&z, tails[i], lens[i]);
		img = gzf_open(&z, NULL, NULL);
		assert_int_equal(image_stream_at(img, 0, img->size, gzf_sink, &c, &e), -EBADMSG);
		assert_int_equal(c.next, SMALL);
		assert_non_null(strstr(e.text, "byte "));
		image_close(img);
		free(z.p);
	}
	free(plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_file_is_an_error),
		cmocka_unit_test(a_flipped_bit_is_an_error_or_harmless),
		cmocka_unit_test(a_flipped_bit_under_an_index_never_gives_a_wrong_byte),
		cmocka_unit_test(a_wrong_checksum_is_remembered),
		cmocka_unit_test(small_members_are_shown_when_they_are_proven),
		cmocka_unit_test(members_of_all_sizes_are_read),
		cmocka_unit_test(what_follows_the_last_member_is_not_ignored),
	};

	memory_limit(MIB(256));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
