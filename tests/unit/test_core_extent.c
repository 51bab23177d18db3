/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include "core/bytes.h"
#include "core/extent.h"

static void clip_moves_host_along(void **state)
{
	struct extent x = { .offset = 100, .length = 50, .allocated = true, .host = 1000 };

	(void)state;
	extent_clip(&x, 110, 20);
	assert_int_equal(x.offset, 110);
	assert_int_equal(x.length, 20);
	assert_int_equal(x.host, 1010);
}

static void merge_joins_only_what_continues(void **state)
{
	struct extent a = { .offset = 0, .length = 10, .allocated = true, .host = 500 };
	struct extent next = { .offset = 10, .length = 5, .allocated = true, .host = 510 };
	struct extent elsewhere = { .offset = 15, .length = 5, .allocated = true, .host = 900 };
	struct extent hole = { .offset = 15, .length = 5, .zero = true, .host = EXTENT_NO_HOST };

	(void)state;
	assert_true(extent_merge(&a, &next));
	assert_int_equal(a.length, 15);
	assert_false(extent_merge(&a, &elsewhere));
	assert_false(extent_merge(&a, &hole));
	assert_false(extent_merge(&a, &next));
	assert_int_equal(a.length, 15);
}

static void checked_arithmetic_notices_overflow(void **state)
{
	uint64_t r = 7;

	(void)state;
	assert_false(checked_add(UINT64_MAX, 1, &r));
	assert_false(checked_mul(UINT64_MAX, 2, &r));
	assert_int_equal(r, 7);
	assert_true(checked_add(UINT64_MAX - 1, 1, &r));
	assert_true(r == UINT64_MAX);
	assert_false(range_within(UINT64_MAX, 2, 100));
	assert_false(range_within(99, 2, 100));
	assert_true(range_within(100, 0, 100));
}

static void zero_detection_sees_every_byte(void **state)
{
	uint8_t buf[70] = { 0 };

	(void)state;
	for (size_t len = 0; len <= sizeof(buf); len++) {
		assert_true(is_zero(buf, len));
		for (size_t i = 0; i < len; i++) {
			buf[i] = 1;
			assert_false(is_zero(buf, len));
			buf[i] = 0;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clip_moves_host_along),
		cmocka_unit_test(merge_joins_only_what_continues),
		cmocka_unit_test(checked_arithmetic_notices_overflow),
		cmocka_unit_test(zero_detection_sees_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
