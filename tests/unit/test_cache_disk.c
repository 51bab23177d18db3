/* SPDX-License-Identifier: Apache-2.0 */
/* The granules of one object, as two processes see them that have it open. */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

#include "cache/disk_object.h"
#include "core/bytes.h"
#include "tests/unit/cache_dir.h"

#define GRANULES 16U
#define SIZE     (GRANULES * (uint64_t)CACHE_GRANULE - 100)

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(what_is_present_stays_when_it_is_put_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
