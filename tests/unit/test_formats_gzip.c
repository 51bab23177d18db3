/* SPDX-License-Identifier: Apache-2.0 */
/* gzip files of every kind against the bytes that went into them: in any order, with and without an
 * index, by several threads. */
#include "formats/gzip.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/bytes.h"
#include "formats/feed.h"
#include "tests/unit/gzip_files.h"
#include "tests/unit/test.h"

static void every_kind_reads_as_it_was(void **state)
{
	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		struct image *img = gzf_open(&gzf_big[k], NULL, NULL);
		uint64_t random = 5 + k;
		uint64_t total;

		assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
		assert_int_equal(image_final_size(img, &total), -EAGAIN);
		/* Known where the last member speaks for all. */
		assert_true(img->size == GZF_PLAIN || k == BGZF || k == MEMBERS || k == PADDED);
		for (unsigned int i = 0; i < 3; i++) {
			gzf_check_read(
				img, gzf_big_plain, gzf_random(&random) % (GZF_PLAIN / 2), 70000);
		}
		gzf_stream_all(img, gzf_big_plain, GZF_PLAIN);
		assert_int_equal(image_final_size(img, &total), 0);
		assert_int_equal(total, GZF_PLAIN);
		gzf_check_units(img, gzf_big_plain, GZF_PLAIN);
		for (unsigned int i = 0; i < 12; i++) {
			size_t n = 1 + gzf_random(&random) % 300000;
			uint64_t off = gzf_random(&random) % (GZF_PLAIN - n);

			if (off + n < img->size) {
				gzf_check_read(img, gzf_big_plain, off, n);
			}
		}
		image_close(img);
	}
}

/* Points come about every 4 MiB, those without windows every MiB. The headers of blocks with the
 * fixed codes are three bits, and not found. */
static void check_points(struct image *img, enum kind k)
{
	uint64_t most = k == BGZF ? MIB(5) / 4 : k == FIXED ? GZF_PLAIN : MIB(5);
	uint64_t at = 0;

	while (at < GZF_PLAIN) {
		uint64_t off;
		uint64_t len;

		assert_int_equal(image_unit_at(img, at, &off, &len, NULL), 0);
		if (len > most) {
			fail_msg("%s: a unit of %llu bytes at %llu", gzf_kind_names[k],
				(unsigned long long)len, (unsigned long long)off);
		}
		at = off + len;
	}
}

static void an_index_makes_later_opens_cheap_and_exact(void **state)
{
	(void)state;
	for (enum kind k = 0; k < KINDS; k++) {
		struct fake_image *fake;
		struct fake_blobs b;
		struct image *img;

		fake_blobs_init(&b);
		img = gzf_open(&gzf_big[k], &b.blobs, NULL);
		gzf_stream_all(img, gzf_big_plain, GZF_PLAIN);
		image_close(img);
		assert_true(fake_blobs_size(&b) < GZF_PLAIN / 100);

		img = gzf_open(&gzf_big[k], &b.blobs, &fake);
		assert_int_equal(img->size, GZF_PLAIN);
		assert_false(img->flags & IMAGE_SIZE_PROVISIONAL);
		assert_int_equal(fake->bytes, 0);
		check_points(img, k);
		gzf_check_read(img, gzf_big_plain, GZF_PLAIN - 5000, 5000);
		assert_true(fake->bytes <= MIB(5) || k == FIXED);
		gzf_check_units(img, gzf_big_plain, GZF_PLAIN);
		gzf_stream_all(img, gzf_big_plain, GZF_PLAIN);
		image_close(img);
		fake_blobs_clear(&b);
	}
}

static void a_partial_index_is_continued(void **state)
{
	const uint8_t *plain = gzf_big_plain;
	struct gz z = gzf_big[SINGLE];
	struct checker c = { .plain = plain, .len = GZF_PLAIN, .stop_at = GZF_PLAIN / 2 };
	struct fake_image *fake;
	struct fake_blobs b;
	struct image *img;
	struct err e = { 0 };
	uint64_t points;

	(void)state;
	fake_blobs_init(&b);
	img = gzf_open(&z, &b.blobs, NULL);
	assert_int_equal(image_stream_at(img, 0, img->size, gzf_sink, &c, &e), -ECANCELED);
	assert_false(c.wrong);
	points = gzf_points(img);
	assert_true(points >= 2);
	image_close(img);

	img = gzf_open(&z, &b.blobs, &fake);
	assert_int_equal(gzf_points(img), points);
	assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
	fake->bytes = 0;
	gzf_check_read(img, plain, GZF_PLAIN / 3, 4096); /* within what is known */
	assert_true(fake->bytes < MIB(5));
	c = (struct checker){ .plain = plain, .len = GZF_PLAIN, .next = GZF_PLAIN - 100 };
	fake->bytes = 0;
	assert_int_equal(image_stream_at(img, GZF_PLAIN - 100, img->size - GZF_PLAIN + 100,
				 gzf_sink, &c, &e),
		0);
	assert_false(c.wrong);
	assert_int_equal(c.next, GZF_PLAIN);
	assert_true(fake->bytes < z.n * 3 / 4); /* not from the beginning */
	assert_true(gzf_points(img) > points);
	gzf_check_units(img, plain, GZF_PLAIN);
	image_close(img);

	img = gzf_open(&z, &b.blobs, NULL);
	assert_false(img->flags & IMAGE_SIZE_PROVISIONAL);
	gzf_stream_all(img, plain, GZF_PLAIN);
	image_close(img);
	fake_blobs_clear(&b);
}

/* What is not as it was written is as good as none: never wrong bytes, never a failure. */
static void a_damaged_index_does_no_harm(void **state)
{
	size_t n = MIB(10);
	uint8_t *plain = gzf_plain(n, 5);
	struct gz z = gzf_make(SINGLE, plain, n);
	struct fake_blobs b;
	struct image *img;
	uint64_t random = 99;

	(void)state;
	fake_blobs_init(&b);
	img = gzf_open(&z, &b.blobs, NULL);
	gzf_stream_all(img, plain, n);
	image_close(img);
	for (unsigned int i = 0; i < 24; i++) {
		struct fake_record *r = &b.records[i % b.count];
		size_t at = gzf_random(&random) % r->len;
		size_t len = r->len;

		if (i % 6 == 5) {
			r->len = at; /* cut */
		} else {
			r->data[at] ^= (uint8_t)(1U << (i % 8));
		}
		img = gzf_open(&z, &b.blobs, NULL);
		gzf_check_read(img, plain, n - 70000, 60000);
		/* Its save on closing would mend it. */
		r->data[at] ^= i % 6 == 5 ? 0 : (uint8_t)(1U << (i % 8));
		image_close(img);
		(void)len;
		img = gzf_open(&z, &b.blobs, NULL);
		gzf_stream_all(img, plain, n);
		image_close(img);
	}
	fake_blobs_clear(&b);
	free(z.p);
	free(plain);
}

static void an_index_of_another_file_is_none(void **state)
{
	size_t n = MIB(9);
	uint8_t *plain = gzf_plain(n, 6);
	uint8_t *other = gzf_plain(n, 7);
	struct gz z = gzf_make(SINGLE, plain, n);
	struct gz y = gzf_make(SINGLE, other, n);
	struct fake_blobs b;
	struct image *img;
	char name[65];

	(void)state;
	fake_blobs_init(&b);
	img = gzf_open(&z, &b.blobs, NULL);
	gzf_stream_all(img, plain, n);
	image_close(img);
	assert_int_equal(gzf_try_open(&y, "gz-2", &b.blobs, &img, NULL), 0);
	gzf_stream_all(img, other, n);
	image_close(img);
	/* The records of one under the names of the other. */
	for (size_t i = 0; i < b.count / 2; i++) {
		memcpy(name, b.records[i].name, sizeof(name));
		memcpy(b.records[i].name, b.records[i + b.count / 2].name, sizeof(name));
		memcpy(b.records[i + b.count / 2].name, name, sizeof(name));
	}
	img = gzf_open(&z, &b.blobs, NULL);
	assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
	gzf_check_read(img, plain, n - 5000, 4000);
	image_close(img);
	fake_blobs_clear(&b);
	free(z.p);
	free(y.p);
	free(plain);
	free(other);
}

struct reader {
	struct image *img;
	const uint8_t *plain;
	uint64_t seed;
	bool ok;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(100000);
	uint64_t random = r->seed;

	r->ok = buf != NULL;
	for (unsigned int i = 0; r->ok && i < 12; i++) {
		size_t n = 1 + gzf_random(&random) % 99999;
		uint64_t off = gzf_random(&random) % (GZF_PLAIN - n - 1);

		r->ok = image_read_at(r->img, buf, n, off, NULL) == 0 &&
			memcmp(buf, r->plain + off, n) == 0;
	}
	free(buf);
	return NULL;
}

static void *stream_whole(void *arg)
{
	struct reader *r = arg;
	struct checker c = { .plain = r->plain, .len = GZF_PLAIN };

	r->ok = image_stream_at(r->img, 0, r->img->size, gzf_sink, &c, NULL) == 0 && !c.wrong &&
		c.next == GZF_PLAIN;
	return NULL;
}

static void many_threads_share_a_growing_index(void **state)
{
	const uint8_t *plain = gzf_big_plain;
	struct reader readers[6];
	pthread_t threads[6];
	struct fake_blobs b;

	(void)state;
	fake_blobs_init(&b);
	for (unsigned int pass = 0; pass < 2; pass++) {
		struct image *img = gzf_open(&gzf_big[pass ? MEMBERS : SINGLE], &b.blobs, NULL);

		for (unsigned int i = 0; i < 6; i++) {
			readers[i] = (struct reader){ img, plain, 3 + i, false };
			assert_int_equal(
				pthread_create(&threads[i], NULL,
					i < 2 ? stream_whole : read_at_random, &readers[i]),
				0);
		}
		for (unsigned int i = 0; i < 6; i++) {
			pthread_join(threads[i], NULL);
		}
		for (unsigned int i = 0; i < 6; i++) {
			assert_true(readers[i].ok);
		}
		gzf_check_units(img, plain, GZF_PLAIN);
		image_close(img);
	}
	fake_blobs_clear(&b);
}

/* The last four bytes may say anything. */
static void an_assumed_size_is_never_taken_for_the_real_one(void **state)
{
	uint8_t *plain = gzf_plain(MIB(2), 14);
	const struct format_opts small = { .size = MIB(1) };
	const struct format_opts large = { .size = MIB(3) };
	struct gz z = gzf_make(SINGLE, plain, MIB(2));
	struct fake_image *f = fake_image_from(z.p, z.n, "gz-1");
	uint8_t *buf = malloc(MIB(3));
	struct image *img;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(gzip_open(&f->img, &small, &img, &e), 0);
	assert_int_equal(img->size, MIB(1));
	gzf_check_read(img, plain, 0, MIB(1) - 1);
	assert_int_equal(image_read_at(img, buf, 4096, MIB(1) - 4096, &e), -EIO);
	gzf_stream_all(img, plain, MIB(2));
	image_close(img);

	f = fake_image_from(z.p, z.n, "gz-1");
	assert_int_equal(gzip_open(&f->img, &large, &img, &e), 0);
	assert_int_equal(img->size, MIB(3));
	gzf_check_read(img, plain, MIB(2) - 4096, 4096);
	assert_int_equal(image_read_at(img, buf, 4097, MIB(2) - 4096, &e), -EIO);
	assert_int_equal(image_read_at(img, buf, 1, MIB(2) + 5, &e), -EIO);
	assert_int_equal(image_read_at(img, buf, MIB(3), 0, &e), -EIO);
	assert_non_null(strstr(e.text, "2097152"));
	gzf_stream_all(img, plain, MIB(2));
	image_close(img);
	free(buf);
	free(z.p);
	free(plain);
}

static void the_disk_inside_helps_to_guess_its_size(void **state)
{
	uint8_t *plain = gzf_plain(MIB(4), 15);
	struct gz z = { 0 };
	struct image *img;

	(void)state;
	memcpy(plain + 512, "EFI PART", 8);
	store_le64(plain + 512 + 32, MIB(4) / 512 - 1);
	for (size_t at = 0; at < MIB(4); at += 65280) {
		gzf_bgzf(&z, plain + at, min_u64(65280, MIB(4) - at));
	}
	gzf_bgzf(&z, plain, 0);
	img = gzf_open(&z, NULL, NULL);
	assert_int_equal(img->size, MIB(4));
	assert_true(img->flags & IMAGE_SIZE_PROVISIONAL);
	image_close(img);
	free(z.p);
	free(plain);
}

/* 1032:1, and a block of which nothing can begin: memory stays small, every byte is right. */
static void zeros_without_end_take_little(void **state)
{
	size_t n = MIB(96);
	uint8_t *plain = calloc(1, n);
	struct gz z = gzf_make(SINGLE, plain, n);
	struct fake_blobs b;
	struct image *img;

	(void)state;
	fake_blobs_init(&b);
	img = gzf_open(&z, &b.blobs, NULL);
	assert_int_equal(img->size, n);
	gzf_stream_all(img, plain, n);
	assert_true(gzf_points(img) > 10);
	gzf_check_units(img, plain, n);
	image_close(img);
	assert_true(fake_blobs_size(&b) < 10000);
	fake_blobs_clear(&b);
	free(z.p);
	free(plain);
}

static void put_stored(struct gz *z, const uint8_t *p, size_t n, bool last)
{
	uint8_t head[] = { last, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8) };

	gzf_bytes(z, head, sizeof(head));
	gzf_bytes(z, p, n);
}

/* More is decoded than can be handed over at once: at the very byte where the decoder has no room
 * left, a piece of its input ends. */
static void room_and_input_may_end_together(void **state)
{
	const size_t first = 98304, stored = 4 * 49152, rest = 1000; /* 288 KiB, and 1000 bytes */
	const size_t second = stored + rest;
	uint8_t head[] = { 31, 139, 8, 4, 0, 0, 0, 0, 0, 3, 0, 0 };
	uint8_t tail[8];
	uint8_t *plain = calloc(1, first + second);
	uint8_t *noise = gzf_plain(second, 16);
	struct gz z = { 0 };
	struct image *img;
	size_t extra;

	(void)state;
	memcpy(plain + first, noise, second);
	gzf_member(&z, plain, first, (struct member){ .level = 9 });
	extra = FEED_PIECE - z.n - sizeof(head) - 4 * 5 - stored;
	assert_true(extra < 65536);
	head[10] = (uint8_t)extra;
	head[11] = (uint8_t)(extra >> 8);
	gzf_bytes(&z, head, sizeof(head));
	gzf_bytes(&z, plain, extra);
	for (size_t at = 0; at < stored; at += 49152) {
		put_stored(&z, noise + at, 49152, false);
	}
	assert_int_equal(z.n, FEED_PIECE);
	put_stored(&z, noise + stored, rest, true);
	store_le32(tail, (uint32_t)crc32(0, noise, (uInt)second));
	store_le32(tail + 4, (uint32_t)second);
	gzf_bytes(&z, tail, sizeof(tail));

	img = gzf_open(&z, NULL, NULL);
	gzf_stream_all(img, plain, first + second);
	image_close(img);
	free(z.p);
	free(noise);
	free(plain);
}

static void a_failure_below_is_passed_on_and_does_not_stay(void **state)
{
	const uint8_t *plain = gzf_big_plain;
	struct fake_image *fake;
	struct image *img = gzf_open(&gzf_big[SINGLE], NULL, &fake);
	struct err e = { 0 };
	uint8_t buf[512];

	(void)state;
	fake->fail_next = 1;
	fake->fail_code = -ETIMEDOUT;
	assert_int_equal(image_read_at(img, buf, 512, GZF_PLAIN / 2, &e), -ETIMEDOUT);
	assert_string_equal(e.text, "fake failure");
	gzf_check_read(img, plain, GZF_PLAIN / 2, 512);
	image_interrupt(img);
	assert_int_equal(image_read_at(img, buf, 512, GZF_PLAIN / 2, &e), -ECANCELED);
	image_close(img);
}

static void what_is_no_gzip_file_is_refused(void **state)
{
	struct gz z = { 0 };
	struct image *img;
	uint8_t member[] = { 31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	uint64_t total;

	(void)state;
	gzf_bytes(&z, member, sizeof(member));
	assert_int_equal(gzf_try_open(&z, "a", NULL, &img, NULL), 0); /* holds nothing */
	assert_int_equal(img->size, 0);
	assert_int_equal(image_final_size(img, &total), 0);
	image_close(img);
	z.n = 19;
	assert_int_equal(gzf_try_open(&z, "a", NULL, &img, NULL), -EBADMSG);
	z.n = 20;
	z.p[2] = 7;
	assert_int_equal(gzf_try_open(&z, "a", NULL, &img, NULL), -EBADMSG);
	z.p[2] = 8;
	z.p[3] = 0x20;
	assert_int_equal(gzf_try_open(&z, "a", NULL, &img, NULL), -EBADMSG);
	z.p[3] = 0;
	z.p[1] = 0;
	assert_int_equal(gzf_try_open(&z, "a", NULL, &img, NULL), -EBADMSG);
	free(z.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_reads_as_it_was),
		cmocka_unit_test(an_index_makes_later_opens_cheap_and_exact),
		cmocka_unit_test(a_partial_index_is_continued),
		cmocka_unit_test(a_damaged_index_does_no_harm),
		cmocka_unit_test(an_index_of_another_file_is_none),
		cmocka_unit_test(many_threads_share_a_growing_index),
		cmocka_unit_test(an_assumed_size_is_never_taken_for_the_real_one),
		cmocka_unit_test(the_disk_inside_helps_to_guess_its_size),
		cmocka_unit_test(zeros_without_end_take_little),
		cmocka_unit_test(room_and_input_may_end_together),
		cmocka_unit_test(a_failure_below_is_passed_on_and_does_not_stay),
		cmocka_unit_test(what_is_no_gzip_file_is_refused),
	};

	return cmocka_run_group_tests(tests, gzf_setup, gzf_teardown);
}
