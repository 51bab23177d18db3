/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured of a link of 30 ms and 12.5 MB/s, whatever else keeps readers from it. */
#include "tests/unit/test.h"

#include "cache/meter.h"

#define MS  UINT64_C(1000000)
#define RTT (30 * MS)
/* Bytes that the link carries in a millisecond. */
#define PER_MS 12500U

static void expect_rate(struct meter *m, struct meter_run *r, uint64_t now)
{
	uint64_t bytes;
	uint64_t us;

	meter_ended(m, r, now, &bytes, &us);
	assert_in_range(bytes * 1000 / us, PER_MS * 95 / 100, PER_MS * 105 / 100);
}

static void one_transfer_shows_the_rate(void **state)
{
	struct meter m = { 0 };
	struct meter_run r;

	(void)state;
	meter_sent(&m, &r, 5 * MS);
	meter_first(&m, &r, 35 * MS, 0);
	meter_count(&m, 20 * PER_MS);
	expect_rate(&m, &r, 55 * MS);
	/* And again after a while. */
	meter_sent(&m, &r, 1000 * MS);
	meter_first(&m, &r, 1030 * MS, RTT);
	meter_count(&m, 10 * PER_MS);
	expect_rate(&m, &r, 1040 * MS);
}

/* The first byte is seen late, and everything else is there, too. */
static void a_reader_that_comes_late_is_no_quick_link(void **state)
{
	struct meter m = { 0 };
	struct meter_run r;

	(void)state;
	meter_sent(&m, &r, 0);
	meter_first(&m, &r, 50 * MS, RTT);
	meter_count(&m, 20 * PER_MS);
	expect_rate(&m, &r, 50 * MS);
}

static void transfers_at_once_share_the_link(void **state)
{
	struct meter m = { 0 };
	struct meter_run a;
	struct meter_run b;

	(void)state;
	meter_sent(&m, &a, 0);
	meter_sent(&m, &b, 10 * MS);
	meter_first(&m, &a, 30 * MS, RTT);
	meter_count(&m, 10 * PER_MS);
	meter_first(&m, &b, 40 * MS, RTT);
	meter_count(&m, 20 * PER_MS); /* of both */
	expect_rate(&m, &a, 60 * MS);
	meter_count(&m, 10 * PER_MS);
	expect_rate(&m, &b, 70 * MS);
}

static void time_in_which_nothing_came_does_not_count(void **state)
{
	struct meter m = { 0 };
	struct meter_run a;
	struct meter_run b;

	(void)state;
	meter_sent(&m, &a, 0);
	meter_first(&m, &a, 30 * MS, RTT);
	meter_count(&m, 10 * PER_MS);
	meter_sent(&m, &b, 35 * MS);
	expect_rate(&m, &a, 40 * MS);
	meter_first(&m, &b, 65 * MS, RTT);
	meter_count(&m, 10 * PER_MS);
	expect_rate(&m, &b, 75 * MS);
}

/* What came before a transfer's first byte came in its time, too, but is not its own. */
static void what_others_brought_before_is_not_counted_again(void **state)
{
	struct meter m = { 0 };
	struct meter_run a;
	struct meter_run b;

	(void)state;
	meter_sent(&m, &a, 0);
	meter_sent(&m, &b, 20 * MS);
	meter_first(&m, &a, 30 * MS, RTT);
	meter_count(&m, 30 * PER_MS);
	expect_rate(&m, &a, 60 * MS);
	meter_first(&m, &b, 60 * MS, RTT);
	meter_count(&m, 10 * PER_MS);
	expect_rate(&m, &b, 70 * MS);
}

static void what_never_flowed_says_nothing(void **state)
{
	struct meter m = { 0 };
	struct meter_run r;
	uint64_t bytes = 1;
	uint64_t us = 1;

	(void)state;
	meter_sent(&m, &r, 5 * MS);
	meter_ended(&m, &r, 50 * MS, &bytes, &us);
	assert_int_equal(bytes, 0);
	assert_int_equal(us, 0);
	assert_int_equal(m.flowing, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_transfer_shows_the_rate),
		cmocka_unit_test(a_reader_that_comes_late_is_no_quick_link),
		cmocka_unit_test(transfers_at_once_share_the_link),
		cmocka_unit_test(time_in_which_nothing_came_does_not_count),
		cmocka_unit_test(what_others_brought_before_is_not_counted_again),
		cmocka_unit_test(what_never_flowed_says_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
