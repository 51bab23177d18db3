/* SPDX-License-Identifier: Apache-2.0 */
/* The granules of one object, as two processes see them that have it open. */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/disk_object.h"
#include "core/bytes.h"
#include "tests/unit/cache_dir.h"

#define GRANULES 16U
#define SIZE     (GRANULES * (uint64_t)CACHE_GRANULE - 100)

/* The linker's names. NOLINTBEGIN(readability-identifier-naming) */
bool __real_map_drop(struct map *m, uint64_t granule, uint32_t slot);
bool __wrap_map_drop(struct map *m, uint64_t granule, uint32_t slot);
/* NOLINTEND(readability-identifier-naming) */

static bool others_are_quicker;

bool __wrap_map_drop(struct map *m, uint64_t granule, uint32_t slot)
{
	if (others_are_quicker) {
		(void)__real_map_drop(m, granule, slot);
	}
	return __real_map_drop(m, granule, slot);
}

/* One process: what it has open. */
struct desk {
	struct pool pool;
	struct disk_env env;
	struct object *o;
};

static void sit_down(struct desk *d, const char *dir)
{
	struct store_meta want = { .key = strdup("k"), .id = strdup("i"), .size = SIZE };

	memset(d, 0, sizeof(*d));
	pool_init(&d->pool, MIB(4));
	d->env.pool = &d->pool;
	assert_int_equal(store_open(dir, &d->env.store, NULL), 0);
	assert_int_equal(keeper_new(d->env.store, 0, 1, &d->env.keeper, NULL), 0);
	assert_int_equal(memory_new(MIB(1), &d->pool, &d->env.memory), 0);
	assert_int_equal(disk_open(&d->env, &want, 0, &d->o, NULL), 0);
	store_meta_clear(&want);
}

static void get_up(struct desk *d)
{
	d->o->ops->close(d->o);
	memory_free(d->env.memory);
	keeper_free(d->env.keeper);
	store_close(d->env.store);
	pool_clear(&d->pool);
}

/* Puts granules that are full of @byte, as a fill does. */
static void put(struct desk *d, uint64_t first, size_t count, uint8_t byte)
{
	uint8_t *blocks[GRANULES];

	for (size_t i = 0; i < count; i++) {
		blocks[i] = pool_get(&d->pool);
		memset(blocks[i], byte, CACHE_GRANULE);
	}
	assert_true(d->o->ops->claim(d->o, first, count));
	d->o->ops->put(d->o, first, blocks, count);
	d->o->ops->unclaim(d->o, first, count);
	for (size_t i = 0; i < count; i++) {
		pool_put(&d->pool, blocks[i]);
	}
}

/* All granules from @first on are full of @byte. */
static void check(struct desk *d, uint64_t first, size_t count, uint8_t byte)
{
	uint8_t *buf = malloc(CACHE_GRANULE);

	for (uint64_t g = first; g < first + count; g++) {
		size_t len = object_granule_len(d->o, g);

		assert_int_equal(d->o->ops->read(d->o, buf, len, g * CACHE_GRANULE), len);
		for (size_t i = 0; i < len; i++) {
			assert_int_equal(buf[i], byte);
		}
	}
	free(buf);
}

static void what_is_present_stays_when_it_is_put_again(void **state)
{
	struct desk one;
	struct desk two;
	uint64_t epoch;

	sit_down(&one, *state);
	sit_down(&two, *state);
	put(&one, 2, 3, 7);
	put(&one, 6, 1, 0);
	put(&one, GRANULES - 1, 1, 8);
	epoch = one.o->ops->generation(one.o);
	put(&two, 0, GRANULES, 9);
	for (unsigned int i = 0; i < 2; i++) {
		struct desk *d = i == 0 ? &one : &two;

		check(d, 0, 2, 9);
		check(d, 2, 3, 7);
		check(d, 5, 1, 9);
		check(d, 6, 1, 0);
		check(d, 7, GRANULES - 8, 9);
		check(d, GRANULES - 1, 1, 8);
	}
	assert_int_equal(one.o->ops->generation(one.o), epoch);
	get_up(&two);
	get_up(&one);
}

/* What others evict is not counted, and what they evicted is not counted back. */
static void what_others_made_absent_is_not_counted_back(void **state)
{
	struct desk one;
	struct desk two;

	sit_down(&one, *state);
	sit_down(&two, *state);
	assert_int_equal(one.o->absent, GRANULES);
	put(&one, 0, GRANULES, 7);
	assert_int_equal(one.o->absent, 0);
	two.o->ops->forget(two.o, 3, 4);
	put(&one, 0, GRANULES, 9);
	assert_int_equal(one.o->absent, 0);
	check(&one, 3, 4, 9);
	one.o->ops->forget(one.o, 5, 2);
	assert_int_equal(one.o->absent, 2);
	put(&one, 5, 1, 9);
	assert_int_equal(one.o->absent, 1);
	get_up(&two);
	get_up(&one);
}

static void what_was_found_torn_may_be_brought_back_by_others(void **state)
{
	struct desk one;
	struct desk two;
	uint8_t byte = 3;

	sit_down(&one, *state);
	sit_down(&two, *state);
	put(&two, 0, GRANULES, 7);
	assert_int_equal(pwrite(((struct disk *)two.o)->data, &byte, 1, 100), 1);
	assert_int_equal(one.o->ops->read(one.o, &byte, 1, 100), 0);
	assert_int_equal(one.o->torn, 1);
	assert_false(two.o->ops->present(two.o, 0));
	put(&two, 0, 1, 8);
	assert_true(one.o->ops->present(one.o, 0));
	put(&one, 0, 1, 9);
	check(&one, 0, 1, 8);
	check(&one, 1, GRANULES - 1, 7);
	get_up(&two);
	get_up(&one);
}

static void a_word_is_dropped_once(void **state)
{
	struct desk d;
	struct map *map;
	uint64_t epoch;
	uint32_t slot;

	sit_down(&d, *state);
	put(&d, 0, 1, 7);
	map = &((struct disk *)d.o)->map;
	slot = map_get(map, 0);
	epoch = map_epoch(map);
	assert_false(map_drop(map, 0, slot + 1));
	assert_int_equal(map_get(map, 0), slot);
	assert_int_equal(map_epoch(map), epoch);
	assert_true(map_drop(map, 0, slot));
	assert_false(map_drop(map, 0, slot));
	assert_int_equal(map_get(map, 0), 0);
	assert_int_equal(map_epoch(map), epoch + 1);
	get_up(&d);
}

/* What another process drops while this one is about to is not counted here as well. */
static void what_others_drop_first_is_not_counted(void **state)
{
	struct desk d;

	sit_down(&d, *state);
	put(&d, 0, GRANULES, 7);
	others_are_quicker = true;
	d.o->ops->forget(d.o, 3, 4);
	others_are_quicker = false;
	assert_false(d.o->ops->present(d.o, 3));
	assert_int_equal(d.o->absent, 0);
	d.o->ops->forget(d.o, 8, 2);
	assert_int_equal(d.o->absent, 2);
	get_up(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(what_is_present_stays_when_it_is_put_again),
		CACHE_DIR_TEST(what_others_made_absent_is_not_counted_back),
		CACHE_DIR_TEST(what_was_found_torn_may_be_brought_back_by_others),
		CACHE_DIR_TEST(a_word_is_dropped_once),
		CACHE_DIR_TEST(what_others_drop_first_is_not_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
