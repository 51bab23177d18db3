/* SPDX-License-Identifier: Apache-2.0 */
/* A plan carried out by many threads, onto targets that fail. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tests/unit/fake_image.h"
#include "tools/copy_engine.h"

#define ZEROS 60U
#define DATA  60U

/* Takes so many calls of each kind, then nothing any more. */
struct dying_sink {
	struct sink sink;
	_Atomic int writes;
	_Atomic int zeroes;
};

static int dying(_Atomic int *left, struct err *e)
{
	usleep(500);
	return (*left)-- > 0 ? 0 : err_set(e, -EIO, "the target is gone");
}

static int sink_write(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)buf;
	(void)len;
	(void)off;
	return dying(&((struct dying_sink *)s)->writes, e);
}

static int sink_zero(struct sink *s, uint64_t off, uint64_t len, struct err *e)
{
	(void)off;
	(void)len;
	return dying(&((struct dying_sink *)s)->zeroes, e);
}

static const struct sink_ops dying_ops = { .write = sink_write, .zero = sink_zero };

static void make_plan(struct copy_plan *plan)
{
	*plan = (struct copy_plan){
		.units = calloc(ZEROS + DATA, sizeof(struct copy_unit)),
		.count = ZEROS + DATA,
		.zeros = ZEROS,
	};
	for (size_t i = 0; i < plan->count; i++) {
		plan->units[i] = (struct copy_unit){
			.off = i * COPY_UNIT, .len = COPY_UNIT, .zero = i < ZEROS
		};
	}
}

/* However a target dies, the copy ends: who waits for a turn is not forgotten. */
static void a_dead_target_ends_the_copy(void **state)
{
	struct copy_plan plan;

	(void)state;
	make_plan(&plan);
	for (int i = 0; i < 40; i++) {
		struct fake_image *f = fake_image_new((uint64_t)plan.count * COPY_UNIT, 3, NULL);
		struct dying_sink s = { .sink = { .ops = &dying_ops, .path = "gone" },
			.writes = i % 20,
			.zeroes = i / 4 };
		uint64_t sums[ZEROS + DATA] = { 0 };
		atomic_bool stop = false;
		struct copy_engine engine = { .image = &f->img,
			.sink = &s.sink,
			.plan = &plan,
			.threads = 32,
			.readers = 8,
			.sums = sums,
			.sum_count = plan.count,
			.stop = &stop };
		enum copy_side side;
		struct err e = { 0 };

		f->delay_us = 300;
		alarm(60); /* not a limit, but for what would never end */
		assert_int_equal(copy_engine_run(&engine, &side, &e), -EIO);
		assert_int_equal(side, COPY_SIDE_TARGET);
		assert_string_equal(e.text, "the target is gone");
		image_close(&f->img);
	}
	alarm(0);
	free(plan.units);
}

#define UNITS 6U

/* A target in memory. */
struct memory_sink {
	struct sink sink;
	uint8_t bytes[UNITS * COPY_UNIT];
};

static int memory_write(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(((struct memory_sink *)s)->bytes + off, buf, len);
	return 0;
}

static int memory_zero(struct sink *s, uint64_t off, uint64_t len, struct err *e)
{
	(void)e;
	memset(((struct memory_sink *)s)->bytes + off, 0, len);
	return 0;
}

static int memory_read(struct sink *s, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(buf, ((struct memory_sink *)s)->bytes + off, len);
	return 0;
}

static const struct sink_ops memory_ops = {
	.write = memory_write, .zero = memory_zero, .read = memory_read
};

/* Takes what the target has, which follows on what is withheld. */
static int take_in_order(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *next = ctx;

	assert_int_equal(off, *next);
	assert_true(fake_matches(buf, 3, off, n));
	*next += n;
	return 0;
}

/* Of what an earlier run did, the units before the first that is not there any more are handed on;
 * those behind it come from the image, also when they are there. */
static void what_is_there_is_reread_up_to_the_first_gap(void **state)
{
	struct fake_image *f = fake_image_new((uint64_t)UNITS * COPY_UNIT, 3, NULL);
	struct memory_sink *s = calloc(1, sizeof(*s));
	struct copy_plan plan = { .units = calloc(UNITS, sizeof(struct copy_unit)),
		.count = UNITS };
	uint64_t known[UNITS] = { 0 };
	uint64_t sums[UNITS] = { 0 };
	atomic_bool stop = false;
	struct copy_engine engine = { .image = &f->img,
		.sink = &s->sink,
		.plan = &plan,
		.threads = 4,
		.readers = 2,
		.sums = sums,
		.sum_count = UNITS,
		.known = known,
		.stop = &stop,
		.withhold = COPY_UNIT,
		.head = malloc(COPY_UNIT) };
	uint64_t next = COPY_UNIT;
	enum copy_side side;

	(void)state;
	s->sink = (struct sink){ .ops = &memory_ops, .path = "memory" };
	for (uint64_t i = 0; i < sizeof(s->bytes); i++) {
		s->bytes[i] = fake_byte(3, i);
	}
	for (size_t i = 0; i < UNITS; i++) {
		plan.units[i] = (struct copy_unit){ .off = i * COPY_UNIT, .len = COPY_UNIT };
		known[i] = i > 0 ? copy_sum(s->bytes + i * COPY_UNIT, COPY_UNIT) : 0;
	}
	s->bytes[3 * COPY_UNIT] ^= 1;
	assert_int_equal(copy_engine_reread(&engine, take_in_order, &next, &side, NULL), 0);
	assert_int_equal(next, 3 * COPY_UNIT);
	assert_int_equal(engine.first, 3);
	assert_int_equal(f->bytes, COPY_UNIT);
	assert_int_equal(engine.counters.skipped, 2 * COPY_UNIT);
	assert_int_equal(engine.counters.changed, COPY_UNIT);
	assert_true(is_zero(s->bytes, COPY_UNIT));
	assert_int_equal(copy_engine_run(&engine, &side, NULL), 0);
	assert_int_equal(f->bytes, 4 * COPY_UNIT);
	assert_int_equal(engine.counters.data, UNITS * COPY_UNIT);
	assert_true(is_zero(s->bytes, COPY_UNIT));
	assert_int_equal(copy_engine_release(&engine, NULL), 0);
	assert_true(fake_matches(s->bytes, 3, 0, sizeof(s->bytes)));
	assert_int_equal(copy_engine_verify(&engine, &side, NULL), 0);
	image_close(&f->img);
	free(engine.head);
	free(plan.units);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dead_target_ends_the_copy),
		cmocka_unit_test(what_is_there_is_reread_up_to_the_first_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
