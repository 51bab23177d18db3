/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever happened to the files of a cache, a reader gets the image's bytes. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache.h"
#include "cache/disk_object.h"
#include "core/bytes.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SIZE (MIB(6) + 777)
#define SEED 11

static struct cache *open_cache(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true };
	struct cache *c;

	assert_int_equal(cache_open(&opts, &c, NULL), 0);
	return c;
}

/* A third of it zeros, so that there are granules of both kinds. */
static struct fake_image *source(uint64_t seed)
{
	struct fake_image *f = fake_image_new(SIZE, seed, NULL);
	uint8_t *data = malloc(SIZE);
	struct fake_image *half;

	for (uint64_t i = 0; i < SIZE; i++) {
		data[i] = i >= MIB(2) && i < MIB(4) ? 0 : fake_byte(seed, i);
	}
	half = fake_image_from(data, SIZE, f->img.id);
	free(data);
	image_close(&f->img);
	return half;
}

static void check_all(struct image *img, uint64_t seed)
{
	uint8_t *buf = malloc(SIZE);

	assert_int_equal(image_read_at(img, buf, SIZE, 0, NULL), 0);
	assert_true(fake_matches(buf, seed, 0, MIB(2)));
	assert_true(is_zero(buf + MIB(2), MIB(2)));
	assert_true(fake_matches(buf + MIB(4), seed, MIB(4), SIZE - MIB(4)));
	free(buf);
}

/* Fills the cache with everything and closes it. */
static void fill(const char *dir)
{
	struct cache *c = open_cache(dir);
	struct image *img;

	assert_int_equal(cache_image_open(c, "k", &source(SEED)->img, &img, NULL), 0);
	check_all(img, SEED);
	image_close(img);
	cache_close(c);
}

struct outcome {
	uint64_t bytes; /* fetched */
	uint64_t torn;
};

/* Reads everything, in pieces first (so that parts of granules are verified, too). */
static struct outcome reread(const char *dir)
{
	struct cache *c = open_cache(dir);
	struct fake_image *f = source(SEED);
	struct outcome out;
	struct image *img;
	uint8_t buf[100];

	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	for (uint64_t off = 1000; off < MIB(2); off += 131000) {
		assert_int_equal(image_read_at(img, buf, sizeof(buf), off, NULL), 0);
		assert_true(fake_matches(buf, SEED, off, sizeof(buf)));
	}
	check_all(img, SEED);
	out = (struct outcome){ f->bytes, cache_check_count(img, "torn") };
	image_close(img);
	cache_close(c);
	return out;
}

/* As after somebody found all of it to be what it should be. */
static void make_verdict(const char *dir)
{
	char *path = cache_check_file(dir, "blob.verified");
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs("sha256:12", f);
	fclose(f);
	free(path);
}

static int open_file(const char *dir, const char *name)
{
	char *path = cache_check_file(dir, name);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	free(path);
	return fd;
}

static void what_is_whole_is_not_fetched_again(void **state)
{
	struct outcome out;

	fill(*state);
	out = reread(*state);
	assert_int_equal(out.bytes, 0);
	assert_int_equal(out.torn, 0);
}

/* Three granules, and with them what was found of the whole. */
static void what_is_distrusted_stays_until_the_image_is_closed(void **state)
{
	struct fake_image *f = source(SEED);
	struct image *img;
	struct cache *c;

	fill(*state);
	make_verdict(*state);
	c = open_cache(*state);
	assert_int_equal(cache_image_open(c, "k", &f->img, &img, NULL), 0);
	image_distrust(img, CACHE_GRANULE + 100, CACHE_GRANULE);
	image_distrust(img, SIZE - 10, MIB(1));
	image_distrust(img, SIZE, 1);
	check_all(img, SEED);
	assert_int_equal(f->bytes, 0);
	assert_true(cache_check_verdict(*state));
	image_close(img);
	cache_close(c);
	assert_false(cache_check_verdict(*state));
	assert_int_equal(reread(*state).bytes, 2 * CACHE_GRANULE + SIZE % CACHE_GRANULE);
	assert_int_equal(reread(*state).bytes, 0);
}

static void flipped_bits_are_fetched_again(void **state)
{
	struct outcome out;
	int fd;

	fill(*state);
	make_verdict(*state);
	assert_int_equal(reread(*state).bytes, 0);
	assert_true(cache_check_verdict(*state));
	fd = open_file(*state, "data");
	for (uint64_t off = 100; off < MIB(2); off += 5 * CACHE_GRANULE) {
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
	}
	close(fd);
	out = reread(*state);
	assert_int_equal(out.torn, 7);
	assert_int_equal(out.bytes, 7 * CACHE_GRANULE);
	assert_false(cache_check_verdict(*state));
	out = reread(*state);
	assert_int_equal(out.bytes, 0);
}

static void a_word_without_its_data_is_a_miss(void **state)
{
	struct outcome out;
	int fd;

	fill(*state);
	fd = open_file(*state, "data");
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 3 * CACHE_GRANULE + 4096, 4096),
		0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 10 * CACHE_GRANULE, 4 * CACHE_GRANULE),
		0);
	close(fd);
	out = reread(*state);
	assert_int_equal(out.torn, 5);
	assert_int_equal(out.bytes, 5 * CACHE_GRANULE);
}

static void a_cut_data_file_is_a_miss(void **state)
{
	struct outcome out;
	int fd;

	fill(*state);
	fd = open_file(*state, "data");
	assert_int_equal(ftruncate(fd, MIB(1) + 100), 0);
	close(fd);
	out = reread(*state);
	assert_int_equal(out.torn, 16 + (SIZE - MIB(4) + CACHE_GRANULE - 1) / CACHE_GRANULE);
	out = reread(*state);
	assert_int_equal(out.bytes, 0);
}

static void data_without_its_word_is_fetched_again(void **state)
{
	uint32_t zeros[20] = { 0 };
	struct outcome out;
	int fd;

	fill(*state);
	fd = open_file(*state, "map");
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 4096 + 4 * 4), sizeof(zeros));
	close(fd);
	out = reread(*state);
	assert_int_equal(out.torn, 0);
	assert_int_equal(out.bytes, 20 * CACHE_GRANULE);
}

static void garbage_in_the_words_is_found_out(void **state)
{
	struct outcome out;
	uint32_t words[97];
	int fd;

	fill(*state);
	fd = open_file(*state, "map");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		words[i] = (uint32_t)random() | 1;
	}
	assert_int_equal(pwrite(fd, words, sizeof(words), 4096), sizeof(words));
	close(fd);
	out = reread(*state);
	assert_int_equal(out.torn, 97);
	assert_int_equal(out.bytes, SIZE);
}

static void a_bad_map_header_empties_the_object(void **state)
{
	static const off_t places[] = { 0, 8, 12, 16, 24, 32 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		uint8_t byte = 0xa7;
		int fd;

		fill(*state);
		fd = open_file(*state, "map");
		assert_int_equal(pwrite(fd, &byte, 1, places[i]), 1);
		close(fd);
		assert_int_equal(reread(*state).bytes, SIZE);
	}
}

static void a_cut_or_grown_map_empties_the_object(void **state)
{
	static const off_t lengths[] = { 0, 100, 4096, 4100, 100000 };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		int fd;

		fill(*state);
		fd = open_file(*state, "map");
		assert_int_equal(ftruncate(fd, lengths[i]), 0);
		close(fd);
		assert_int_equal(reread(*state).bytes, SIZE);
	}
}

static void any_bad_byte_in_meta_empties_the_object(void **state)
{
	struct stat st;
	int fd;

	fill(*state);
	fd = open_file(*state, "meta");
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	for (off_t at = 0; at < st.st_size; at += 13) {
		uint8_t byte;

		fd = open_file(*state, "meta");
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x04;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		assert_int_equal(reread(*state).bytes, SIZE);
		assert_int_equal(reread(*state).bytes, 0);
	}
	fd = open_file(*state, "meta");
	assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
	close(fd);
	assert_int_equal(reread(*state).bytes, SIZE);
}

static void files_that_are_missing_are_made_anew(void **state)
{
	static const char *const names[] = { "meta", "map", "data", "lock", "use" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path;
		struct outcome out;

		fill(*state);
		path = cache_check_file(*state, names[i]);
		assert_int_equal(unlink(path), 0);
		free(path);
		out = reread(*state);
		if (i < 2) {
			assert_int_equal(out.bytes, SIZE);
		}
		assert_int_equal(reread(*state).bytes, 0);
	}
}

/* Another generation's words and data in the files of this one, as a crash in the middle of
 * emptying may leave them: all-zero granules, too, must not be believed. */
static void words_of_another_generation_mean_nothing(void **state)
{
	uint8_t words[4 * 97];
	struct cache *c;
	struct image *img;
	struct outcome out;
	int fd;

	fill(*state);
	fd = open_file(*state, "map");
	assert_int_equal(pread(fd, words, sizeof(words), 4096), sizeof(words));
	close(fd);
	c = open_cache(*state);
	assert_int_equal(cache_image_open(c, "k", &source(SEED + 1)->img, &img, NULL), 0);
	image_close(img);
	assert_int_equal(cache_image_open(c, "k", &source(SEED)->img, &img, NULL), 0);
	image_close(img);
	cache_close(c);
	fd = open_file(*state, "map");
	assert_int_equal(pwrite(fd, words, sizeof(words), 4096), sizeof(words));
	close(fd);
	out = reread(*state);
	assert_int_equal(out.bytes, SIZE);
}

static void verify_finds_and_drops_what_is_wrong(void **state)
{
	struct cache_verify_result v;
	struct cache *c;
	uint8_t junk = 1;
	int fd;

	fill(*state);
	fd = open_file(*state, "data");
	assert_int_equal(pwrite(fd, &junk, 1, 5 * CACHE_GRANULE), 1);
	assert_int_equal(pwrite(fd, &junk, 1, MIB(3)), 1); /* under a granule of zeros */
	close(fd);
	make_verdict(*state);
	c = open_cache(*state);
	assert_int_equal(cache_verify(c, &v, NULL), 0);
	assert_false(cache_check_verdict(*state));
	assert_int_equal(v.objects, 1);
	assert_int_equal(v.granules, 97);
	assert_int_equal(v.bad, 1);
	assert_true(v.leaked >= 4096 && v.leaked <= 2 * CACHE_GRANULE);
	assert_int_equal(cache_verify(c, &v, NULL), 0);
	assert_int_equal(v.granules, 96);
	assert_int_equal(v.bad, 0);
	assert_int_equal(v.leaked, 0);
	cache_close(c);
	assert_int_equal(reread(*state).bytes, CACHE_GRANULE);
}

static void zeros_take_no_space(void **state)
{
	struct stat st;
	int fd;

	fill(*state);
	fd = open_file(*state, "data");
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	assert_true((uint64_t)st.st_blocks * 512 <= SIZE - MIB(2) + CACHE_GRANULE);
	assert_true(st.st_size == SIZE);
}

static void on_a_disk_that_lost_writes_nothing_is_believed(void **state)
{
	struct store_meta want = { .key = strdup("k"), .id = strdup("i"), .size = MIB(1) };
	struct disk_env env = { 0 };
	struct pool pool;
	struct object *o;
	uint8_t *block;
	uint8_t buf[100];

	pool_init(&pool, MIB(1));
	env.pool = &pool;
	assert_int_equal(store_open(*state, &env.store, NULL), 0);
	assert_int_equal(keeper_new(env.store, 0, 1, &env.keeper, NULL), 0);
	assert_int_equal(memory_new(MIB(1), &pool, &env.memory), 0);
	assert_int_equal(disk_open(&env, &want, 0, &o, NULL), 0);
	block = pool_get(&pool);
	memset(block, 7, CACHE_GRANULE);
	assert_true(o->ops->claim(o, 0, 1));
	o->ops->put(o, 0, &block, 1);
	o->ops->unclaim(o, 0, 1);
	pool_put(&pool, block);
	((struct disk *)o)->kept.doubted = true;
	assert_int_equal(o->ops->read(o, buf, sizeof(buf), 1000), sizeof(buf));
	assert_int_equal(pwrite(((struct disk *)o)->data, buf, 1, 1000), 1);
	assert_int_equal(o->ops->read(o, buf, sizeof(buf), 1000), sizeof(buf));
	memset(buf, 0, sizeof(buf));
	assert_int_equal(pwrite(((struct disk *)o)->data, buf, sizeof(buf), 1000), sizeof(buf));
	assert_int_equal(o->ops->read(o, buf, sizeof(buf), 1000), 0);
	assert_false(o->ops->present(o, 0));
	assert_int_equal(o->torn, 1);
	o->ops->close(o);
	memory_free(env.memory);
	keeper_free(env.keeper);
	store_close(env.store);
	pool_clear(&pool);
	store_meta_clear(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(what_is_whole_is_not_fetched_again),
		CACHE_DIR_TEST(what_is_distrusted_stays_until_the_image_is_closed),
		CACHE_DIR_TEST(flipped_bits_are_fetched_again),
		CACHE_DIR_TEST(a_word_without_its_data_is_a_miss),
		CACHE_DIR_TEST(a_cut_data_file_is_a_miss),
		CACHE_DIR_TEST(data_without_its_word_is_fetched_again),
		CACHE_DIR_TEST(garbage_in_the_words_is_found_out),
		CACHE_DIR_TEST(a_bad_map_header_empties_the_object),
		CACHE_DIR_TEST(a_cut_or_grown_map_empties_the_object),
		CACHE_DIR_TEST(any_bad_byte_in_meta_empties_the_object),
		CACHE_DIR_TEST(files_that_are_missing_are_made_anew),
		CACHE_DIR_TEST(words_of_another_generation_mean_nothing),
		CACHE_DIR_TEST(verify_finds_and_drops_what_is_wrong),
		CACHE_DIR_TEST(zeros_take_no_space),
		CACHE_DIR_TEST(on_a_disk_that_lost_writes_nothing_is_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
