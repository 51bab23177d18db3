/* SPDX-License-Identifier: Apache-2.0 */
/* Images that can only be read from their beginning on. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE (MIB(8) + 99)
#define SEED 9

static struct cache *open_cache(const char *dir, uint64_t max_size)
{
	struct cache_opts opts = { .dir = dir, .max_size = max_size };
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

static struct fake_image *source(void)
{
	struct fake_image *f = fake_image_new(SIZE, SEED, NULL);

	f->img.flags = IMAGE_SEQUENTIAL;
	return f;
}

static void wait_until_whole(struct image *img)
{
	while (cache_check_count(img, "present_bytes") < SIZE) {
		usleep(1000);
	}
}

static void one_stream_serves_all_readers(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	assert_int_equal(f->transfers, 0);
	cache_check_read(img, SEED, SIZE - 10, 10);
	cache_check_read(img, SEED, 0, SIZE);
	cache_check_read(img, SEED, MIB(3), 5000);
	wait_until_whole(img);
	assert_int_equal(f->transfers, 1);
	assert_int_equal(f->bytes, SIZE);
	image_close(img);
	/* And it is all there the next time. */
	f = source();
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(f->transfers, 0);
	image_close(img);
	cache_close(c);
}

static void it_goes_on_where_it_was_interrupted(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;

	f->rate = MIB(10);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_read(img, SEED, MIB(2), 10);
	image_close(img);
	f = source();
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	assert_true(cache_check_count(img, "present_bytes") > MIB(1));
	cache_check_read(img, SEED, 0, MIB(1));
	assert_int_equal(f->transfers, 0);
	cache_check_read(img, SEED, SIZE - 1, 1);
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(f->transfers, 1);
	assert_true(f->bytes <= SIZE - MIB(1));
	image_close(img);
	cache_close(c);
}

static void a_broken_stream_fails_its_readers_and_starts_again(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct err e = { 0 };
	struct image *img;
	uint8_t byte;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	f->fail_next = 1;
	f->fail_after = MIB(1);
	f->fail_code = -ECONNRESET;
	assert_int_equal(image_read_at(img, &byte, 1, MIB(5), &e), -ECONNRESET);
	assert_non_null(strstr(e.text, "fake failure"));
	cache_check_read(img, SEED, 0, MIB(1));
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(f->transfers, 2);
	image_close(img);
	cache_close(c);
}

static void many_readers_at_once_are_served(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;

	f->rate = MIB(40);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_crowd(img, SEED, SIZE);
	assert_int_equal(f->transfers, 1);
	image_close(img);
	cache_close(c);
}

/* Nothing can be kept: slow, but right. */
static void without_room_readers_still_get_their_bytes(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct rlimit before;
	struct rlimit none;
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	none = before;
	none.rlim_cur = MIB(1);
	setrlimit(RLIMIT_FSIZE, &none);
	cache_check_read(img, SEED, MIB(4), MIB(1));
	cache_check_read(img, SEED, MIB(2), MIB(1));
	cache_check_read(img, SEED, 0, SIZE);
	cache_check_crowd(img, SEED, SIZE);
	assert_true(cache_check_count(img, "bypassed") > 0);
	setrlimit(RLIMIT_FSIZE, &before);
	image_close(img);
	cache_close(c);
}

static void in_memory_it_must_fit(void **state)
{
	struct cache *c = open_cache(NULL, MIB(4));
	struct fake_image *f = source();
	struct err e = { 0 };
	struct image *img;

	(void)state;
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "cache directory"));
	cache_close(c);
	c = open_cache(NULL, MIB(16));
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, &e), 0);
	cache_check_crowd(img, SEED, SIZE);
	assert_int_equal(f->transfers, 1);
	image_close(img);
	cache_close(c);
}

static void closing_stops_the_stream(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;
	pthread_t reader;
	void *failed;

	f->gate_closed = true;
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	pthread_create(&reader, NULL, cache_check_last_byte, img);
	while (f->now == 0) {
		usleep(100);
	}
	image_interrupt(img);
	pthread_join(reader, &failed);
	assert_non_null(failed);
	image_close(img);
	cache_close(c);
}

static void eviction_spares_what_can_only_be_streamed(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;
	uint64_t freed;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	cache_check_read(img, SEED, 0, SIZE);
	wait_until_whole(img);
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(cache_check_count(img, "present_bytes"), SIZE);
	image_close(img);
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	assert_true(freed >= SIZE);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(one_stream_serves_all_readers),
		CACHE_DIR_TEST(it_goes_on_where_it_was_interrupted),
		CACHE_DIR_TEST(a_broken_stream_fails_its_readers_and_starts_again),
		CACHE_DIR_TEST(many_readers_at_once_are_served),
		CACHE_DIR_TEST(without_room_readers_still_get_their_bytes),
		cmocka_unit_test(in_memory_it_must_fit),
		CACHE_DIR_TEST(closing_stops_the_stream),
		CACHE_DIR_TEST(eviction_spares_what_can_only_be_streamed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
