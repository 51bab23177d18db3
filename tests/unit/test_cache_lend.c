/* SPDX-License-Identifier: Apache-2.0 */
/* Lending the cache's own file: only when it is all of the image, and only as long as it stays so.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache.h"
#include "cache/map.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE    (MIB(8) + 1000)
#define SEED    31
#define WAIT_MS 10000

static struct cache *open_cache(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true };
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

static struct image *open_over(struct cache *c, struct fake_image *below)
{
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &below->img, &img, NULL), 0);
	return img;
}

static struct image *open_image(struct cache *c)
{
	return open_over(c, fake_image_new(SIZE, SEED, NULL));
}

static void read_range(struct image *img, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);

	assert_int_equal(image_read_at(img, buf, len, off, NULL), 0);
	free(buf);
}

/* Asks until it is lent, or for long enough to say that it is not. What was read last may still be
 * on its way to the disk. */
static int lend(struct image *img, int *ret_fd, unsigned int most_ms)
{
	int r = image_lend_file(img, ret_fd);

	for (unsigned int ms = 0; r == -EAGAIN && ms < most_ms; ms += 5) {
		usleep(5000);
		r = image_lend_file(img, ret_fd);
	}
	return r;
}

/* The bytes of the image, read from @fd. */
static void expect_bytes(int fd)
{
	uint8_t *buf = malloc(SIZE);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(pread(fd, buf, SIZE, 0), SIZE);
	assert_true(fake_matches(buf, SEED, 0, SIZE));
	free(buf);
}

/* The one file of that name below @dir, opened. */
static int open_file(const char *dir, const char *name)
{
	char pattern[200];
	glob_t found;
	int fd;

	snprintf(pattern, sizeof(pattern), "%s/obj/*/*/%s", dir, name);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	globfree(&found);
	return fd;
}

static void a_whole_image_is_lent(void **state)
{
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	int fd;

	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	expect_bytes(fd);
	image_return_file(img, true);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	image_return_file(img, true);
	image_close(img);
	cache_close(c);
}

static void a_part_of_an_image_is_not(void **state)
{
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	int fd;

	read_range(img, 0, SIZE - CACHE_GRANULE);
	assert_int_equal(lend(img, &fd, 100), -EAGAIN);
	image_close(img);
	cache_close(c);
}

static void what_another_run_left_is_lent_when_it_was_seen(void **state)
{
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	int fd;

	read_range(img, 0, SIZE);
	image_close(img);
	cache_close(c);

	c = open_cache(*state);
	img = open_image(c);
	assert_int_equal(lend(img, &fd, 100), -EAGAIN);
	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	expect_bytes(fd);
	image_return_file(img, true);
	image_close(img);
	cache_close(c);
}

static void memory_is_no_file(void **state)
{
	struct cache *c = open_cache(NULL);
	struct image *img = open_image(c);
	int fd;

	(void)state;
	read_range(img, 0, SIZE);
	assert_int_equal(image_lend_file(img, &fd), -EOPNOTSUPP);
	image_close(img);
	cache_close(c);
}

static void nothing_is_evicted_while_it_is_lent(void **state)
{
	struct cache *c = open_cache(*state);
	struct cache *other = open_cache(*state);
	struct image *img = open_image(c);
	uint64_t freed;
	int fd;

	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	assert_int_equal(cache_prune(other, 0, &freed, NULL), 0);
	assert_int_equal(cache_prune(c, 0, &freed, NULL), 0);
	expect_bytes(fd);
	image_return_file(img, true);

	assert_int_equal(cache_prune(other, 0, &freed, NULL), 0);
	assert_true(freed > 0);
	assert_int_equal(lend(img, &fd, 100), -EAGAIN);
	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	expect_bytes(fd);
	image_return_file(img, true);
	image_close(img);
	cache_close(other);
	cache_close(c);
}

/* Opened anew, as the kernel does for who reads past us. */
static int open_again(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

/* A reader of the file, which has been returned. */
static int lend_to_reader(struct image *img, bool closed)
{
	int reader;
	int fd;

	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	reader = open_again(fd);
	image_return_file(img, closed);
	return reader;
}

static void what_is_read_after_its_return_is_not_evicted(void **state)
{
	struct cache *c = open_cache(*state);
	struct cache *other = open_cache(*state);
	struct image *img = open_image(c);
	int reader = lend_to_reader(img, true);
	uint64_t freed;

	assert_int_equal(cache_prune(other, 0, &freed, NULL), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(cache_prune(c, SIZE / 2, &freed, NULL), 0);
	assert_int_equal(freed, 0);
	expect_bytes(reader);
	image_close(img);
	cache_close(c);

	/* Then as a whole. */
	assert_int_equal(cache_prune(other, SIZE / 2, &freed, NULL), 0);
	assert_true(freed >= SIZE);
	expect_bytes(reader);
	close(reader);
	cache_close(other);
}

static void what_nobody_reads_any_more_is_evicted_in_part(void **state)
{
	struct cache *c = open_cache(*state);
	struct cache *other = open_cache(*state);
	struct image *img = open_image(c);
	uint64_t freed;

	close(lend_to_reader(img, false));
	assert_int_equal(cache_prune(other, SIZE - MIB(1), &freed, NULL), 0);
	assert_int_equal(freed, 0); /* somebody may be about to read */
	image_close(img);
	cache_close(c);
	assert_int_equal(cache_prune(other, SIZE - MIB(1), &freed, NULL), 0);
	assert_in_range(freed, 1, MIB(5));
	cache_close(other);
}

/* So is it while it is open, once somebody has opened it anew. */
static void what_is_opened_anew_is_evicted_in_part(void **state)
{
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	uint64_t freed;

	close(lend_to_reader(img, false));
	image_close(img);
	img = open_image(c);
	assert_int_equal(cache_prune(c, SIZE - MIB(1), &freed, NULL), 0);
	assert_in_range(freed, 1, MIB(5));
	read_range(img, 0, SIZE);
	image_close(img);
	cache_close(c);
}

static void another_version_is_not_read_in_its_place(void **state)
{
	CLEANUP_FREE uint8_t *data = malloc(SIZE);
	CLEANUP_FREE uint8_t *buf = malloc(SIZE);
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	int reader = lend_to_reader(img, true);
	int file;
	int fd;

	image_close(img);
	memset(data, 7, SIZE);
	img = open_over(c, fake_image_from(data, SIZE, "another version"));
	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	expect_bytes(reader);
	file = open_file(*state, "data");
	assert_int_equal(pread(file, buf, SIZE, 0), SIZE);
	assert_memory_equal(buf, data, SIZE);
	image_return_file(img, true);
	close(file);
	close(reader);
	image_close(img);
	cache_close(c);
}

/* What is found to be wrong goes, but the space of it stays. */
static void verifying_makes_no_holes_under_a_reader(void **state)
{
	const uint64_t off = 5 * (uint64_t)CACHE_GRANULE;
	CLEANUP_FREE uint8_t *buf = malloc(CACHE_GRANULE);
	struct cache *c = open_cache(*state);
	struct image *img = open_image(c);
	int reader = lend_to_reader(img, true);
	int file = open_file(*state, "data");
	struct cache_verify_result result;

	assert_int_equal(pwrite(file, "rot", 3, (off_t)off), 3);
	assert_int_equal(cache_verify(c, &result, NULL), 0);
	assert_int_equal(result.bad, 1);
	assert_int_equal(result.leaked, 0);
	assert_int_equal(pread(reader, buf, CACHE_GRANULE, (off_t)off), CACHE_GRANULE);
	assert_true(fake_matches(buf + 3, SEED, off + 3, CACHE_GRANULE - 3));
	read_range(img, off, CACHE_GRANULE);
	close(file);
	close(reader);
	image_close(img);
	cache_close(c);
}

/* A granule of zeros is not in the file; what a crash left there in its place must not be seen. */
static void zeros_that_are_none_in_the_file_are_not_lent(void **state)
{
	CLEANUP_FREE uint8_t *data = calloc(1, SIZE);
	struct cache *c = open_cache(*state);
	struct image *img;
	int file;
	int fd;

	memset(data, 7, CACHE_GRANULE);
	img = open_over(c, fake_image_from(data, SIZE, "zeros"));
	read_range(img, 0, SIZE);
	file = open_file(*state, "data");
	assert_int_equal(pwrite(file, "x", 1, MIB(3)), 1);
	assert_int_equal(lend(img, &fd, 200), -EAGAIN);
	assert_int_equal(pwrite(file, "", 1, MIB(3)), 1);
	close(file);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	assert_int_equal(pread(fd, data, SIZE, 0), SIZE);
	assert_true(is_zero(data + CACHE_GRANULE, SIZE - CACHE_GRANULE));
	image_return_file(img, true);
	image_close(img);
	cache_close(c);
}

struct read_job {
	struct image *img;
	uint64_t off;
	size_t len;
};

static void *read_main(void *arg)
{
	const struct read_job *j = arg;

	read_range(j->img, j->off, j->len);
	return NULL;
}

/* Who fills holds a lock on the granules, against evictors. Asking for the file at that time must
 * not take it away: an evictor would punch under what is being written, and zeros would be read. */
static void asking_for_it_leaves_fills_their_locks(void **state)
{
	const uint64_t half = MIB(4);
	struct cache *c = open_cache(*state);
	struct fake_image *below = fake_image_new(SIZE, SEED, NULL);
	struct image *img = open_over(c, below);
	struct read_job job = { img, half, SIZE - half };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	pthread_t reader;
	int map;
	int fd;

	read_range(img, 0, half);
	map = open_file(*state, "map");
	below->gate_closed = true;
	assert_int_equal(pthread_create(&reader, NULL, read_main, &job), 0);
	while (fcntl(map, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK) {
		lock.l_type = F_WRLCK;
		usleep(1000);
	}
	assert_int_equal(lend(img, &fd, 100), -EAGAIN);
	lock = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_SET };
	assert_int_equal(fcntl(map, F_OFD_GETLK, &lock), 0);
	assert_int_equal(lock.l_type, F_WRLCK);
	below->gate_closed = false;
	assert_int_equal(pthread_join(reader, NULL), 0);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	expect_bytes(fd);
	image_return_file(img, true);
	close(map);
	image_close(img);
	cache_close(c);
}

static void whether_it_is_lent_shows_in_the_locks(void **state)
{
	struct map mine;
	struct map other;
	int dir = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int guard;

	assert_int_equal(map_create(dir, "map", SIZE, 1, &mine, NULL), 0);
	assert_int_equal(map_open(dir, "map", SIZE, 1, false, &other, NULL), 0);
	assert_true(map_lock(&other, 2, 2));
	assert_false(map_lock(&mine, 0, 4));
	assert_false(map_is_guarded(&mine, 0, 4)); /* somebody is fetching: worth waiting for */
	map_unlock(&other, 2, 2);
	assert_true(map_guard(&mine, dir, "map", &guard));
	assert_false(map_lock(&mine, 3, 1));
	assert_true(map_is_guarded(&mine, 3, 1));
	assert_true(map_is_guarded(&other, 0, 4));
	close(guard);
	assert_false(map_is_guarded(&other, 0, 4));
	assert_true(map_lock(&mine, 3, 1));
	map_close(&mine, false);
	map_close(&other, false);
	close(dir);
}

/* What is found to be wrong while it is lent cannot be kept anew, but is read all the same. */
/* How often somebody waited for what another may be fetching. */
static _Atomic unsigned int naps;

/* The linker's names. NOLINTBEGIN(readability-identifier-naming) */
int __real_usleep(useconds_t us);
int __wrap_usleep(useconds_t us);
/* NOLINTEND(readability-identifier-naming) */

int __wrap_usleep(useconds_t us)
{
	naps++;
	return __real_usleep(us);
}

/* Nobody is fetching it, so that nobody waits either. */
static void what_rots_while_it_is_lent_is_read_past_the_file(void **state)
{
	const uint64_t off = 5 * (uint64_t)CACHE_GRANULE;
	struct cache *c = open_cache(*state);
	struct cache *other = open_cache(*state);
	struct image *img = open_image(c);
	struct fake_image *below = fake_image_new(SIZE, SEED, NULL);
	struct image *second;
	uint8_t *buf = malloc(CACHE_GRANULE);
	int file;
	int fd;

	read_range(img, 0, SIZE);
	assert_int_equal(lend(img, &fd, WAIT_MS), 0);
	file = open_file(*state, "data");
	assert_int_equal(pwrite(file, "rot", 3, (off_t)off + 7), 3);
	second = open_over(other, below);
	naps = 0;
	assert_int_equal(image_read_at(second, buf, CACHE_GRANULE, off, NULL), 0);
	assert_int_equal(naps, 0);
	assert_true(fake_matches(buf, SEED, off, CACHE_GRANULE));
	assert_int_equal(below->transfers, 1);
	image_return_file(img, true);
	image_close(second);
	image_close(img);
	cache_close(other);
	cache_close(c);
	close(file);
	free(buf);
}

static void closing_waits_for_the_proof(void **state)
{
	for (unsigned int i = 0; i < 20; i++) {
		struct cache *c = open_cache(*state);
		struct image *img = open_image(c);
		int fd;

		read_range(img, 0, SIZE);
		if (lend(img, &fd, i) == 0) {
			image_return_file(img, true);
		}
		image_close(img);
		cache_close(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(a_whole_image_is_lent),
		CACHE_DIR_TEST(a_part_of_an_image_is_not),
		CACHE_DIR_TEST(what_another_run_left_is_lent_when_it_was_seen),
		CACHE_DIR_TEST(memory_is_no_file),
		CACHE_DIR_TEST(nothing_is_evicted_while_it_is_lent),
		CACHE_DIR_TEST(what_is_read_after_its_return_is_not_evicted),
		CACHE_DIR_TEST(what_nobody_reads_any_more_is_evicted_in_part),
		CACHE_DIR_TEST(what_is_opened_anew_is_evicted_in_part),
		CACHE_DIR_TEST(another_version_is_not_read_in_its_place),
		CACHE_DIR_TEST(verifying_makes_no_holes_under_a_reader),
		CACHE_DIR_TEST(zeros_that_are_none_in_the_file_are_not_lent),
		CACHE_DIR_TEST(asking_for_it_leaves_fills_their_locks),
		CACHE_DIR_TEST(whether_it_is_lent_shows_in_the_locks),
		CACHE_DIR_TEST(what_rots_while_it_is_lent_is_read_past_the_file),
		CACHE_DIR_TEST(closing_waits_for_the_proof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
