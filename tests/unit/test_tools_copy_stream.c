/* SPDX-License-Identifier: Apache-2.0 */
/* Units of all sizes streamed into a target in memory. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/unit/fake_image.h"
#include "tools/copy_engine.h"

#define SEED  5
#define STALE 0xee

struct memory_sink {
	struct sink sink;
	uint8_t *bytes;
	uint64_t room;
	pthread_mutex_t lock; /* protects below */
	uint64_t written;
	bool misused;     /* unaligned, twice, or not padded */
	uint8_t *touched; /* one for each SINK_ALIGN */
	uint64_t fail_at; /* UINT64_MAX: never */
};

static bool claim(struct memory_sink *m, uint64_t off, size_t len)
{
	bool good = off % SINK_ALIGN == 0 && range_within(off, round_up(len, SINK_ALIGN), m->room);

	for (uint64_t i = off / SINK_ALIGN; good && i < div_round_up(off + len, SINK_ALIGN); i++) {
		good = !m->touched[i];
		m->touched[i] = 1;
	}
	return good;
}

static int sink_write(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct memory_sink *m = (struct memory_sink *)s;
	const uint8_t *data = buf;

	if (m->fail_at >= off && m->fail_at < off + len) {
		return err_set(e, -ENOSPC, "the target is full");
	}
	pthread_mutex_lock(&m->lock);
	m->misused |= !claim(m, off, len) || (uintptr_t)buf % SINK_ALIGN != 0;
	for (size_t i = len; i < round_up(len, SINK_ALIGN); i++) {
		m->misused |= data[i] != 0;
	}
	m->written += len;
	if (!m->misused) {
		memcpy(m->bytes + off, buf, len);
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int sink_zero(struct sink *s, uint64_t off, uint64_t len, struct err *e)
{
	struct memory_sink *m = (struct memory_sink *)s;

	(void)e;
	pthread_mutex_lock(&m->lock);
	m->misused |= !claim(m, off, len);
	if (!m->misused) {
		memset(m->bytes + off, 0, len);
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static const struct sink_ops memory_sink_ops = { .write = sink_write, .zero = sink_zero };

struct copy {
	struct memory_sink m;
	struct copy_engine engine;
	atomic_bool stop;
	uint8_t head[COPY_UNIT];
};

static struct copy *copy_new(struct image *image, uint64_t room)
{
	struct copy *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	room = round_up(room, SINK_ALIGN);
	c->m = (struct memory_sink){ .sink = { .ops = &memory_sink_ops, .path = "memory" },
		.bytes = malloc(room),
		.room = room,
		.touched = calloc(1, room / SINK_ALIGN),
		.fail_at = UINT64_MAX };
	assert_non_null(c->m.bytes);
	assert_non_null(c->m.touched);
	memset(c->m.bytes, STALE, room);
	pthread_mutex_init(&c->m.lock, NULL);
	c->engine = (struct copy_engine){
		.image = image, .sink = &c->m.sink, .stop = &c->stop, .head = c->head
	};
	return c;
}

static void copy_free(struct copy *c)
{
	image_close(c->engine.image);
	free(c->engine.sums);
	free(c->m.bytes);
	free(c->m.touched);
	free(c);
}

static int copy_run(struct copy *c, uint64_t *ret_size, enum copy_side *ret_side, struct err *e)
{
	int r;

	if (!c->engine.sums) {
		c->engine.sum_count = div_round_up(c->m.room, COPY_UNIT);
		c->engine.sums = calloc(c->engine.sum_count, sizeof(uint64_t));
	}
	r = copy_stream_run(&c->engine, ret_size, ret_side, e);
	assert_false(c->m.misused);
	return r;
}

static void runs_well(struct copy *c, uint64_t size)
{
	uint64_t got = 0;
	enum copy_side side;
	struct err e = { 0 };

	if (copy_run(c, &got, &side, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_int_equal(got, size);
	assert_int_equal(c->engine.counters.read, size);
	assert_int_equal(c->engine.counters.data, size);
}

static void units_of_any_size_are_decoded_once(void **state)
{
	const uint64_t sizes[] = { 1, 4096, COPY_UNIT - 1, COPY_UNIT, COPY_UNIT + 1,
		3 * COPY_UNIT + 12345, MIB(20) + 511 };
	const uint64_t units[] = { 1000, 65536, COPY_UNIT, COPY_UNIT + 7, MIB(5) + 3, MIB(64) };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(units); k++) {
			struct fake_image *f =
				fake_image_units(sizes[i], SEED, units[k], units[k] / 3);
			struct copy *c = copy_new(&f->img, sizes[i]);

			runs_well(c, sizes[i]);
			assert_true(fake_matches(c->m.bytes, SEED, 0, sizes[i]));
			assert_int_equal(f->decoded, sizes[i]);
			copy_free(c);
		}
	}
}

static void what_is_withheld_is_written_last(void **state)
{
	struct fake_image *f = fake_image_units(MIB(3), SEED, 100000, 0);
	struct copy *c = copy_new(&f->img, MIB(3));

	(void)state;
	c->engine.withhold = COPY_UNIT;
	runs_well(c, MIB(3));
	assert_true(is_zero(c->m.bytes, COPY_UNIT));
	assert_true(fake_matches(c->head, SEED, 0, COPY_UNIT));
	assert_true(fake_matches(c->m.bytes + COPY_UNIT, SEED, COPY_UNIT, MIB(3) - COPY_UNIT));
	copy_free(c);
}

static void zeros_are_not_written(void **state)
{
	const size_t size = MIB(6) + 512;
	uint8_t *data = calloc(1, size);
	struct fake_image *f;
	struct copy *c;

	(void)state;
	assert_non_null(data);
	data[MIB(2) + 5] = 1;
	data[size - 1] = 2;
	f = fake_image_from(data, size, "sparse");
	f->img.flags |= IMAGE_SEQUENTIAL;
	c = copy_new(&f->img, size);
	runs_well(c, size);
	assert_memory_equal(c->m.bytes, data, size);
	assert_true(c->m.written <= KIB(256));
	free(data);
	copy_free(c);
}

/* The size is only assumed: the copy has what is really there. */
static void the_real_end_is_found(void **state)
{
	const uint64_t real = MIB(7) + 321;
	const uint64_t assumed[] = { 1, MIB(1), real - 1, real, real + 1, MIB(30) };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(assumed); i++) {
		struct fake_image *f = fake_image_provisional(assumed[i], real, SEED, MIB(64));
		struct copy *c = copy_new(&f->img, MIB(32));

		runs_well(c, real);
		assert_true(fake_matches(c->m.bytes, SEED, 0, real));
		assert_int_equal(c->m.bytes[round_up(real, SINK_ALIGN)], STALE);
		copy_free(c);
	}
}

static void a_target_that_turns_out_too_small_is_named(void **state)
{
	struct fake_image *f = fake_image_provisional(MIB(1), MIB(9), SEED, MIB(64));
	struct copy *c = copy_new(&f->img, MIB(4));
	enum copy_side side = COPY_SIDE_SOURCE;
	struct err e = { 0 };
	uint64_t size = 77;

	(void)state;
	c->engine.most = MIB(4);
	assert_int_equal(copy_run(c, &size, &side, &e), -ENOSPC);
	assert_int_equal(side, COPY_SIDE_TARGET);
	assert_non_null(strstr(e.text, "memory is too small"));
	assert_int_equal(size, 77);
	copy_free(c);
}

static void a_source_that_breaks_is_the_sources_fault(void **state)
{
	(void)state;
	for (uint64_t after = 0; after <= MIB(3); after += MIB(1)) {
		struct fake_image *f = fake_image_units(MIB(12), SEED, MIB(5), 0);
		struct copy *c = copy_new(&f->img, MIB(12));
		enum copy_side side = COPY_SIDE_TARGET;
		struct err e = { 0 };
		uint64_t size;

		f->fail_next = 1;
		f->fail_code = -EBADMSG;
		f->fail_after = after;
		assert_int_equal(copy_run(c, &size, &side, &e), -EBADMSG);
		assert_int_equal(side, COPY_SIDE_SOURCE);
		assert_string_equal(e.text, "fake failure");
		copy_free(c);
	}
}

static void a_target_that_breaks_is_the_targets_fault(void **state)
{
	const uint64_t places[] = { 0, MIB(6), MIB(12) - 1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct fake_image *f = fake_image_units(MIB(12), SEED, MIB(5), 0);
		struct copy *c = copy_new(&f->img, MIB(12));
		enum copy_side side = COPY_SIDE_SOURCE;
		struct err e = { 0 };
		uint64_t size;

		c->m.fail_at = places[i];
		assert_int_equal(copy_run(c, &size, &side, &e), -ENOSPC);
		assert_int_equal(side, COPY_SIDE_TARGET);
		assert_string_equal(e.text, "the target is full");
		copy_free(c);
	}
}

static void who_wants_it_to_end_is_heard(void **state)
{
	struct fake_image *f = fake_image_units(MIB(64), SEED, MIB(5), 0);
	struct copy *c = copy_new(&f->img, MIB(64));
	enum copy_side side;
	struct err e = { 0 };
	uint64_t size;

	(void)state;
	c->stop = true;
	assert_int_equal(copy_run(c, &size, &side, &e), -ECANCELED);
	copy_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units_of_any_size_are_decoded_once),
		cmocka_unit_test(what_is_withheld_is_written_last),
		cmocka_unit_test(zeros_are_not_written),
		cmocka_unit_test(the_real_end_is_found),
		cmocka_unit_test(a_target_that_turns_out_too_small_is_named),
		cmocka_unit_test(a_source_that_breaks_is_the_sources_fault),
		cmocka_unit_test(a_target_that_breaks_is_the_targets_fault),
		cmocka_unit_test(who_wants_it_to_end_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
