/* SPDX-License-Identifier: Apache-2.0 */
/* Boot traces: the record, what several boots have in common, requests, recording. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "cache/trace.h"
#include "cache/tracer.h"
#include "core/bytes.h"

#define GRANULES 1000U
#define SIZE     (GRANULES * (uint64_t)CACHE_GRANULE - 5)

static struct trace empty_trace(void)
{
	struct trace t = { .version = strdup("etag=\"v1\" size=65535995"), .size = SIZE };

	t.entries = calloc(1, sizeof(*t.entries));
	return t;
}

/* One boot more, which touched the granules [first, first + count), one a millisecond. */
static void boot(struct trace *t, uint32_t first, uint32_t count)
{
	struct trace_entry *seen = calloc(count, sizeof(*seen));
	struct trace merged;

	for (uint32_t i = 0; i < count; i++) {
		seen[i] = (struct trace_entry){ first + i, i, 1 };
	}
	assert_int_equal(trace_merge(t, seen, count, &merged), 0);
	free(seen);
	trace_clear(t);
	*t = merged;
}

static size_t usual(const struct trace *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++) {
		n += trace_is_usual(t, &t->entries[i]);
	}
	return n;
}

static void assert_same(const struct trace *a, const struct trace *b)
{
	assert_string_equal(a->version, b->version);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->boots, b->boots);
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->entries, b->entries, a->count * sizeof(*a->entries));
}

static void a_record_says_what_was_put_into_it(void **state)
{
	struct trace t = empty_trace();
	struct trace back;
	void *data;
	size_t len;

	(void)state;
	boot(&t, 10, 20);
	boot(&t, 15, 20);
	assert_int_equal(trace_format(&t, &data, &len, NULL), 0);
	assert_int_equal(trace_parse(data, len, &back, NULL), 0);
	assert_same(&t, &back);
	trace_clear(&back);
	free(data);
	trace_clear(&t);
}

/* Written on one machine, read on another, and by later versions: these bytes do not change. */
static void the_layout_is_what_the_header_says(void **state)
{
	static const uint8_t want[] = "LZDTRACE\1\0\0\0\0\0\1\0\xfb\xff\x0d\0\0\0\0\0\1\0\0\0"
				      "\2\0\0\0\3\0\0\0\0\0\0\0e=1"
				      "\5\0\0\0\0\0\0\0\1\0\0\0\6\0\0\0\1\0\0\0\1\0\0\0";
	struct trace_entry seen[] = { { 5, 0, 1 }, { 6, 1, 1 } };
	struct trace t = { .version = strdup("e=1"), .size = 0xdfffb };
	struct trace merged;
	void *data;
	size_t len;

	(void)state;
	t.entries = calloc(1, sizeof(*t.entries));
	assert_int_equal(trace_merge(&t, seen, 2, &merged), 0);
	assert_int_equal(trace_format(&merged, &data, &len, NULL), 0);
	assert_int_equal(len, sizeof(want) - 1 + 8);
	assert_memory_equal(data, want, sizeof(want) - 1);
	assert_int_equal(load_le64((uint8_t *)data + len - 8), 0xd392f581f57f4c70ULL);
	free(data);
	trace_clear(&merged);
	trace_clear(&t);
}

static void each_damaged_byte_and_each_missing_one_is_noticed(void **state)
{
	struct trace t = empty_trace();
	struct trace back = { 0 };
	uint8_t *data;
	size_t len;

	(void)state;
	boot(&t, 10, 20);
	assert_int_equal(trace_format(&t, (void **)&data, &len, NULL), 0);
	for (size_t i = 0; i < len; i++) {
		struct err e = { 0 };
		int r;

		data[i] ^= 0x10;
		r = trace_parse(data, len, &back, &e);
		assert_int_equal(r, i < 8 ? -EINVAL : i < 12 ? -ENOTSUP : -EBADMSG);
		assert_true(e.text[0]);
		data[i] ^= 0x10;
		assert_true(trace_parse(data, i, &back, NULL) < 0);
	}
	assert_null(back.version);
	assert_int_equal(trace_parse(data, len, &back, NULL), 0);
	trace_clear(&back);
	free(data);
	trace_clear(&t);
}

/* What a checksum does not protect from: a record made to be wrong. */
static void impossible_entries_are_refused(void **state)
{
	static const struct trace_entry wrong[] = {
		{ GRANULES, 0, 1 }, /* behind the end */
		{ 1, 0, 0 },        /* of no boot */
		{ 1, 0, 2 },        /* of more boots than there were */
	};
	struct trace_entry disordered[] = { { 1, 5, 1 }, { 2, 4, 1 } };
	struct trace back;
	void *data;
	size_t len;

	(void)state;
	for (size_t i = 0; i <= ARRAY_SIZE(wrong); i++) {
		struct trace_entry x = wrong[min_u64(i, ARRAY_SIZE(wrong) - 1)];
		struct trace t = { (char *)"v", SIZE, 1, 1, &x };

		if (i == ARRAY_SIZE(wrong)) {
			t.count = 2;
			t.entries = disordered;
		}
		assert_int_equal(trace_format(&t, &data, &len, NULL), 0);
		assert_int_equal(trace_parse(data, len, &back, NULL), -EBADMSG);
		free(data);
	}
}

static void a_trace_fits_its_version_wherever_that_lies(void **state)
{
	struct trace t = { (char *)"etag=\"v1\" size=10", 10, 1, 0, NULL };

	(void)state;
	assert_true(trace_fits(&t, "https://a/x etag=\"v1\" size=10", 10));
	assert_true(trace_fits(&t, "http://mirror:81/y/x etag=\"v1\" size=10", 10));
	assert_false(trace_fits(&t, "https://a/x etag=\"v2\" size=10", 10));
	assert_false(trace_fits(&t, "https://a/x etag=\"v1\" size=10", 11));
	t.version = (char *)"sha256:12";
	assert_true(trace_fits(&t, "sha256:12", 10));
}

static void what_most_boots_touch_is_usual(void **state)
{
	struct trace t = empty_trace();

	(void)state;
	boot(&t, 0, 100);
	assert_int_equal(usual(&t), 100);
	boot(&t, 0, 100);
	boot(&t, 50, 100); /* a third one reads half of it, and other things */
	assert_int_equal(t.boots, 3);
	assert_int_equal(t.count, 150);
	assert_int_equal(usual(&t), 100); /* 2 or 3 of 3 */
	boot(&t, 50, 100);
	assert_int_equal(usual(&t), 150); /* 2 of 4 */
	boot(&t, 50, 100);
	assert_int_equal(usual(&t), 100); /* 3 to 5 of 5: the first 50 are out */
	for (size_t i = 0; i < t.count; i++) {
		assert_int_equal(trace_is_usual(&t, &t.entries[i]), t.entries[i].granule >= 50);
		assert_true(i == 0 || t.entries[i].ms >= t.entries[i - 1].ms);
	}
	trace_clear(&t);
}

static void the_last_boot_says_when(void **state)
{
	struct trace_entry seen[] = { { 3, 7, 1 }, { 2, 9, 1 } };
	struct trace t = empty_trace();
	struct trace merged;

	(void)state;
	boot(&t, 2, 3); /* 2, 3, 4 at 0, 1, 2 ms */
	assert_int_equal(trace_merge(&t, seen, 2, &merged), 0);
	assert_int_equal(merged.entries[0].granule, 4);
	assert_int_equal(merged.entries[1].granule, 3);
	assert_int_equal(merged.entries[2].granule, 2);
	assert_int_equal(merged.entries[2].ms, 9);
	assert_int_equal(merged.entries[2].boots, 2);
	trace_clear(&merged);
	trace_clear(&t);
}

static void old_habits_are_forgotten(void **state)
{
	struct trace t = empty_trace();

	(void)state;
	for (int i = 0; i < 16; i++) {
		boot(&t, 0, 100);
	}
	assert_int_equal(t.boots, TRACE_BOOTS_MAX);
	for (int i = 0; i < 100; i++) {
		boot(&t, 500, 100);
		assert_true(t.boots <= TRACE_BOOTS_MAX);
	}
	assert_int_equal(t.count, 100);
	assert_int_equal(t.entries[0].granule, 500);
	trace_clear(&t);
}

static void a_look_at_the_image_is_no_boot(void **state)
{
	struct trace t = empty_trace();

	(void)state;
	boot(&t, 0, 100);
	boot(&t, 900, 24);
	assert_int_equal(t.boots, 1);
	assert_int_equal(t.count, 100);
	boot(&t, 900, 25);
	assert_int_equal(t.boots, 2);
	trace_clear(&t);
}

static void neighbours_become_one_request_within_a_window(void **state)
{
	struct trace_entry x[] = { { 7, 0, 1 }, { 3, 1, 1 }, { 5, 2, 1 }, { 4, 2, 1 }, { 40, 3, 1 },
		{ 6, 1500, 1 }, { 41, 1501, 1 } };
	struct trace t = { NULL, SIZE, 1, ARRAY_SIZE(x), x };
	struct trace_run runs[8];
	size_t next = 0;

	(void)state;
	assert_int_equal(trace_window(&t, &next, 1000, 0, runs, 8), 3);
	assert_int_equal(runs[0].first, 3);
	assert_int_equal(runs[0].count, 3);
	assert_int_equal(runs[1].first, 7);
	assert_int_equal(runs[1].count, 1);
	assert_int_equal(runs[2].first, 40);
	assert_int_equal(next, 5);
	assert_int_equal(trace_window(&t, &next, 1000, 0, runs, 8), 2);
	assert_int_equal(runs[0].first, 6);
	assert_int_equal(trace_window(&t, &next, 1000, 0, runs, 8), 0);

	next = 0; /* a small hole is fetched along */
	assert_int_equal(trace_window(&t, &next, 1000, 1, runs, 8), 2);
	assert_int_equal(runs[0].first, 3);
	assert_int_equal(runs[0].count, 5);

	next = 0; /* no more than there is room for */
	assert_int_equal(trace_window(&t, &next, 1000, 0, runs, 2), 2);
	assert_int_equal(next, 2);
	assert_int_equal(runs[0].first, 3);
	assert_int_equal(runs[1].first, 7);
}

static void what_few_boots_touch_is_not_fetched(void **state)
{
	struct trace_entry x[] = { { 1, 0, 1 }, { 2, 0, 2 }, { 3, 0, 3 } };
	struct trace t = { NULL, SIZE, 3, ARRAY_SIZE(x), x };
	struct trace_run runs[8];
	size_t next = 0;

	(void)state;
	assert_int_equal(trace_window(&t, &next, 1000, 0, runs, 8), 1);
	assert_int_equal(runs[0].first, 2);
	assert_int_equal(runs[0].count, 2);
}

/* --- recording --- */

#define MS UINT64_C(1000000)

static struct trace recorded(struct tracer *t)
{
	struct trace old = empty_trace();
	struct trace merged;

	assert_int_equal(tracer_merge(t, &old, &merged), 0);
	trace_clear(&old);
	return merged;
}

static void first_touches_are_recorded_in_their_order(void **state)
{
	struct tracer t;
	struct trace got;

	(void)state;
	assert_int_equal(tracer_init(&t, GRANULES), 0);
	tracer_touch(&t, 5 * CACHE_GRANULE + 10, 100, 1000 * MS);
	tracer_touch(&t, 5 * CACHE_GRANULE, CACHE_GRANULE, 1001 * MS);
	tracer_touch(&t, 2 * CACHE_GRANULE - 1, 2, 1010 * MS);
	tracer_touch(&t, 0, 4 * CACHE_GRANULE, 1020 * MS);
	got = recorded(&t);
	assert_int_equal(got.boots, 1);
	assert_int_equal(got.count, 5);
	assert_int_equal(got.entries[0].granule, 5);
	assert_int_equal(got.entries[0].ms, 0);
	assert_int_equal(got.entries[1].granule, 1);
	assert_int_equal(got.entries[2].granule, 2);
	assert_int_equal(got.entries[2].ms, 10);
	assert_int_equal(got.entries[3].granule, 0);
	assert_int_equal(got.entries[4].granule, 3);
	assert_int_equal(got.entries[4].ms, 20);
	trace_clear(&got);
	tracer_fini(&t);
}

static void a_machine_that_is_started_late_boots_all_the_same(void **state)
{
	struct tracer t;
	struct trace got;

	(void)state;
	assert_int_equal(tracer_init(&t, GRANULES), 0);
	tracer_touch(&t, 0, 1, 1000 * MS);
	tracer_touch(&t, CACHE_GRANULE, 1, 7200 * 1000 * MS);
	tracer_touch(&t, 2 * CACHE_GRANULE, 1, 7200 * 1000 * MS + MS);
	assert_true(tracer_is_on(&t));
	got = recorded(&t);
	assert_int_equal(got.entries[1].ms, 5000);
	assert_int_equal(got.entries[2].ms, 5001);
	trace_clear(&got);
	tracer_fini(&t);
}

static void recording_ends_by_time_and_by_size(void **state)
{
	struct tracer t;
	uint64_t now = MS;

	(void)state;
	assert_int_equal(tracer_init(&t, GRANULES), 0);
	for (uint64_t g = 0; g < GRANULES; g++) {
		tracer_touch(&t, g * CACHE_GRANULE, 1, now);
		assert_int_equal(tracer_is_on(&t), g < 749);
	}
	assert_int_equal(tracer_count(&t), 750); /* three quarters */
	tracer_fini(&t);

	assert_int_equal(tracer_init(&t, GRANULES), 0);
	for (uint64_t g = 0; g < 100; g++) {
		tracer_touch(&t, g * CACHE_GRANULE, 1, now + g * 4000 * MS);
		assert_int_equal(tracer_is_on(&t), g <= 75);
	}
	assert_int_equal(tracer_count(&t), 76);
	tracer_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_says_what_was_put_into_it),
		cmocka_unit_test(the_layout_is_what_the_header_says),
		cmocka_unit_test(each_damaged_byte_and_each_missing_one_is_noticed),
		cmocka_unit_test(impossible_entries_are_refused),
		cmocka_unit_test(a_trace_fits_its_version_wherever_that_lies),
		cmocka_unit_test(what_most_boots_touch_is_usual),
		cmocka_unit_test(the_last_boot_says_when),
		cmocka_unit_test(old_habits_are_forgotten),
		cmocka_unit_test(a_look_at_the_image_is_no_boot),
		cmocka_unit_test(neighbours_become_one_request_within_a_window),
		cmocka_unit_test(what_few_boots_touch_is_not_fetched),
		cmocka_unit_test(first_touches_are_recorded_in_their_order),
		cmocka_unit_test(a_machine_that_is_started_late_boots_all_the_same),
		cmocka_unit_test(recording_ends_by_time_and_by_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
