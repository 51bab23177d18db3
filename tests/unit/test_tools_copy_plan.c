/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tools/copy_engine.h"
#include "tools/copy_plan.h"

/* Half units. */
#define HALVES(n) ((uint64_t)(n) * (COPY_UNIT / 2))

/* An image that is nothing but its extents. */
struct sketch {
	struct image img;
	const struct extent *extents;
	size_t count;
	unsigned int asked;
};

static int sketch_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct sketch *s = (struct sketch *)img;

	(void)e;
	s->asked++;
	for (size_t i = 0; i < s->count; i++) {
		if (off - s->extents[i].offset < s->extents[i].length) {
			*ret = s->extents[i];
			return 0;
		}
	}
	abort();
}

static int sketch_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)img;
	(void)buf;
	(void)len;
	(void)off;
	return err_set(e, -5, "a plan reads no data");
}

static const struct image_ops sketch_ops = {
	.name = "sketch",
	.read_at = sketch_read_at,
	.extent_at = sketch_extent_at,
};

static void make(const struct extent *extents, size_t count, struct copy_plan *ret)
{
	struct sketch s = { .extents = extents, .count = count };
	const struct extent *last = &extents[count - 1];

	assert_int_equal(
		image_init(&s.img, &sketch_ops, NULL, last->offset + last->length, "sketch"), 0);
	assert_int_equal(copy_plan_make(&s.img, ret, NULL), 0);
	image_fini(&s.img);
}

static void assert_unit(const struct copy_plan *p, size_t i, bool zero, uint64_t off, uint64_t len)
{
	assert_true(i < p->count);
	assert_int_equal(p->units[i].zero, zero);
	assert_int_equal(p->units[i].off, off);
	assert_int_equal(p->units[i].len, len);
}

/* Every byte is in exactly one unit. */
static void assert_complete(const struct copy_plan *p, uint64_t size)
{
	uint8_t *seen = calloc(1, size / 512);

	assert_non_null(seen);
	for (size_t i = 0; i < p->count; i++) {
		for (uint64_t at = p->units[i].off; at < p->units[i].off + p->units[i].len;
			at += 512) {
			assert_true(at < size);
			assert_int_equal(seen[at / 512]++, 0);
		}
	}
	for (uint64_t at = 0; at < size; at += 512) {
		assert_int_equal(seen[at / 512], 1);
	}
	free(seen);
}

static void holes_are_one_unit_and_data_are_blocks(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(10), .zero = true, .host = EXTENT_NO_HOST },
		{ .offset = HALVES(10), .length = HALVES(5), .allocated = true, .host = HALVES(1) },
		{ .offset = HALVES(15), .length = HALVES(8), .zero = true, .host = EXTENT_NO_HOST },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 5);
	assert_unit(&p, 0, true, 0, HALVES(10));
	assert_unit(&p, 1, true, HALVES(16), HALVES(7));
	assert_unit(&p, 2, false, HALVES(10), HALVES(2));
	assert_unit(&p, 3, false, HALVES(12), HALVES(2));
	assert_unit(&p, 4, false, HALVES(14), HALVES(2));
	assert_int_equal(p.data_bytes, HALVES(6));
	assert_int_equal(p.zero_bytes, HALVES(17));
	assert_complete(&p, HALVES(23));
	copy_plan_clear(&p);
}

static void data_come_in_the_order_of_the_file(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(2), .allocated = true, .host = HALVES(30) },
		{ .offset = HALVES(2), .length = HALVES(2), .allocated = true, .host = HALVES(20) },
		{ .offset = HALVES(4), .length = HALVES(4), .allocated = true, .host = HALVES(2) },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 4);
	assert_unit(&p, 0, false, HALVES(4), HALVES(2));
	assert_unit(&p, 1, false, HALVES(6), HALVES(2));
	assert_unit(&p, 2, false, HALVES(2), HALVES(2));
	assert_unit(&p, 3, false, 0, HALVES(2));
	assert_int_equal(p.units[1].host, HALVES(4));
	copy_plan_clear(&p);
}

static void a_block_that_begins_with_a_hole_has_the_place_of_its_data(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(1), .zero = true, .host = EXTENT_NO_HOST },
		{ .offset = HALVES(1), .length = HALVES(3), .allocated = true, .host = HALVES(40) },
		{ .offset = HALVES(4), .length = HALVES(2), .allocated = true, .host = HALVES(10) },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 3);
	assert_unit(&p, 0, false, HALVES(4), HALVES(2));
	assert_unit(&p, 1, false, 0, HALVES(2));
	assert_unit(&p, 2, false, HALVES(2), HALVES(2));
	assert_int_equal(p.units[1].host, HALVES(40));
	assert_int_equal(p.units[2].host, HALVES(41));
	assert_complete(&p, HALVES(6));
	copy_plan_clear(&p);
}

static void an_odd_end_belongs_to_the_last_unit(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(2) + 512, .allocated = true, .host = 0 },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 2);
	assert_unit(&p, 1, false, HALVES(2), 512);
	assert_int_equal(copy_plan_add_tail(&p, HALVES(2) + 512, HALVES(8), NULL), 0);
	assert_unit(&p, 0, true, HALVES(2) + 512, HALVES(6) - 512);
	assert_unit(&p, 1, false, 0, HALVES(2));
	assert_unit(&p, 2, false, HALVES(2), 512);
	assert_int_equal(p.zeros, 1);
	assert_complete(&p, HALVES(8));
	copy_plan_clear(&p);
}

static void the_tail_comes_behind_the_zeros_of_the_image(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(4), .allocated = true, .host = HALVES(1) },
		{ .offset = HALVES(4), .length = HALVES(2), .zero = true, .host = EXTENT_NO_HOST },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(copy_plan_add_tail(&p, HALVES(6), HALVES(6), NULL), 0);
	assert_int_equal(p.count, 3);
	assert_int_equal(p.zeros, 1);
	assert_int_equal(copy_plan_add_tail(&p, HALVES(6), HALVES(9), NULL), 0);
	assert_int_equal(p.zeros, 2);
	assert_unit(&p, 0, true, HALVES(4), HALVES(2));
	assert_unit(&p, 1, true, HALVES(6), HALVES(3));
	assert_unit(&p, 2, false, 0, HALVES(2));
	assert_unit(&p, 3, false, HALVES(2), HALVES(2));
	assert_complete(&p, HALVES(9));
	copy_plan_clear(&p);
}

/* Two units in 1.5 of the file, one in a tenth, which is hardly true, and one that is the last. */
static void compressed_units_cost_what_lies_between_them(void **state)
{
	const struct extent x[] = {
		{ .offset = 0,
			.length = HALVES(4),
			.allocated = true,
			.compressed = true,
			.host = 4096 },
		{ .offset = HALVES(4),
			.length = HALVES(2),
			.allocated = true,
			.compressed = true,
			.host = 4096 + HALVES(3) },
		{ .offset = HALVES(6),
			.length = HALVES(2),
			.allocated = true,
			.host = 4096 + HALVES(3) + COPY_UNIT / 10 },
		{ .offset = HALVES(8),
			.length = HALVES(2),
			.allocated = true,
			.compressed = true,
			.host = HALVES(20) },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 5);
	assert_int_equal(p.zeros, 0);
	assert_int_equal(p.units[0].fetch, HALVES(3) / 2);
	assert_int_equal(p.units[1].fetch, HALVES(3) / 2);
	assert_int_equal(p.units[2].fetch, COPY_UNIT / 4);
	assert_int_equal(p.units[3].fetch, COPY_UNIT);
	assert_int_equal(p.units[4].fetch, COPY_UNIT / 4);
	copy_plan_clear(&p);
}

static void data_up_to_a_block_leave_the_hole_behind_it_alone(void **state)
{
	const struct extent x[] = {
		{ .offset = 0, .length = HALVES(2), .allocated = true, .host = 0 },
		{ .offset = HALVES(2), .length = HALVES(1), .zero = true, .host = EXTENT_NO_HOST },
	};
	struct copy_plan p;

	(void)state;
	make(x, ARRAY_SIZE(x), &p);
	assert_int_equal(p.count, 2);
	assert_unit(&p, 0, true, HALVES(2), HALVES(1));
	assert_unit(&p, 1, false, 0, HALVES(2));
	copy_plan_clear(&p);
}

static void a_scattered_block_is_asked_about_once(void **state)
{
	struct extent x[HALVES(4) / KIB(64)];
	struct sketch s = { .extents = x, .count = ARRAY_SIZE(x) };
	struct copy_plan p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
		x[i] = (struct extent){ .offset = i * KIB(64),
			.length = KIB(64),
			.zero = i % 2,
			.host = i % 2 ? EXTENT_NO_HOST : HALVES(100) - i * KIB(64) };
	}
	assert_int_equal(image_init(&s.img, &sketch_ops, NULL, HALVES(4), "sketch"), 0);
	assert_int_equal(copy_plan_make(&s.img, &p, NULL), 0);
	assert_int_equal(p.count, 2);
	assert_int_equal(s.asked, 2);
	assert_complete(&p, HALVES(4));
	copy_plan_clear(&p);
	image_fini(&s.img);
}

static void sums_tell_contents_apart(void **state)
{
	uint8_t a[5000];
	uint64_t sum;

	(void)state;
	for (size_t i = 0; i < sizeof(a); i++) {
		a[i] = (uint8_t)(i * 7);
	}
	sum = copy_sum(a, sizeof(a));
	assert_int_equal(copy_sum(a, sizeof(a)), sum);
	assert_int_not_equal(copy_sum(a, sizeof(a) - 1), sum);
	for (size_t i = 0; i < sizeof(a); i += 37) {
		a[i] ^= 0x10;
		assert_int_not_equal(copy_sum(a, sizeof(a)), sum);
		a[i] ^= 0x10;
	}
	memset(a, 0, sizeof(a));
	assert_int_not_equal(copy_sum(a, sizeof(a)), 0);
	assert_int_not_equal(copy_sum(a, 4096), copy_sum(a, 4097));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_one_unit_and_data_are_blocks),
		cmocka_unit_test(data_come_in_the_order_of_the_file),
		cmocka_unit_test(a_block_that_begins_with_a_hole_has_the_place_of_its_data),
		cmocka_unit_test(an_odd_end_belongs_to_the_last_unit),
		cmocka_unit_test(the_tail_comes_behind_the_zeros_of_the_image),
		cmocka_unit_test(compressed_units_cost_what_lies_between_them),
		cmocka_unit_test(data_up_to_a_block_leave_the_hole_behind_it_alone),
		cmocka_unit_test(a_scattered_block_is_asked_about_once),
		cmocka_unit_test(sums_tell_contents_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
