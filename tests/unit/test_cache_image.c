/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE (MIB(4) + 12345)

static struct cache *open_plain(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true };
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

static void bytes_are_right_and_fetched_once_on_disk(void **state)
{
	const char *dir = *state;
	struct cache *c = open_plain(dir);
	struct fake_image *f = fake_image_new(SIZE, 7, NULL);
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_read(img, 7, 100000, 4096);
	cache_check_read(img, 7, SIZE - 5, 5);
	cache_check_read(img, 7, 0, SIZE);
	assert_int_equal(f->bytes, SIZE);
	cache_check_read(img, 7, 0, SIZE);
	assert_int_equal(f->bytes, SIZE);
	assert_int_equal(cache_check_count(img, "present_bytes"), SIZE);
	image_close(img);
	cache_close(c);
}

static void bytes_survive_a_restart(void **state)
{
	const char *dir = *state;

	for (unsigned int i = 0; i < 3; i++) {
		struct cache *c = open_plain(dir);
		struct fake_image *f = fake_image_new(SIZE, 7, NULL);
		struct image *img;

		assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
		cache_check_read(img, 7, 70000, MIB(2));
		cache_check_read(img, 7, 0, SIZE);
		assert_int_equal(f->bytes, i == 0 ? SIZE : 0);
		image_close(img);
		cache_close(c);
	}
}

static void another_version_starts_empty(void **state)
{
	const char *dir = *state;

	for (unsigned int seed = 1; seed < 4; seed++) {
		struct cache *c = open_plain(dir);
		struct fake_image *f = fake_image_new(SIZE, seed, NULL);
		struct cache_known known;
		struct image *img;
		char want[16];

		snprintf(want, sizeof(want), "fake-%u", seed - 1);
		if (seed > 1) {
			assert_int_equal(cache_peek(c, "k", &known, NULL), 0);
			assert_string_equal(known.id, want);
			assert_int_equal(known.size, SIZE);
			free(known.id);
		} else {
			assert_int_equal(cache_peek(c, "k", &known, NULL), -ENOENT);
		}
		assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
		cache_check_read(img, seed, 0, SIZE);
		assert_int_equal(f->bytes, SIZE);
		image_close(img);
		cache_close(c);
	}
}

static void memory_mode_is_right_and_bounded(void **state)
{
	struct cache_opts opts = { .max_size = MIB(1), .no_readahead = true };
	struct fake_image *f = fake_image_new(SIZE, 7, NULL);
	uint64_t fetched;
	uint64_t hits;
	struct cache *c;
	struct image *img;

	(void)state;
	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_read(img, 7, 0, SIZE);
	cache_check_read(img, 7, 0, SIZE);
	assert_true(cache_check_count(img, "present_bytes") <= MIB(1));
	for (hits = cache_check_count(img, "hits"); cache_check_count(img, "hits") == hits;) {
		cache_check_read(img, 7, 4096, 4096);
	}
	fetched = f->bytes;
	cache_check_read(img, 7, 4096, 4096);
	assert_int_equal(f->bytes, fetched);
	image_close(img);
	cache_close(c);
}

/* Reads granules one after the other, and the first one in between. Returns how many bytes that
 * took from below. */
static uint64_t read_on_and_back(bool once)
{
	struct cache_opts opts = { .max_size = MIB(1), .no_readahead = true, .once = once };
	struct fake_image *f = fake_image_new(SIZE, 7, NULL);
	struct image *img;
	struct cache *c;
	uint64_t fetched;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	for (uint64_t g = 0; g < 24; g++) {
		cache_check_read(img, 7, g * CACHE_GRANULE, CACHE_GRANULE);
		/* It is here when it was stored, which may be after it was read. */
		for (uint64_t hits = cache_check_count(img, "hits");
			cache_check_count(img, "hits") == hits;) {
			cache_check_read(img, 7, g * CACHE_GRANULE, CACHE_GRANULE);
		}
		if (g < 16) {
			cache_check_read(img, 7, 0, 4096);
		}
	}
	fetched = f->bytes;
	cache_check_read(img, 7, 0, 4096);
	while (f->now > 0) {
		usleep(1000);
	}
	fetched = f->bytes - fetched;
	image_close(img);
	cache_close(c);
	return fetched;
}

static void what_is_read_once_goes_in_the_order_in_which_it_came(void **state)
{
	(void)state;
	assert_int_equal(read_on_and_back(false), 0);
	assert_int_equal(read_on_and_back(true), CACHE_GRANULE);
}

struct reader {
	pthread_t thread;
	struct image *img;
	uint64_t off;
	size_t len;
	int result;
};

static void *read_in_thread(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(r->len);

	r->result = image_read_at(r->img, buf, r->len, r->off, NULL);
	if (r->result == 0 && !fake_matches(buf, 7, r->off, r->len)) {
		r->result = 1;
	}
	free(buf);
	return NULL;
}

static void overlapping_misses_share_one_fetch(void **state)
{
	const char *dir = *state;
	struct cache *c = open_plain(dir);
	struct fake_image *f = fake_image_new(SIZE, 7, NULL);
	struct reader readers[16];
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	f->gate_closed = true;
	for (unsigned int i = 0; i < 16; i++) {
		readers[i] = (struct reader){ .img = img, .off = 1000 * i, .len = MIB(1) };
		pthread_create(&readers[i].thread, NULL, read_in_thread, &readers[i]);
	}
	while (cache_check_count(img, "misses") + cache_check_count(img, "joined") < 16) {
		usleep(1000);
	}
	f->gate_closed = false;
	for (unsigned int i = 0; i < 16; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].result, 0);
	}
	assert_true(f->bytes <= MIB(1) + 2 * CACHE_GRANULE + MIB(1));
	assert_true(f->transfers <= 3);
	image_close(img);
	cache_close(c);
}

static void a_failing_fetch_fails_its_readers_and_nothing_else(void **state)
{
	const char *dir = *state;
	struct cache *c = open_plain(dir);
	struct fake_image *f = fake_image_new(SIZE, 7, NULL);
	struct err e = { 0 };
	struct image *img;
	uint8_t buf[4096];

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	f->fail_next = 1;
	f->fail_code = -ETIMEDOUT;
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 0, &e), -ETIMEDOUT);
	assert_int_equal(e.code, -ETIMEDOUT);
	assert_non_null(strstr(e.text, "fake failure"));
	cache_check_read(img, 7, 0, SIZE);
	image_close(img);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(bytes_are_right_and_fetched_once_on_disk),
		CACHE_DIR_TEST(bytes_survive_a_restart),
		CACHE_DIR_TEST(another_version_starts_empty),
		cmocka_unit_test(memory_mode_is_right_and_bounded),
		cmocka_unit_test(what_is_read_once_goes_in_the_order_in_which_it_came),
		CACHE_DIR_TEST(overlapping_misses_share_one_fetch),
		CACHE_DIR_TEST(a_failing_fetch_fails_its_readers_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
