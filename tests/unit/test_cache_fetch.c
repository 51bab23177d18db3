/* SPDX-License-Identifier: Apache-2.0 */
/* How misses are fetched: when readers are served, what is asked of the image below, what happens
 * when it fails, and how waiting ends. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE MIB(64)
#define SEED 3

struct bed {
	struct fake_image *fake;
	struct cache *cache;
	struct image *img;
};

static struct bed make(const char *dir, bool readahead)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = !readahead };
	struct bed b = { .fake = fake_image_new(SIZE, SEED, NULL) };

	assert_int_equal(cache_open(&opts, &b.cache, NULL), 0);
	assert_int_equal(cache_image_open(b.cache, "k", &b.fake->img, &b.img, NULL), 0);
	return b;
}

static void unmake(struct bed *b)
{
	image_close(b->img);
	cache_close(b->cache);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

struct reader {
	pthread_t thread;
	struct image *img;
	uint64_t off;
	size_t len;
	_Atomic bool done;
	int result;
	double end_ms;
};

static void *read_once(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(r->len);

	r->result = image_read_at(r->img, buf, r->len, r->off, NULL);
	r->end_ms = now_ms();
	if (r->result == 0 && !fake_matches(buf, SEED, r->off, r->len)) {
		r->result = 1;
	}
	free(buf);
	r->done = true;
	return NULL;
}

static void start(struct reader *r, const struct bed *b, uint64_t off, size_t len)
{
	*r = (struct reader){ .img = b->img, .off = off, .len = len };
	pthread_create(&r->thread, NULL, read_once, r);
}

static int join(struct reader *r)
{
	pthread_join(r->thread, NULL);
	return r->result;
}

static void wait_for_readers(const struct bed *b, uint64_t n)
{
	while (cache_check_count(b->img, "misses") + cache_check_count(b->img, "joined") < n) {
		usleep(500);
	}
}

static void a_reader_is_served_when_its_own_bytes_are_there(void **state)
{
	struct bed b = make(*state, false);
	struct reader whole;
	struct reader first;
	struct reader middle;

	b.fake->rate = MIB(8); /* the fill takes half a second */
	start(&whole, &b, 0, MIB(4));
	wait_for_readers(&b, 1);
	start(&first, &b, 100, 1000);
	start(&middle, &b, MIB(1), 1000);
	assert_int_equal(join(&first), 0);
	assert_false(whole.done);
	assert_int_equal(join(&middle), 0);
	assert_false(whole.done);
	assert_int_equal(join(&whole), 0);
	assert_true(first.end_ms < middle.end_ms && middle.end_ms < whole.end_ms);
	assert_int_equal(b.fake->transfers, 1);
	unmake(&b);
}

static void what_arrived_before_a_failure_is_served_and_kept(void **state)
{
	struct bed b = make(*state, false);
	struct reader whole;
	struct reader early;
	struct reader late;

	b.fake->gate_closed = true;
	b.fake->fail_next = 1;
	b.fake->fail_after = MIB(1) + 100;
	start(&whole, &b, 0, MIB(4));
	wait_for_readers(&b, 1);
	start(&early, &b, MIB(1), 100);
	start(&late, &b, MIB(1), 101);
	wait_for_readers(&b, 3);
	b.fake->gate_closed = false;
	assert_int_equal(join(&early), 0);
	assert_int_equal(join(&late), -EIO);
	assert_int_equal(join(&whole), -EIO);
	while (cache_check_count(b.img, "present_bytes") < MIB(1)) {
		usleep(500);
	}
	assert_int_equal(cache_check_count(b.img, "present_bytes"), MIB(1));
	/* The next read simply tries anew. */
	start(&late, &b, 0, MIB(4));
	assert_int_equal(join(&late), 0);
	assert_int_equal(b.fake->bytes, MIB(4) + 100);
	unmake(&b);
}

static void a_failure_is_reported_each_time_and_never_sticks(void **state)
{
	struct bed b = make(*state, true);
	struct reader r;

	b.fake->fail_next = 1000;
	b.fake->fail_code = -ESTALE;
	for (unsigned int i = 0; i < 20; i++) {
		start(&r, &b, i % 3 * MIB(1), 4096);
		assert_int_equal(join(&r), -ESTALE);
	}
	/* Nothing is fetched ahead of nobody while all fails. */
	assert_true(b.fake->transfers <= 30);
	b.fake->fail_next = 0;
	start(&r, &b, 0, 4096);
	assert_int_equal(join(&r), 0);
	unmake(&b);
}

static void what_is_present_is_served_when_the_source_is_gone(void **state)
{
	struct bed b = make(*state, false);
	struct reader r;

	start(&r, &b, 0, MIB(1));
	assert_int_equal(join(&r), 0);
	while (cache_check_count(b.img, "present_bytes") < MIB(1)) {
		usleep(500);
	}
	b.fake->fail_next = 1000;
	b.fake->fail_code = -ETIMEDOUT;
	start(&r, &b, 0, MIB(1));
	assert_int_equal(join(&r), 0);
	start(&r, &b, MIB(1) - 1, 2);
	assert_int_equal(join(&r), -ETIMEDOUT);
	unmake(&b);
}

static void scattered_readers_fetch_at_once(void **state)
{
	struct bed b = make(*state, true);
	struct reader readers[32];

	b.fake->gate_closed = true;
	for (unsigned int i = 0; i < 32; i++) {
		start(&readers[i], &b, i * MIB(2) + MIB(1) * (i % 2), 4096);
		wait_for_readers(&b, i + 1);
	}
	while (b.fake->now < 20) {
		usleep(500);
	}
	b.fake->gate_closed = false;
	for (unsigned int i = 0; i < 32; i++) {
		assert_int_equal(join(&readers[i]), 0);
	}
	unmake(&b);
}

static void a_reader_does_not_wait_behind_what_is_fetched_ahead(void **state)
{
	struct bed b = make(*state, true);
	struct reader r;
	unsigned int hinted = 0;

	b.fake->gate_closed = true;
	image_prefetch(b.img, 0, MIB(32));
	/* Some fetches for the hint, but not all of it at once. */
	while (b.fake->now < 4 || b.fake->now != hinted) {
		hinted = b.fake->now;
		usleep(20000);
	}
	assert_in_range(hinted, 4, 8);
	start(&r, &b, MIB(60), 4096);
	wait_for_readers(&b, 1);
	for (unsigned int i = 0; i < 2000 && b.fake->now == hinted; i++) {
		usleep(500);
	}
	assert_int_equal(b.fake->now, hinted + 1);
	b.fake->gate_closed = false;
	assert_int_equal(join(&r), 0);
	while (cache_check_count(b.img, "present_bytes") < MIB(32)) {
		usleep(500);
	}
	start(&r, &b, 0, MIB(32));
	assert_int_equal(join(&r), 0);
	assert_true(b.fake->bytes < MIB(40));
	unmake(&b);
}

/* Who reads by hints says again and again what is under way: that displaces nothing. */
static void what_is_hinted_at_twice_is_hinted_at_once(void **state)
{
	struct bed b = make(*state, true);

	b.fake->gate_closed = true;
	image_prefetch(b.img, 0, MIB(24));
	for (uint64_t i = 0; i < 100; i++) {
		image_prefetch(b.img, MIB(i * 7 % 24) + 4096, 100000);
	}
	image_prefetch(b.img, MIB(40), MIB(1));
	b.fake->gate_closed = false;
	while (cache_check_count(b.img, "present_bytes") < MIB(25)) {
		usleep(500);
	}
	assert_int_equal(b.fake->bytes, MIB(25));
	unmake(&b);
}

static void a_stream_is_fetched_ahead_of_its_reader(void **state)
{
	struct bed b = make(*state, true);
	uint8_t *buf = malloc(KIB(128));
	unsigned int waits = 0;
	uint64_t planned = 0;

	b.fake->delay_us = 5000;
	for (uint64_t off = 0; off < MIB(32); off += KIB(128)) {
		uint64_t before = cache_check_count(b.img, "waits");

		assert_int_equal(image_read_at(b.img, buf, KIB(128), off, NULL), 0);
		assert_true(fake_matches(buf, SEED, off, KIB(128)));
		waits += cache_check_count(b.img, "waits") > before;
		usleep(1000); /* as a reader that does something with it */
	}
	assert_true(waits < 40);
	/* Nothing came twice, and nothing but what is ahead of the reader came in vain. */
	assert_true(b.fake->bytes <= MIB(64));
	for (unsigned int i = 0; i < 4000; i++) {
		planned = cache_check_count(b.img, "bytes_demanded") +
			  cache_check_count(b.img, "bytes_prefetched");
		if (b.fake->bytes == planned) {
			break;
		}
		usleep(500);
	}
	assert_int_equal(b.fake->bytes, planned);
	free(buf);
	unmake(&b);
}

static void memory_in_flight_is_bounded(void **state)
{
	struct bed b = make(*state, true);
	struct reader r;

	b.fake->gate_closed = true;
	for (uint64_t off = 0; off < MIB(64); off += MIB(8)) {
		image_prefetch(b.img, off, MIB(8));
	}
	start(&r, &b, 0, MIB(64));
	wait_for_readers(&b, 1);
	usleep(20000);
	assert_true(b.fake->now <= 32);
	b.fake->gate_closed = false;
	assert_int_equal(join(&r), 0);
	assert_int_equal(b.fake->bytes, MIB(64));
	unmake(&b);
}

static void closing_does_not_wait_for_a_dead_network(void **state)
{
	struct bed b = make(*state, true);
	struct reader readers[4];
	double began;

	b.fake->gate_closed = true;
	for (unsigned int i = 0; i < 4; i++) {
		start(&readers[i], &b, i * MIB(10), MIB(1));
	}
	wait_for_readers(&b, 4);
	image_prefetch(b.img, MIB(50), MIB(8));
	began = now_ms();
	image_interrupt(b.img);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(join(&readers[i]), -ECANCELED);
	}
	unmake(&b);
	assert_true(now_ms() - began < 2000);
}

static void closing_forgets_what_is_fetched_ahead(void **state)
{
	for (unsigned int i = 0; i < 30; i++) {
		struct bed b = make(*state, true);
		uint8_t buf[4096];

		b.fake->delay_us = 300;
		b.fake->rate = MIB(50);
		image_prefetch(b.img, i * MIB(1), MIB(20));
		assert_int_equal(image_read_at(b.img, buf, sizeof(buf), i * 777777, NULL), 0);
		assert_true(fake_matches(buf, SEED, i * 777777, sizeof(buf)));
		unmake(&b);
	}
}

static void an_image_without_a_version_starts_empty_every_time(void **state)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct cache_opts opts = { .dir = *state, .no_readahead = true };
		struct bed b = { .fake = fake_image_new(SIZE, SEED, NULL) };
		uint8_t buf[4096];

		b.fake->img.flags = IMAGE_UNVERSIONED;
		assert_int_equal(cache_open(&opts, &b.cache, NULL), 0);
		assert_int_equal(cache_image_open(b.cache, "k", &b.fake->img, &b.img, NULL), 0);
		assert_int_equal(image_read_at(b.img, buf, sizeof(buf), 0, NULL), 0);
		assert_int_equal(b.fake->transfers, 1);
		unmake(&b);
	}
}

static void two_images_of_one_object_share_its_fetches(void **state)
{
	struct bed b = make(*state, false);
	struct fake_image *fake = fake_image_new(SIZE, SEED, NULL);
	struct bed c = { .fake = fake, .cache = b.cache };
	struct reader one;
	struct reader two;

	assert_int_equal(cache_image_open(c.cache, "k", &fake->img, &c.img, NULL), 0);
	b.fake->delay_us = 30000;
	fake->delay_us = 30000;
	start(&one, &b, 0, MIB(1));
	while (b.fake->now == 0) {
		usleep(100);
	}
	start(&two, &c, 0, MIB(1));
	assert_int_equal(join(&one), 0);
	assert_int_equal(join(&two), 0);
	assert_int_equal(b.fake->bytes, MIB(1));
	assert_int_equal(fake->bytes, 0);
	image_close(c.img);
	unmake(&b);
}

/* Streams only half of what it is asked for, and calls it done. */
static int end_early(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e)
{
	uint8_t zeros[512] = { 0 };

	(void)img;
	(void)len;
	(void)e;
	return sink(ctx, off, zeros, sizeof(zeros));
}

static int read_zeros(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)img;
	(void)off;
	(void)e;
	memset(buf, 0, len);
	return 0;
}

static void free_plain(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops early_ops = {
	.name = "early",
	.read_at = read_zeros,
	.stream_at = end_early,
	.destroy = free_plain,
};

static void a_transfer_that_ends_early_is_an_error(void **state)
{
	struct cache_opts opts = { .dir = *state };
	struct image *below = calloc(1, sizeof(*below));
	struct err e = { 0 };
	struct cache *c;
	struct image *img;
	uint8_t buf[4096];

	assert_int_equal(image_init(below, &early_ops, NULL, MIB(1), "early"), 0);
	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	assert_int_equal(cache_image_open(c, "k", below, &img, NULL), 0);
	assert_int_equal(image_read_at(img, buf, 512, 0, &e), 0);
	assert_int_equal(image_read_at(img, buf, sizeof(buf), 0, &e), -EIO);
	assert_non_null(strstr(e.text, "ended early"));
	image_close(img);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(a_reader_is_served_when_its_own_bytes_are_there),
		CACHE_DIR_TEST(what_arrived_before_a_failure_is_served_and_kept),
		CACHE_DIR_TEST(a_failure_is_reported_each_time_and_never_sticks),
		CACHE_DIR_TEST(what_is_present_is_served_when_the_source_is_gone),
		CACHE_DIR_TEST(scattered_readers_fetch_at_once),
		CACHE_DIR_TEST(a_reader_does_not_wait_behind_what_is_fetched_ahead),
		CACHE_DIR_TEST(what_is_hinted_at_twice_is_hinted_at_once),
		CACHE_DIR_TEST(a_stream_is_fetched_ahead_of_its_reader),
		CACHE_DIR_TEST(memory_in_flight_is_bounded),
		CACHE_DIR_TEST(closing_does_not_wait_for_a_dead_network),
		CACHE_DIR_TEST(closing_forgets_what_is_fetched_ahead),
		CACHE_DIR_TEST(an_image_without_a_version_starts_empty_every_time),
		CACHE_DIR_TEST(a_transfer_that_ends_early_is_an_error),
		CACHE_DIR_TEST(two_images_of_one_object_share_its_fetches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
