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
#include "core/report.h"
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

static uint64_t reported(struct image *img, const char *key)
{
	struct report r = REPORT_INIT;
	uint64_t n;

	image_report(img, &r);
	n = report_find(&r, "cache", key)->number;
	report_clear(&r);
	return n;
}

static void check(struct image *img, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct err e = { 0 };

	assert_int_equal(image_read_at(img, buf, len, off, &e), 0);
	assert_true(fake_matches(buf, SEED, off, len));
	free(buf);
}

static void wait_until_whole(struct image *img)
{
	while (reported(img, "present_bytes") < SIZE) {
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
	check(img, SIZE - 10, 10);
	check(img, 0, SIZE);
	check(img, MIB(3), 5000);
	wait_until_whole(img);
	assert_int_equal(f->transfers, 1);
	assert_int_equal(f->bytes, SIZE);
	image_close(img);
	/* And it is all there the next time. */
	f = source();
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	check(img, 0, SIZE);
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
	check(img, MIB(2), 10);
	image_close(img);
	f = source();
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	assert_true(reported(img, "present_bytes") > MIB(1));
	check(img, 0, MIB(1));
	assert_int_equal(f->transfers, 0);
	check(img, SIZE - 1, 1);
	check(img, 0, SIZE);
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
	check(img, 0, MIB(1));
	check(img, 0, SIZE);
	assert_int_equal(f->transfers, 2);
	image_close(img);
	cache_close(c);
}

struct reader {
	pthread_t thread;
	struct image *img;
	unsigned int rand;
	bool right;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(KIB(300));

	r->right = true;
	for (unsigned int i = 0; i < 40; i++) {
		uint64_t off = (uint64_t)(unsigned int)rand_r(&r->rand) % SIZE;
		size_t len = min_u64((unsigned int)rand_r(&r->rand) % KIB(300) + 1, SIZE - off);

		r->right &= image_read_at(r->img, buf, len, off, NULL) == 0 &&
			    fake_matches(buf, SEED, off, len);
	}
	free(buf);
	return NULL;
}

static void read_by_many(struct image *img)
{
	struct reader readers[8];

	for (unsigned int i = 0; i < 8; i++) {
		readers[i] = (struct reader){ .img = img, .rand = i };
		pthread_create(&readers[i].thread, NULL, read_at_random, &readers[i]);
	}
	for (unsigned int i = 0; i < 8; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].right);
	}
}

static void many_readers_at_once_are_served(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct image *img;

	f->rate = MIB(40);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	read_by_many(img);
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
	check(img, MIB(4), MIB(1));
	check(img, MIB(2), MIB(1));
	check(img, 0, SIZE);
	read_by_many(img);
	assert_true(reported(img, "bypassed") > 0);
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
	read_by_many(img);
	assert_int_equal(f->transfers, 1);
	image_close(img);
	cache_close(c);
}

static void closing_stops_the_stream(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct fake_image *f = source();
	struct reader r = { .rand = 1 };
	struct image *img;

	f->gate_closed = true;
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	r.img = img;
	pthread_create(&r.thread, NULL, read_at_random, &r);
	while (f->now == 0) {
		usleep(100);
	}
	image_interrupt(img);
	pthread_join(r.thread, NULL);
	assert_false(r.right);
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
	check(img, 0, SIZE);
	wait_until_whole(img);
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(reported(img, "present_bytes"), SIZE);
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
