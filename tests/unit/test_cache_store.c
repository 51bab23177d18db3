/* SPDX-License-Identifier: Apache-2.0 */
/* The cache directory: who may have it, how large it gets, what is listed and dropped. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/atfile.h"
#include "cache/cache.h"
#include "cache/evict.h"
#include "cache/store.h"
#include "core/blobs.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE MIB(16)
#define SEED 21

static struct cache *open_cache(const char *dir, uint64_t max_size, uint64_t min_free)
{
	struct cache_opts opts = {
		.dir = dir,
		.max_size = max_size,
		.min_free = min_free,
		.no_readahead = true,
	};
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

static struct image *open_image(struct cache *c, const char *key, uint64_t seed)
{
	struct image *img;

	assert_int_equal(
		cache_image_open(c, key, &fake_image_new(SIZE, seed, NULL)->img, &img, NULL), 0);
	return img;
}

static char *mode(struct image *img)
{
	struct report r = REPORT_INIT;
	char *text;

	image_report(img, &r);
	text = strdup(report_find(&r, "cache", "mode")->text);
	report_clear(&r);
	return text;
}

static void check_all(struct image *img, uint64_t seed)
{
	for (uint64_t off = 0; off < SIZE; off += MIB(1)) {
		cache_check_read(img, seed, off, MIB(1));
	}
}

/* Whether a cache on @dir works, and in which mode. */
static void expect_mode(const char *dir, const char *want)
{
	struct cache *c = open_cache(dir, 0, 0);
	struct image *img = open_image(c, "k", SEED);
	char *have = mode(img);

	assert_string_equal(have, want);
	cache_check_read(img, SEED, 12345, 100000);
	free(have);
	image_close(img);
	cache_close(c);
}

static void a_directory_that_others_may_write_is_refused(void **state)
{
	const char *dir = *state;
	struct store *s;
	struct err e = { 0 };

	assert_int_equal(chmod(dir, 0770), 0);
	assert_int_equal(store_open(dir, &s, &e), -EACCES);
	assert_non_null(strstr(e.text, dir));
	assert_non_null(strstr(e.text, "writable by others"));
	expect_mode(dir, "memory");
	assert_int_equal(chmod(dir, 0755), 0);
	expect_mode(dir, "disk");
	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 12345, 12345), 0);
		assert_int_equal(store_open(dir, &s, &e), -EACCES);
		assert_non_null(strstr(e.text, "another user"));
		expect_mode(dir, "memory");
		assert_int_equal(chown(dir, 0, 0), 0);
	}
}

static void a_directory_of_another_version_is_not_touched(void **state)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/VERSION", (char *)*state);
	f = fopen(path, "we");
	fputs("lazydisk-cache 2\n", f);
	fclose(f);
	expect_mode(*state, "memory");
	snprintf(path, sizeof(path), "%s/obj", (char *)*state);
	assert_int_equal(access(path, F_OK), -1);
}

static void directories_are_made_private(void **state)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b/c", (char *)*state);
	expect_mode(path, "disk");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void a_place_that_cannot_be_made_means_memory(void **state)
{
	(void)state;
	expect_mode("/proc/nowhere/cache", "memory");
	expect_mode("/dev/null", "memory");
}

static int count_entry(void *ctx, const struct cache_entry *entry)
{
	struct cache_entry *copies = ctx;
	size_t i = 0;

	while (copies[i].key) {
		i++;
	}
	copies[i] = *entry;
	copies[i].key = strdup(entry->key);
	copies[i].id = strdup(entry->id);
	return 0;
}

static void objects_are_listed_newest_first_and_dropped(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);
	struct cache_entry list[4] = { { 0 } };
	struct image *img = open_image(c, "key one?x=%20\n", 1);
	char path[512];

	cache_check_read(img, 1, 0, MIB(3));
	image_close(img);
	usleep(1100000);
	img = open_image(c, "two", 2);
	check_all(img, 2);
	while (cache_check_count(img, "present_bytes") < SIZE) {
		usleep(1000);
	}
	assert_int_equal(cache_list(c, count_entry, list, NULL), 0);
	assert_string_equal(list[0].key, "two");
	assert_string_equal(list[0].id, "fake-2");
	assert_int_equal(list[0].size, SIZE);
	assert_int_equal(list[0].present, SIZE);
	assert_in_range(list[0].disk_used, SIZE, SIZE + MIB(1));
	assert_true(list[0].in_use);
	assert_string_equal(list[1].key, "key one?x=%20\n");
	assert_int_equal(list[1].present, MIB(3));
	assert_false(list[1].in_use);
	assert_false(list[1].corrupt);
	assert_true(list[1].last_used > 0 && list[1].last_used <= list[0].last_used);
	assert_null(list[2].key);
	assert_int_equal(cache_drop(c, "key one?x=%20\n", NULL), 0);
	assert_int_equal(cache_drop(c, "key one?x=%20\n", NULL), -ENOENT);
	assert_int_equal(cache_drop(c, "three", NULL), -ENOENT);
	image_close(img);
	/* A damaged object is listed, and dropped by the name of its directory. */
	for (size_t i = 0; i < 2; i++) {
		free((void *)(uintptr_t)list[i].key);
		free((void *)(uintptr_t)list[i].id);
		list[i].key = NULL;
	}
	{
		char hash[STORE_HASH + 1];

		store_hash("two", hash);
		snprintf(path, sizeof(path), "%s/obj/%.2s/%s/meta", (char *)*state, hash, hash + 2);
		assert_int_equal(truncate(path, 10), 0);
		assert_int_equal(cache_list(c, count_entry, list, NULL), 0);
		assert_true(list[0].corrupt);
		assert_string_equal(list[0].key, hash);
		assert_int_equal(cache_drop(c, list[0].key, NULL), 0);
		assert_int_equal(cache_drop(c, list[0].key, NULL), -ENOENT);
		free((void *)(uintptr_t)list[0].key);
		free((void *)(uintptr_t)list[0].id);
	}
	cache_close(c);
}

static int stop_at_once(void *ctx, const struct cache_entry *entry)
{
	(void)ctx;
	(void)entry;
	return -ECANCELED;
}

static void a_listing_stops_when_told(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);

	assert_int_equal(cache_list(c, stop_at_once, NULL, NULL), 0);
	image_close(open_image(c, "a", 1));
	assert_int_equal(cache_list(c, stop_at_once, NULL, NULL), -ECANCELED);
	cache_close(c);
}

static uint64_t used(const char *dir)
{
	struct store *s;
	uint64_t n;

	assert_int_equal(store_open(dir, &s, NULL), 0);
	n = evict_used(s);
	store_close(s);
	return n;
}

static void the_oldest_goes_first(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);
	struct cache_known known;
	uint64_t freed = 0;

	for (unsigned int i = 1; i <= 3; i++) {
		char key[8];
		struct image *img;

		snprintf(key, sizeof(key), "%u", i);
		img = open_image(c, key, i);
		check_all(img, i);
		image_close(img);
		usleep(20000);
	}
	assert_int_equal(cache_prune(c, 2 * SIZE, &freed, NULL), 0);
	assert_true(freed >= SIZE);
	assert_true(used(*state) <= 2 * SIZE);
	assert_int_equal(cache_peek(c, "1", &known, NULL), -ENOENT);
	/* Half of the next: what is left of it is still right. */
	assert_int_equal(cache_prune(c, SIZE + SIZE / 2, &freed, NULL), 0);
	assert_true(used(*state) <= SIZE + SIZE / 2);
	assert_true(used(*state) >= SIZE);
	for (unsigned int i = 2; i <= 3; i++) {
		char key[8];
		struct image *img;

		snprintf(key, sizeof(key), "%u", i);
		img = open_image(c, key, i);
		assert_in_range(
			cache_check_count(img, "present_bytes"), i == 3 ? SIZE : SIZE / 4, SIZE);
		check_all(img, i);
		image_close(img);
	}
	cache_close(c);
}

static void the_size_limit_holds_while_filling(void **state)
{
	struct cache *c = open_cache(*state, MIB(8), 0);
	struct image *img = open_image(c, "k", SEED);
	uint64_t most = 0;

	for (unsigned int round = 0; round < 4; round++) {
		for (uint64_t off = 0; off < SIZE; off += MIB(1)) {
			cache_check_read(img, SEED, off, MIB(1));
			most = max_u64(most, used(*state));
		}
	}
	/* What is being stored while room is made comes on top. */
	assert_true(most <= MIB(8) + MIB(4));
	assert_true(cache_check_count(img, "present_bytes") > 0);
	assert_int_equal(cache_check_count(img, "torn"), 0);
	image_close(img);
	cache_close(c);
}

struct reader {
	pthread_t thread;
	struct image *img;
	unsigned int rand;
	_Atomic bool *stop;
	bool right;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(KIB(300));

	r->right = true;
	while (!*r->stop) {
		uint64_t off = (uint64_t)(unsigned int)rand_r(&r->rand) % SIZE;
		size_t len = min_u64((unsigned int)rand_r(&r->rand) % KIB(300) + 1, SIZE - off);

		r->right &= image_read_at(r->img, buf, len, off, NULL) == 0 &&
			    fake_matches(buf, SEED, off, len);
	}
	free(buf);
	return NULL;
}

static void readers_never_see_a_hole_as_data(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);
	struct image *img = open_image(c, "k", SEED);
	struct reader readers[4];
	_Atomic bool stop = false;
	uint64_t total = 0;

	for (unsigned int i = 0; i < 4; i++) {
		readers[i] = (struct reader){ .img = img, .rand = i, .stop = &stop };
		pthread_create(&readers[i].thread, NULL, read_at_random, &readers[i]);
	}
	for (unsigned int i = 0; i < 300; i++) {
		uint64_t freed;

		assert_int_equal(cache_prune(c, MIB(i % 8), &freed, NULL), 0);
		total += freed;
		usleep(3000);
	}
	stop = true;
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].right);
	}
	assert_true(total > 2 * SIZE);
	assert_int_equal(cache_check_count(img, "torn"), 0);
	image_close(img);
	cache_close(c);
}

/* A file system of 6 MiB, if we may mount one. */
static void a_full_disk_is_no_error(void **state)
{
	struct cache *c;
	struct image *img;

	if (mount("tmpfs", *state, "tmpfs", 0, "size=6m,mode=0700") < 0) {
		skip();
	}
	c = open_cache(*state, 0, 1);
	img = open_image(c, "k", SEED);
	check_all(img, SEED);
	check_all(img, SEED);
	assert_true(cache_check_count(img, "bypassed") > 0);
	assert_true(cache_check_count(img, "present_bytes") > 0);
	image_close(img);
	/* With nothing left at all, not even an object can be made. */
	cache_close(c);
	c = open_cache(*state, 0, 1);
	img = open_image(c, "k", SEED);
	check_all(img, SEED);
	image_close(img);
	cache_close(c);
	assert_int_equal(umount(*state), 0);
}

static void a_read_only_directory_still_serves_hits(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);
	struct image *img = open_image(c, "k", SEED);
	struct fake_image *f = fake_image_new(SIZE, SEED, NULL);
	char *have;

	cache_check_read(img, SEED, 0, MIB(2));
	image_close(img);
	cache_close(c);
	if (mount(*state, *state, NULL, MS_BIND, NULL) < 0) {
		image_close(&f->img);
		skip();
	}
	assert_int_equal(mount(NULL, *state, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	c = open_cache(*state, 0, 0);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	have = mode(img);
	assert_string_equal(have, "disk");
	free(have);
	cache_check_read(img, SEED, 0, MIB(2));
	assert_int_equal(f->bytes, 0);
	check_all(img, SEED);
	check_all(img, SEED);
	assert_int_equal(f->bytes, SIZE - MIB(2));
	image_close(img);
	/* What is not there cannot be made: memory. */
	img = open_image(c, "other", SEED);
	check_all(img, SEED);
	image_close(img);
	cache_close(c);
	assert_int_equal(umount(*state), 0);
}

static void expect_record(struct blobs *b, const char *name, const char *want)
{
	struct err e = { 0 };
	void *data;
	size_t len;
	int r = blobs_get(b, name, &data, &len, &e);

	if (!want) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(len, strlen(want));
	assert_memory_equal(data, want, len);
	free(data);
}

static void records_live_with_their_object(void **state)
{
	const char *dirs[] = { *state, NULL };

	for (size_t i = 0; i < 2; i++) {
		struct cache *c = open_cache(dirs[i], 0, 0);
		struct image *img = open_image(c, "k", 1);
		struct blobs *b = cache_image_blobs(img);

		expect_record(b, "index", NULL);
		assert_int_equal(blobs_put(b, "index", "one", 3, NULL), 0);
		assert_int_equal(blobs_put(b, "index", "three", 5, NULL), 0);
		assert_int_equal(blobs_put(b, "empty", "", 0, NULL), 0);
		expect_record(b, "index", "three");
		expect_record(b, "empty", "");
		assert_int_equal(blobs_put(b, "../meta", "x", 1, NULL), -EINVAL);
		assert_int_equal(blobs_put(b, "", "x", 1, NULL), -EINVAL);
		image_close(img);
		img = open_image(c, "k", 1);
		expect_record(cache_image_blobs(img), "index", dirs[i] ? "three" : NULL);
		image_close(img);
		/* Another version: what was learned of the old one is gone. */
		img = open_image(c, "k", 2);
		expect_record(cache_image_blobs(img), "index", NULL);
		image_close(img);
		cache_close(c);
	}
}

static void what_is_given_up_is_not_verified_any_more(void **state)
{
	static const char *const verdicts[][2] = { { "sha256:12", NULL }, { "wrong", "wrong" } };
	struct cache *c = open_cache(*state, 0, 0);
	struct image *img = open_image(c, "k", SEED);
	struct blobs *b = cache_image_blobs(img);
	uint64_t freed;

	for (size_t i = 0; i < 2; i++) {
		check_all(img, SEED);
		assert_int_equal(
			blobs_put(b, "verified", verdicts[i][0], strlen(verdicts[i][0]), NULL), 0);
		assert_int_equal(cache_prune(c, MIB(32), &freed, NULL), 0);
		expect_record(b, "verified", verdicts[i][0]);
		assert_int_equal(cache_prune(c, SIZE / 2, &freed, NULL), 0);
		assert_true(freed > 0);
		expect_record(b, "verified", verdicts[i][1]);
	}
	image_close(img);
	cache_close(c);
}

static bool pin_late(void *ctx, const char *hash, uint64_t seg)
{
	(void)hash;
	(void)seg;
	cache_image_pin(ctx);
	return false;
}

static void count_gone(void *ctx, const char *hash, uint64_t granules)
{
	(void)ctx;
	(void)hash;
	(void)granules;
}

static void what_is_pinned_at_the_last_moment_stays(void **state)
{
	struct cache *c = open_cache(*state, 0, 0);
	struct image *img = open_image(c, "k", SEED);
	const struct evict_hooks hooks = { pin_late, count_gone, img };
	struct store *s;

	check_all(img, SEED);
	/* readers do not wait until what they got is stored */
	while (cache_check_count(img, "present_bytes") < SIZE) {
		usleep(1000);
	}
	assert_int_equal(store_open(*state, &s, NULL), 0);
	assert_int_equal(evict_run(s, SIZE, &hooks), 0);
	store_close(s);
	assert_int_equal(cache_check_count(img, "present_bytes"), SIZE);
	image_close(img);
	cache_close(c);
}

/* In a container the next daemon may well have the same pid. */
static void leavings_of_a_crash_with_the_same_pid_are_not_in_the_way(void **state)
{
	CLEANUP_CLOSE int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FREE char *have = NULL;
	char name[64];
	size_t len;

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "tmp.%d.%u", (int)getpid(), i);
		close(openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	assert_int_equal(atfile_replace(fd, "file", "text", 4, NULL), 0);
	assert_int_equal(atfile_read(fd, "file", 100, &have, &len, NULL), 0);
	assert_string_equal(have, "text");
	snprintf(name, sizeof(name), "tmp.%d.0", (int)getpid());
	assert_int_equal(faccessat(fd, name, F_OK, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(a_directory_that_others_may_write_is_refused),
		CACHE_DIR_TEST(a_directory_of_another_version_is_not_touched),
		CACHE_DIR_TEST(directories_are_made_private),
		cmocka_unit_test(a_place_that_cannot_be_made_means_memory),
		CACHE_DIR_TEST(objects_are_listed_newest_first_and_dropped),
		CACHE_DIR_TEST(a_listing_stops_when_told),
		CACHE_DIR_TEST(the_oldest_goes_first),
		CACHE_DIR_TEST(the_size_limit_holds_while_filling),
		CACHE_DIR_TEST(readers_never_see_a_hole_as_data),
		CACHE_DIR_TEST(a_full_disk_is_no_error),
		CACHE_DIR_TEST(a_read_only_directory_still_serves_hits),
		CACHE_DIR_TEST(records_live_with_their_object),
		CACHE_DIR_TEST(what_is_given_up_is_not_verified_any_more),
		CACHE_DIR_TEST(what_is_pinned_at_the_last_moment_stays),
		CACHE_DIR_TEST(leavings_of_a_crash_with_the_same_pid_are_not_in_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
