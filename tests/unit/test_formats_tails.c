/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <string.h>

#include "core/bytes.h"
#include "formats/tails.h"

#define CLUSTER 65536U

static uint8_t bytes[CLUSTER];
static uint8_t got[CLUSTER];

static struct tails *new_tails(void)
{
	struct tails *t;

	assert_int_equal(tails_new(CLUSTER, &t), 0);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	}
	return t;
}

/* The last @len bytes of cluster @number. */
static void keep(struct tails *t, uint64_t number, size_t len)
{
	tails_keep(t, tails_age(t), (number + 1) * CLUSTER - len, bytes + CLUSTER - len, len);
}

static void what_was_kept_is_there_and_nothing_beside_it(void **state)
{
	struct tails *t = new_tails();
	uint64_t end = (uint64_t)8 * CLUSTER;

	(void)state;
	keep(t, 7, 1000);
	assert_true(tails_get(t, end - 1000, 1000, got));
	assert_memory_equal(got, bytes + CLUSTER - 1000, 1000);
	assert_true(tails_get(t, end - 300, 200, got));
	assert_memory_equal(got, bytes + CLUSTER - 300, 200);
	assert_true(tails_get(t, end - 300, 300, NULL));
	assert_false(tails_get(t, end - 1001, 10, NULL));
	assert_false(tails_get(t, end - 300, 301, NULL));
	assert_false(tails_get(t, end, 1, NULL));
	tails_free(t);
}

static void of_one_cluster_the_longer_one_stays(void **state)
{
	struct tails *t = new_tails();
	uint64_t end = (uint64_t)4 * CLUSTER;

	(void)state;
	keep(t, 3, 500);
	keep(t, 3, 2000);
	keep(t, 3, 100);
	assert_true(tails_get(t, end - 2000, 2000, got));
	assert_memory_equal(got, bytes + CLUSTER - 2000, 2000);
	tails_free(t);
}

static void those_furthest_in_the_file_stay(void **state)
{
	struct tails *t = new_tails();

	(void)state;
	for (uint64_t i = 40; i > 0; i--) {
		keep(t, i, 100);
	}
	for (uint64_t i = 1; i <= 40; i++) {
		assert_int_equal(tails_get(t, (i + 1) * CLUSTER - 100, 100, NULL), i > 24);
	}
	keep(t, 41, 100);
	assert_false(tails_get(t, 26 * CLUSTER - 100, 100, NULL));
	assert_true(tails_get(t, 42 * CLUSTER - 100, 100, NULL));
	tails_free(t);
}

static void what_was_read_before_it_was_withdrawn_is_not_kept(void **state)
{
	struct tails *t = new_tails();
	uint64_t age = tails_age(t);

	(void)state;
	keep(t, 1, 100);
	tails_forget(t);
	assert_false(tails_get(t, 2 * CLUSTER - 100, 100, NULL));
	tails_keep(t, age, 5 * CLUSTER - 100, bytes, 100);
	assert_false(tails_get(t, 5 * CLUSTER - 100, 100, NULL));
	keep(t, 1, 100);
	assert_true(tails_get(t, 2 * CLUSTER - 100, 100, NULL));
	tails_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_kept_is_there_and_nothing_beside_it),
		cmocka_unit_test(of_one_cluster_the_longer_one_stays),
		cmocka_unit_test(those_furthest_in_the_file_stay),
		cmocka_unit_test(what_was_read_before_it_was_withdrawn_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
