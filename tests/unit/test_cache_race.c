/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments that no stress test hits often enough: eviction exactly between a reader's look at the
 * map and its read of the data, and a refill exactly between an evictor's look and its hole. The
 * calls rw_pread() and fallocate() of the cache come here first (the linker's --wrap).
 */
#include "tests/unit/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE MIB(8)
#define SEED 4

/* The linker's names. NOLINTBEGIN(readability-identifier-naming) */
int __real_rw_pread(int fd, void *buf, size_t len, uint64_t off);
int __wrap_rw_pread(int fd, void *buf, size_t len, uint64_t off);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
/* NOLINTEND(readability-identifier-naming) */

struct scene {
	struct cache *cache;
	struct fake_image *fake;
	struct image *img;
	struct image *other; /* of the same object */
};

static struct scene scene;
static void (*before_pread)(void);
static void (*after_pread)(void);
static void (*before_punch)(void);
static unsigned int fired;
static pthread_t actor; /* hooks act in this thread only */

static void fire(void (**hook)(void))
{
	void (*f)(void) = *hook;

	if (f && pthread_equal(actor, pthread_self())) {
		*hook = NULL; /* once, and not within itself */
		fired++;
		f();
	}
}

int __wrap_rw_pread(int fd, void *buf, size_t len, uint64_t off)
{
	int r;

	fire(&before_pread);
	r = __real_rw_pread(fd, buf, len, off);
	fire(&after_pread);
	return r;
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		fire(&before_punch);
	}
	return __real_fallocate64(fd, mode, off, len);
}

/* Two images of one object, everything present. */
static void set_scene(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true };

	before_pread = after_pread = before_punch = NULL;
	fired = 0;
	actor = pthread_self();
	scene.fake = fake_image_new(SIZE, SEED, NULL);
	assert_int_equal(cache_open(&opts, &scene.cache, NULL), 0);
	assert_int_equal(cache_image_open(scene.cache, "k", &scene.fake->img, &scene.img, NULL), 0);
	assert_int_equal(cache_image_open(scene.cache, "k", &fake_image_new(SIZE, SEED, NULL)->img,
				 &scene.other, NULL),
		0);
	cache_check_read(scene.img, SEED, 0, SIZE);
	while (cache_check_count(scene.img, "present_bytes") < SIZE) {
		usleep(500);
	}
}

static void end_scene(void)
{
	image_close(scene.other);
	image_close(scene.img);
	cache_close(scene.cache);
}

static void evict_all(void)
{
	uint64_t freed = 0;

	assert_int_equal(cache_prune(scene.cache, 0, &freed, NULL), 0);
	assert_true(freed >= SIZE - MIB(1));
}

static void refill(void)
{
	cache_check_read(scene.other, SEED, 0, SIZE);
	while (cache_check_count(scene.other, "present_bytes") < SIZE) {
		usleep(500);
	}
}

static void eviction_between_look_and_read_is_noticed(void **state)
{
	static const struct {
		uint64_t off;
		size_t len;
	} reads[] = { { 0, 4096 }, { 65536, 65536 }, { 100, 300000 }, { SIZE - 5, 5 },
		{ 0, SIZE } };

	for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
		set_scene(*state);
		before_pread = evict_all;
		cache_check_read(scene.img, SEED, reads[i].off, reads[i].len);
		assert_int_equal(fired, 1);
		assert_int_equal(cache_check_count(scene.img, "torn"), 0);
		end_scene();
	}
}

static void evict_all_then_refill_later(void)
{
	evict_all();
	after_pread = refill;
}

/* The words are the same again when the reader looks a second time. */
static void eviction_and_refill_around_a_read_are_noticed(void **state)
{
	set_scene(*state);
	before_pread = evict_all_then_refill_later;
	cache_check_read(scene.img, SEED, 12345, 200000);
	assert_int_equal(fired, 2);
	assert_int_equal(cache_check_count(scene.img, "torn"), 0);
	end_scene();
}

static void read_what_is_being_evicted(void)
{
	cache_check_read(scene.other, SEED, MIB(4), MIB(1));
	usleep(100000); /* readers are served before their bytes are stored */
}

/* What is fetched between the evictor's look and its hole must not be believed to be stored. */
static void a_refill_between_look_and_hole_is_not_lost(void **state)
{
	uint64_t freed = 0;

	set_scene(*state);
	before_punch = read_what_is_being_evicted;
	/* One segment, the last: the evictor must not come by again and clean up. */
	assert_int_equal(cache_prune(scene.cache, MIB(5), &freed, NULL), 0);
	assert_int_equal(freed, MIB(4));
	assert_int_equal(fired, 1);
	cache_check_read(scene.other, SEED, 0, SIZE);
	cache_check_read(scene.img, SEED, 0, SIZE);
	assert_int_equal(cache_check_count(scene.img, "torn"), 0);
	assert_int_equal(cache_check_count(scene.other, "torn"), 0);
	end_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(eviction_between_look_and_read_is_noticed),
		CACHE_DIR_TEST(eviction_and_refill_around_a_read_are_noticed),
		CACHE_DIR_TEST(a_refill_between_look_and_hole_is_not_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
