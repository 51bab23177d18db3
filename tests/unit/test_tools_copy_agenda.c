/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and data in the order of the file. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "tools/copy_agenda.h"

/* What one table speaks for. */
#define SPAN   (4 * COPY_UNIT)
#define TABLES 8U

/* An image whose tables stand where the test says. Data of 64 KiB each, where `place` says; bytes
 * of which it is said that they are nowhere are zeros. */
struct sketch {
	struct image img;
	uint64_t tables[TABLES];
	uint64_t (*place)(uint64_t off);
	uint64_t broken;   /* no extent can be told there */
	uint64_t position; /* of what was told last: where its table stands */
};

static struct sketch *of(struct image *img)
{
	return (struct sketch *)img;
}

static int sketch_table_at(
	struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end, struct err *e)
{
	(void)e;
	*ret_host = of(img)->tables[off / SPAN];
	*ret_end = (off / SPAN + 1) * SPAN;
	return 0;
}

static int sketch_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct sketch *s = of(img);
	uint64_t start = round_down(off, COPY_PIECE);
	uint64_t host = s->place(start);

	if (off == s->broken) {
		return err_set(e, -EBADMSG, "the table is broken");
	}
	s->position = s->tables[off / SPAN];
	*ret = (struct extent){
		.offset = start,
		.length = COPY_PIECE,
		.zero = host == EXTENT_NO_HOST,
		.allocated = host != EXTENT_NO_HOST,
		.host = host,
	};
	return 0;
}

static int sketch_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)img;
	(void)buf;
	(void)len;
	(void)off;
	return err_set(e, -EIO, "nobody reads data");
}

static const struct image_ops sketch_ops = {
	.name = "sketch",
	.read_at = sketch_read_at,
	.extent_at = sketch_extent_at,
	.table_at = sketch_table_at,
};

static void sketch_init(struct sketch *s, uint64_t size, uint64_t (*place)(uint64_t off))
{
	*s = (struct sketch){ .place = place, .broken = UINT64_MAX };
	assert_int_equal(image_init(&s->img, &sketch_ops, NULL, size, "sketch"), 0);
}

/* All units, in order; each byte of the image is in one of them. Returns how many they are. */
static size_t take_all(struct sketch *s, struct copy_unit *units, size_t room)
{
	uint8_t *seen = calloc(1, s->img.size / 512);
	struct copy_agenda *a;
	uint64_t host;
	size_t n = 0;

	assert_non_null(seen);
	assert_int_equal(copy_agenda_new(&s->img, &a, NULL), 0);
	while (copy_agenda_peek(a, &host)) {
		struct copy_unit unit;
		int r = copy_agenda_next(a, &unit, NULL);

		assert_in_range(r, 0, 1);
		if (r == 0) {
			continue;
		}
		assert_true(n < room);
		assert_int_equal(unit.host, host);
		assert_true(
			unit.zero || unit.off / COPY_UNIT == (unit.off + unit.len - 1) / COPY_UNIT);
		for (uint64_t at = unit.off; at < unit.off + unit.len; at += 512) {
			assert_int_equal(seen[at / 512]++, 0);
		}
		units[n++] = unit;
	}
	for (uint64_t at = 0; at < s->img.size; at += 512) {
		assert_int_equal(seen[at / 512], 1);
	}
	copy_agenda_free(a);
	free(seen);
	return n;
}

/* Each table right before its data, as writers do it; the last table before the others. */
static uint64_t in_order(uint64_t off)
{
	uint64_t table = off / SPAN;
	uint64_t slot = table == TABLES - 1 ? 0 : table + 1;

	return slot * (SPAN + COPY_PIECE) + COPY_PIECE + off % SPAN;
}

static void a_file_as_writers_make_it_is_gone_through_forward(void **state)
{
	struct copy_unit units[4 * TABLES];
	struct sketch s;
	uint64_t host = 0;

	(void)state;
	sketch_init(&s, TABLES * SPAN - 512, in_order);
	for (unsigned int i = 0; i < TABLES; i++) {
		s.tables[i] = in_order(i * SPAN) - COPY_PIECE;
	}
	assert_int_equal(take_all(&s, units, ARRAY_SIZE(units)), 4 * TABLES);
	for (unsigned int i = 0; i < 4 * TABLES; i++) {
		assert_false(units[i].zero);
		assert_true(units[i].host >= host);
		host = units[i].host;
	}
	assert_int_equal(units[0].off, (TABLES - 1) * SPAN);
	assert_int_equal(units[3].len, COPY_UNIT - 512);
	image_fini(&s.img);
}

static void no_table_is_read_before_the_data_that_lie_before_it(void **state)
{
	struct copy_agenda *a;
	struct copy_unit unit;
	struct sketch s;
	uint64_t host;

	(void)state;
	sketch_init(&s, TABLES * SPAN, in_order);
	for (unsigned int i = 0; i < TABLES; i++) {
		s.tables[i] = in_order(i * SPAN) - COPY_PIECE;
	}
	assert_int_equal(copy_agenda_new(&s.img, &a, NULL), 0);
	while (copy_agenda_peek(a, &host)) {
		int r = copy_agenda_next(a, &unit, NULL);

		assert_true(r == 0 || unit.host > s.position);
		assert_true(r == 0 || unit.host <= s.position + SPAN);
	}
	copy_agenda_free(a);
	image_fini(&s.img);
}

/* The pieces of a block lie the other way round, far apart. */
static uint64_t scattered(uint64_t off)
{
	return COPY_UNIT + (TABLES * SPAN - off) * 32;
}

static void pieces_that_lie_apart_are_units_of_their_own(void **state)
{
	struct copy_unit units[SPAN / COPY_PIECE];
	struct sketch s;
	size_t n;

	(void)state;
	sketch_init(&s, SPAN, scattered);
	n = take_all(&s, units, ARRAY_SIZE(units));
	assert_int_equal(n, SPAN / COPY_PIECE);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(units[i].off, SPAN - (i + 1) * COPY_PIECE);
		assert_int_equal(units[i].len, COPY_PIECE);
		assert_int_equal(units[i].host, scattered(units[i].off));
	}
	image_fini(&s.img);
}

/* Data before their table, with a hole in the middle of the first block, a hole of two blocks. */
static uint64_t with_holes(uint64_t off)
{
	bool hole = off == 3 * COPY_PIECE || (off >= COPY_UNIT && off < 3 * COPY_UNIT);

	return hole ? EXTENT_NO_HOST : off;
}

static void what_lies_before_its_table_and_holes_are_found(void **state)
{
	struct copy_unit units[8];
	struct sketch s;

	(void)state;
	sketch_init(&s, SPAN, with_holes);
	s.tables[0] = 10 * SPAN;
	assert_int_equal(take_all(&s, units, ARRAY_SIZE(units)), 3);
	assert_int_equal(units[0].off, 0);
	assert_int_equal(units[0].len, COPY_UNIT);
	assert_false(units[0].zero);
	assert_int_equal(units[1].off, 3 * COPY_UNIT);
	assert_int_equal(units[1].len, COPY_UNIT);
	assert_true(units[2].zero);
	assert_int_equal(units[2].off, COPY_UNIT);
	assert_int_equal(units[2].len, 2 * COPY_UNIT);
	image_fini(&s.img);
}

static void what_needs_no_table_comes_first(void **state)
{
	struct copy_unit units[16];
	struct sketch s;

	(void)state;
	sketch_init(&s, 2 * SPAN, in_order);
	s.tables[0] = in_order(0) - COPY_PIECE;
	s.tables[1] = EXTENT_NO_HOST;
	assert_int_equal(take_all(&s, units, ARRAY_SIZE(units)), 8);
	image_fini(&s.img);
}

static void a_broken_table_is_an_error(void **state)
{
	struct copy_agenda *a;
	struct copy_unit unit;
	struct sketch s;
	struct err e;
	uint64_t host;
	int r = 0;

	(void)state;
	sketch_init(&s, 2 * SPAN, in_order);
	s.tables[0] = in_order(0) - COPY_PIECE;
	s.tables[1] = in_order(SPAN) - COPY_PIECE;
	s.broken = SPAN + COPY_UNIT;
	assert_int_equal(copy_agenda_new(&s.img, &a, NULL), 0);
	while (r >= 0 && copy_agenda_peek(a, &host)) {
		r = copy_agenda_next(a, &unit, &e);
	}
	assert_int_equal(r, -EBADMSG);
	assert_string_equal(e.text, "the table is broken");
	copy_agenda_free(a);
	image_fini(&s.img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_as_writers_make_it_is_gone_through_forward),
		cmocka_unit_test(no_table_is_read_before_the_data_that_lie_before_it),
		cmocka_unit_test(pieces_that_lie_apart_are_units_of_their_own),
		cmocka_unit_test(what_lies_before_its_table_and_holes_are_found),
		cmocka_unit_test(what_needs_no_table_comes_first),
		cmocka_unit_test(a_broken_table_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
