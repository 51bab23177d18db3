/* SPDX-License-Identifier: Apache-2.0 */
/* Images that are decoded in units. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache.h"
#include "cache/lent.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"
#include "tests/unit/patience.h"

#define SIZE (MIB(8) + 99)
#define SEED 11
/* Of no power of two, and never a granule's edge. */
#define ODD (MIB(1) + 12345)

static struct cache *open_cache(const char *dir, uint64_t max_size)
{
	struct cache_opts opts = { .dir = dir, .max_size = max_size };
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

static struct image *put_over(struct cache *c, struct fake_image *f)
{
	struct image *img = NULL;
	struct err e = { 0 };

	if (cache_image_open(c, "k", &f->img, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void check_in_order(struct image *img, uint64_t from, uint64_t end, size_t step)
{
	for (uint64_t off = from; off < end; off += step) {
		cache_check_read(img, SEED, off, min_u64(step, end - off));
	}
}

static void wait_for_bytes(struct image *img, uint64_t bytes)
{
	WAIT_WHILE(cache_check_count(img, "present_bytes") < bytes, "bytes to be present");
}

static void wait_until_idle(struct image *img)
{
	WAIT_WHILE(cache_check_count(img, "decoding") > 0, "the end of decoding");
}

static void reading_in_order_decodes_each_unit_once(void **state)
{
	const uint64_t units[] = { ODD, 65280, 1000, MIB(3) + 1, 65536 * 3, MIB(64) };

	for (unsigned int i = 0; i < ARRAY_SIZE(units); i++) {
		struct cache *c = open_cache(i % 2 ? *state : NULL, i % 2 ? 0 : MIB(32));
		struct fake_image *f = fake_image_units(SIZE, SEED, units[i], units[i] / 3);
		struct image *img = put_over(c, f);

		check_in_order(img, 0, SIZE, 50000);
		wait_for_bytes(img, SIZE);
		/* A stream that begins anew among small units decodes one of them twice. */
		assert_true(f->decoded <= SIZE + SIZE / 8);
		cache_check_read(img, SEED, 0, SIZE);
		image_close(img);
		(void)cache_drop(c, "k", NULL);
		cache_close(c);
	}
}

static void units_behind_a_reader_are_decoded_before_it_comes(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, ODD, 0);
	struct image *img = put_over(c, f);

	f->rate = MIB(20);
	check_in_order(img, 0, MIB(4), 65536);
	assert_true(f->most >= 2);
	image_close(img);
	cache_close(c);
}

/* In whatever order units come, what they share is put together. */
static void edges_of_units_are_put_together(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, MIB(2) + 777, 0);
	struct image *img = put_over(c, f);

	for (uint64_t at = SIZE - 1; at > MIB(2); at -= MIB(2)) {
		cache_check_read(img, SEED, at, 1);
		wait_until_idle(img);
	}
	cache_check_read(img, SEED, 0, 1);
	wait_for_bytes(img, SIZE);
	assert_true(f->decoded <= SIZE);
	cache_check_read(img, SEED, 0, SIZE);
	image_close(img);
	cache_close(c);
}

static void a_large_unit_is_decoded_only_as_far_as_needed(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(GIB(1), SEED, GIB(1), 0);
	struct image *img = put_over(c, f);

	cache_check_read(img, SEED, MIB(3), 5000);
	wait_until_idle(img);
	assert_int_equal(cache_check_count(img, "decoding_paused"), 1);
	assert_true(f->bytes < MIB(5));
	cache_check_read(img, SEED, MIB(6), 10);
	cache_check_read(img, SEED, MIB(1), MIB(5));
	assert_int_equal(f->transfers, 1);
	image_close(img);
	/* Another time it begins anew, but what is here is not decoded for its own sake. */
	f = fake_image_units(GIB(1), SEED, GIB(1), 0);
	img = put_over(c, f);
	cache_check_read(img, SEED, 0, 1000);
	cache_check_read(img, SEED, MIB(5), 1000);
	assert_int_equal(f->transfers, 0);
	cache_check_read(img, SEED, MIB(30), 10);
	assert_int_equal(f->transfers, 1);
	image_close(img);
	cache_close(c);
}

/* A seek index that grows while its image is decoded. */
static void units_may_become_smaller(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(MIB(100), SEED, MIB(100), 0);
	struct image *img = put_over(c, f);
	uint64_t freed;

	cache_check_read(img, SEED, MIB(10), MIB(1));
	wait_until_idle(img);
	f->unit = MIB(1) + 5;
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	f->decoded = 0;
	cache_check_read(img, SEED, MIB(50), 100);
	assert_true(f->decoded < MIB(40)); /* not from the beginning on */
	cache_check_read(img, SEED, MIB(20), 100);
	image_close(img);
	cache_close(c);
}

static void a_failure_reaches_those_who_need_that_unit(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, ODD, 0);
	struct image *img = put_over(c, f);
	struct err e = { 0 };
	uint8_t byte;

	f->fail_next = 1;
	f->fail_after = 1000;
	f->fail_code = -EIO;
	assert_int_equal(image_read_at(img, &byte, 1, 2 * ODD + 5000, &e), -EIO);
	assert_non_null(strstr(e.text, "fake failure"));
	cache_check_read(img, SEED, 2 * ODD + 5000, 1);
	cache_check_read(img, SEED, 0, SIZE);
	image_close(img);
	cache_close(c);
}

static void many_readers_at_once_are_served(void **state)
{
	const uint64_t units[] = { ODD, 3000, MIB(64) };

	for (unsigned int i = 0; i < ARRAY_SIZE(units); i++) {
		struct cache *c = open_cache(*state, 0);
		struct image *img = put_over(c, fake_image_units(SIZE, SEED, units[i], 0));

		cache_check_crowd(img, SEED, SIZE);
		cache_check_read(img, SEED, 0, SIZE);
		image_close(img);
		(void)cache_drop(c, "k", NULL);
		cache_close(c);
	}
}

/* What is forgotten is decoded again. */
static void in_little_memory_readers_are_served(void **state)
{
	struct cache *c = open_cache(NULL, MIB(2));
	struct image *img = put_over(c, fake_image_units(SIZE, SEED, ODD, 0));

	(void)state;
	cache_check_crowd(img, SEED, SIZE);
	check_in_order(img, 0, SIZE, 100000);
	image_close(img);
	cache_close(c);
}

static void without_room_readers_still_get_their_bytes(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct image *img = put_over(c, fake_image_units(SIZE, SEED, ODD, 0));
	struct rlimit before;
	struct rlimit none;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	none = before;
	none.rlim_cur = MIB(1);
	setrlimit(RLIMIT_FSIZE, &none);
	cache_check_read(img, SEED, MIB(4), MIB(1));
	cache_check_read(img, SEED, 0, SIZE);
	cache_check_crowd(img, SEED, SIZE);
	assert_true(cache_check_count(img, "bypassed") > 0);
	setrlimit(RLIMIT_FSIZE, &before);
	image_close(img);
	cache_close(c);
}

static void eviction_takes_what_can_be_decoded_again(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, MIB(64), 0);
	struct image *img = put_over(c, f);
	uint64_t freed;

	cache_check_read(img, SEED, 0, SIZE);
	wait_for_bytes(img, SIZE);
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	assert_true(freed >= SIZE / 2);
	cache_check_read(img, SEED, 0, SIZE);
	image_close(img);
	cache_close(c);
}

static void closing_stops_the_decoders(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, ODD, 0);
	struct image *img = put_over(c, f);
	pthread_t reader;
	void *failed;

	f->gate_closed = true;
	pthread_create(&reader, NULL, cache_check_last_byte, img);
	WAIT_WHILE(f->now == 0, "a transfer to be under way");
	image_interrupt(img);
	pthread_join(reader, &failed);
	assert_non_null(failed);
	image_close(img);
	cache_close(c);
}

static int read_byte(struct image *img, uint64_t off, struct err *e)
{
	uint8_t byte;

	return image_read_at(img, &byte, 1, off, e);
}

/* What was assumed is too much: whoever reads behind the real end learns where that is. */
static void shorter_than_assumed_fails_behind_the_end(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct image *img = put_over(c, fake_image_provisional(MIB(9), SIZE, SEED, ODD));
	struct err e = { 0 };
	uint64_t size;

	check_in_order(img, 0, SIZE, 70000);
	assert_int_equal(read_byte(img, SIZE, &e), -EIO);
	assert_non_null(strstr(e.text, "8388707 bytes"));
	assert_int_equal(read_byte(img, MIB(9) - 1, &e), -EIO);
	assert_int_equal(image_final_size(img, &size), 0);
	assert_int_equal(size, SIZE);
	cache_check_read(img, SEED, SIZE - 10, 10);
	image_close(img);
	cache_close(c);
}

/* What was assumed is too little: the last byte is not given out as if it were the end. */
static void longer_than_assumed_fails_at_the_assumed_end(void **state)
{
	const uint64_t assumed[] = { MIB(5), MIB(5) + 100 };

	for (unsigned int i = 0; i < ARRAY_SIZE(assumed); i++) {
		struct cache *c = open_cache(*state, 0);
		struct fake_image *f = fake_image_provisional(assumed[i], SIZE, SEED, MIB(64));
		struct image *img = put_over(c, f);
		struct err e = { 0 };
		uint64_t size;

		f->rate = MIB(32);
		cache_check_read(img, SEED, 0, assumed[i] - 1);
		/* Who gets the error may close the image at once: by then all is known. */
		assert_int_equal(read_byte(img, assumed[i] - 1, &e), -EIO);
		assert_non_null(strstr(e.text, "8388707 bytes"));
		assert_int_equal(image_final_size(img, &size), 0);
		assert_int_equal(size, SIZE);
		assert_int_equal(read_byte(img, assumed[i] - 1, &e), -EIO);
		cache_check_read(img, SEED, assumed[i] - 50, 49);
		image_close(img);
		/* Now that it is known, it is no other image. */
		f = fake_image_units(SIZE, SEED, MIB(64), 0);
		img = put_over(c, f);
		cache_check_read(img, SEED, MIB(4), 1000);
		assert_int_equal(f->transfers, 0);
		cache_check_read(img, SEED, 0, SIZE);
		image_close(img);
		(void)cache_drop(c, "k", NULL);
		cache_close(c);
	}
}

static void as_long_as_assumed_is_whole(void **state)
{
	const uint64_t sizes[] = { SIZE, MIB(8) };

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct cache *c = open_cache(*state, 0);
		struct fake_image *f = fake_image_provisional(sizes[i], sizes[i], SEED, ODD);
		struct image *img = put_over(c, f);

		cache_check_read(img, SEED, sizes[i] - 1, 1);
		check_in_order(img, 0, sizes[i], 99999);
		wait_for_bytes(img, sizes[i]);
		image_close(img);
		f = fake_image_units(sizes[i], SEED, ODD, 0);
		img = put_over(c, f);
		cache_check_read(img, SEED, 0, sizes[i]);
		assert_int_equal(f->transfers, 0);
		image_close(img);
		(void)cache_drop(c, "k", NULL);
		cache_close(c);
	}
}

static void a_smaller_size_keeps_what_is_whole(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct image *img = put_over(c, fake_image_provisional(GIB(1), SIZE, SEED, ODD));
	struct fake_image *f;

	cache_check_read(img, SEED, 0, SIZE);
	wait_until_idle(img);
	wait_for_bytes(img, MIB(8));
	image_close(img);
	f = fake_image_units(SIZE, SEED, ODD, 0);
	img = put_over(c, f);
	cache_check_read(img, SEED, 0, 1000);
	cache_check_read(img, SEED, MIB(8) - 1, 1);
	assert_int_equal(f->transfers, 0);
	cache_check_read(img, SEED, 0, SIZE);
	image_close(img);
	cache_close(c);
}

/* The data file of the only object in @dir, as somebody has it to whom it was lent. */
static int lend_file(const char *dir)
{
	char pattern[200];
	glob_t found;
	int object;
	int file;

	snprintf(pattern, sizeof(pattern), "%s/obj/*/*", dir);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	object = open(found.gl_pathv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(lent_mark(object), 0);
	file = openat(object, "data", O_RDONLY | O_CLOEXEC);
	assert_true(file >= 0);
	close(object);
	globfree(&found);
	return file;
}

static void another_size_is_no_change_to_a_file_that_is_lent(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct image *img = put_over(c, fake_image_provisional(MIB(16), SIZE, SEED, ODD));
	uint8_t buf[4096];
	struct stat st;
	int file;

	cache_check_read(img, SEED, 0, SIZE);
	wait_until_idle(img);
	wait_for_bytes(img, MIB(8));
	file = lend_file(*state);
	image_close(img);
	img = put_over(c, fake_image_units(SIZE, SEED, ODD, 0));
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(fstat(file, &st), 0);
	assert_int_equal(st.st_size, MIB(16));
	assert_int_equal(pread(file, buf, sizeof(buf), MIB(4)), sizeof(buf));
	assert_true(fake_matches(buf, SEED, MIB(4), sizeof(buf)));
	close(file);
	image_close(img);
	cache_close(c);
}

/* A unit is proven by its end only: when that fails, what was taken for its bytes is not kept. */
static void bytes_of_a_unit_that_is_corrupt_do_not_stay(void **state)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct cache *c = open_cache(i ? *state : NULL, i ? 0 : MIB(32));
		struct fake_image *f = fake_image_units(SIZE, SEED, ODD, 0);
		struct image *img = put_over(c, f);
		uint8_t byte;
		struct err e;

		cache_check_read(img, SEED, 0, 4096);
		wait_until_idle(img);
		f->fail_code = -EBADMSG;
		f->fail_after = ODD;
		f->fail_next = 1;
		/* it came by before the end did */
		WAIT_WHILE(image_read_at(img, &byte, 1, 2 * ODD - 1, &e) == 0, "a read that fails");
		assert_int_equal(e.code, -EBADMSG);
		assert_string_equal(e.text, "fake failure");
		for (uint64_t off = ODD; off < 2 * ODD; off += 60000) {
			assert_int_equal(image_read_at(img, &byte, 1, off, &e), -EBADMSG);
		}
		assert_int_equal(f->fail_next, 0);
		assert_true(cache_check_count(img, "present_bytes") <= ODD + 65536);
		cache_check_read(img, SEED, 0, ODD);
		cache_check_read(img, SEED, 2 * ODD, ODD);
		image_close(img);

		/* whoever comes next has it decoded anew */
		img = put_over(c, fake_image_units(SIZE, SEED, ODD, 0));
		cache_check_read(img, SEED, ODD, 4096);
		image_close(img);
		(void)cache_drop(c, "k", NULL);
		cache_close(c);
	}
}

static void on_withdrawn(void *ctx)
{
	++*(_Atomic unsigned int *)ctx;
}

/* Who keeps what was read is told, and finds that reads fail: whoever brings the bytes again. */
static void bytes_of_a_unit_that_is_corrupt_are_withdrawn(void **state)
{
	_Atomic unsigned int told = 0;
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = fake_image_units(SIZE, SEED, ODD, 0);
	struct image *img = put_over(c, f);
	struct image *other;
	uint8_t byte;
	struct err e;

	image_listen(img, on_withdrawn, &told);
	cache_check_read(img, SEED, 0, 4096);
	wait_until_idle(img);
	assert_int_equal(told, 0);
	f->fail_code = -EBADMSG;
	f->fail_after = ODD;
	f->fail_next = 1;
	(void)image_read_at(img, &byte, 1, 2 * ODD - 1, NULL);
	WAIT_WHILE(told == 0, "the listener to be told");
	assert_int_equal(image_read_at(img, &byte, 1, ODD, &e), -EBADMSG);
	/* Another daemon has it decoded, into the same directory. */
	other = put_over(c, fake_image_units(SIZE, SEED, ODD, 0));
	cache_check_read(other, SEED, 0, SIZE);
	for (uint64_t off = ODD; off < 2 * ODD; off += 60000) {
		assert_int_equal(image_read_at(img, &byte, 1, off, &e), -EBADMSG);
	}
	cache_check_read(img, SEED, 0, ODD);
	cache_check_read(img, SEED, 2 * ODD, ODD);
	assert_int_equal(told, 1);
	image_listen(img, NULL, NULL);
	image_close(other);
	image_close(img);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(bytes_of_a_unit_that_is_corrupt_do_not_stay),
		CACHE_DIR_TEST(bytes_of_a_unit_that_is_corrupt_are_withdrawn),
		CACHE_DIR_TEST(reading_in_order_decodes_each_unit_once),
		CACHE_DIR_TEST(units_behind_a_reader_are_decoded_before_it_comes),
		CACHE_DIR_TEST(edges_of_units_are_put_together),
		CACHE_DIR_TEST(a_large_unit_is_decoded_only_as_far_as_needed),
		CACHE_DIR_TEST(units_may_become_smaller),
		CACHE_DIR_TEST(a_failure_reaches_those_who_need_that_unit),
		CACHE_DIR_TEST(many_readers_at_once_are_served),
		cmocka_unit_test(in_little_memory_readers_are_served),
		CACHE_DIR_TEST(without_room_readers_still_get_their_bytes),
		CACHE_DIR_TEST(eviction_takes_what_can_be_decoded_again),
		CACHE_DIR_TEST(closing_stops_the_decoders),
		CACHE_DIR_TEST(shorter_than_assumed_fails_behind_the_end),
		CACHE_DIR_TEST(longer_than_assumed_fails_at_the_assumed_end),
		CACHE_DIR_TEST(as_long_as_assumed_is_whole),
		CACHE_DIR_TEST(a_smaller_size_keeps_what_is_whole),
		CACHE_DIR_TEST(another_size_is_no_change_to_a_file_that_is_lent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
