/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are killed, and processes that share. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/report.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE   (MIB(3) + 4321)
#define SEED   5
#define ROUNDS 200

static struct cache *open_cache(const char *dir, uint64_t max_size)
{
	struct cache_opts opts = { .dir = dir, .max_size = max_size, .fetches = 8 };
	struct cache *c;

	if (cache_open(&opts, &c, NULL) < 0) {
		abort();
	}
	return c;
}

/* Reads at random for ever, checking what it reads. Ends with exit code 1 at a wrong byte. */
static void *read_for_ever(void *arg)
{
	struct image *img = arg;
	unsigned int seed = (unsigned int)getpid() ^ (unsigned int)(uintptr_t)pthread_self();
	uint8_t *buf = malloc(KIB(300));

	for (;;) {
		uint64_t off = (uint64_t)rand_r(&seed) % (SIZE - 1);
		size_t len = min_u64((size_t)rand_r(&seed) % KIB(300) + 1, SIZE - off);

		if (image_read_at(img, buf, len, off, NULL) < 0 ||
			!fake_matches(buf, SEED, off, len)) {
			_exit(1);
		}
	}
	return NULL;
}

/* A process that fills the cache until it is killed. */
static pid_t start_filler(const char *dir, uint64_t max_size)
{
	pid_t pid = fork();
	struct image *img;
	pthread_t threads[3];

	if (pid != 0) {
		return pid;
	}
	alarm(100);
	if (cache_image_open(open_cache(dir, max_size), "k", &fake_image_new(SIZE, SEED, NULL)->img,
		    &img, NULL) < 0) {
		_exit(2);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_create(&threads[i], NULL, read_for_ever, img);
	}
	pause();
	_exit(3);
}

static void kill_filler(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void killed_at_any_moment_no_byte_is_wrong(void **state)
{
	uint64_t kept = 0;

	srandom((unsigned int)time(NULL));
	for (unsigned int i = 0; i < ROUNDS; i++) {
		pid_t pid = start_filler(*state, 0);
		struct fake_image *f;
		struct cache *c;
		struct image *img;

		usleep((useconds_t)(random() % 15000));
		kill_filler(pid);
		c = open_cache(*state, 0);
		f = fake_image_new(SIZE, SEED, NULL);
		assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
		kept += cache_check_count(img, "present_bytes");
		cache_check_read(img, SEED, 0, SIZE);
		assert_int_equal(cache_check_count(img, "torn"), 0);
		image_close(img);
		assert_int_equal(cache_drop(c, "k", NULL), 0);
		cache_close(c);
	}
	assert_true(kept > 0);
}

static void killed_while_evicting_no_byte_is_wrong(void **state)
{
	for (unsigned int i = 0; i < ROUNDS / 2; i++) {
		pid_t pid = start_filler(*state, MIB(1));
		struct cache *c;
		struct image *img;

		usleep((useconds_t)(random() % 30000));
		kill_filler(pid);
		c = open_cache(*state, 0);
		assert_int_equal(cache_image_open(c, "k", &fake_image_new(SIZE, SEED, NULL)->img,
					 &img, NULL),
			0);
		cache_check_read(img, SEED, 0, SIZE);
		image_close(img);
		cache_close(c);
	}
}

static void two_processes_share_what_they_fetch(void **state)
{
	pid_t pid = start_filler(*state, 0);
	struct fake_image *f = fake_image_new(SIZE, SEED, NULL);
	struct cache *c = open_cache(*state, 0);
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	/* The other one fills it, we see that and need not fetch. */
	while (cache_check_count(img, "present_bytes") < SIZE) {
		usleep(1000);
	}
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(f->bytes, 0);
	image_close(img);
	kill_filler(pid);
	cache_close(c);
}

static void an_object_in_use_is_left_alone(void **state)
{
	struct cache *c = open_cache(*state, 0);
	struct err e = { 0 };
	struct image *img;
	struct image *other;
	struct report r = REPORT_INIT;

	assert_int_equal(
		cache_image_open(c, "k", &fake_image_new(SIZE, SEED, NULL)->img, &img, NULL), 0);
	cache_check_read(img, SEED, 0, SIZE);
	assert_int_equal(cache_drop(c, "k", &e), -EBUSY);
	assert_non_null(strstr(e.text, "in use"));
	assert_int_equal(
		cache_image_open(c, "k", &fake_image_new(SIZE, SEED + 1, NULL)->img, &other, NULL),
		0);
	image_report(other, &r);
	assert_string_equal(report_find(&r, "cache", "mode")->text, "memory");
	report_clear(&r);
	cache_check_read(other, SEED + 1, 0, SIZE);
	cache_check_read(img, SEED, 0, SIZE);
	image_close(other);
	image_close(img);
	assert_int_equal(cache_drop(c, "k", NULL), 0);
	assert_int_equal(cache_drop(c, "k", &e), -ENOENT);
	cache_close(c);
}

/* One fills with a small limit and so evicts all the time, the other reads and never does. */
static void eviction_by_another_process_is_never_seen_as_data(void **state)
{
	pid_t pid = start_filler(*state, MIB(1));
	struct cache *c = open_cache(*state, 0);
	time_t until = time(NULL) + 4;
	struct image *img;
	uint8_t *buf = malloc(KIB(200));

	assert_int_equal(
		cache_image_open(c, "k", &fake_image_new(SIZE, SEED, NULL)->img, &img, NULL), 0);
	while (time(NULL) < until) {
		uint64_t off = (uint64_t)random() % (SIZE - KIB(200));

		assert_int_equal(image_read_at(img, buf, KIB(200), off, NULL), 0);
		assert_true(fake_matches(buf, SEED, off, KIB(200)));
	}
	assert_int_equal(cache_check_count(img, "torn"), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	free(buf);
	image_close(img);
	kill_filler(pid);
	cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(killed_at_any_moment_no_byte_is_wrong),
		CACHE_DIR_TEST(killed_while_evicting_no_byte_is_wrong),
		CACHE_DIR_TEST(two_processes_share_what_they_fetch),
		CACHE_DIR_TEST(an_object_in_use_is_left_alone),
		CACHE_DIR_TEST(eviction_by_another_process_is_never_seen_as_data),
	};

	/* A process that is killed leaves the page cache alone, whatever is below it. */
	if (access("/dev/shm", W_OK) == 0) {
		setenv("TMPDIR", "/dev/shm", 0);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
