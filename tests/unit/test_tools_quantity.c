/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, times and counts as people write them. */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "tools/quantity.h"

static void kubernetes_quantities_are_read_as_kubernetes_reads_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{ "0", 0 },
		{ "1073741824", 1073741824 },
		{ "10Gi", 10737418240 },
		{ "500M", 500000000 },
		{ "500Mi", 524288000 },
		{ "1.5Gi", 1610612736 },
		{ ".5Ki", 512 },
		{ "5.Ki", 5120 },
		{ "+5k", 5000 },
		{ "1e3", 1000 },
		{ "1E3", 1000 },
		{ "1.5e+3", 1500 },
		{ "12e-1", 2 },
		{ "1E", 1000000000000000000 },
		{ "1Ei", 1152921504606846976 },
		{ "1P", 1000000000000000 },
		{ "1Ti", 1099511627776 },
		{ "100m", 1 },
		{ "1500m", 2 },
		{ "2000000u", 2 },
		{ "1n", 1 },
		{ "0m", 0 },
		{ "0e99", 0 },
		{ "1e-99", 1 },
		{ "0.1Ki", 103 },
		{ "007", 7 },
		{ "18446744073709551615", UINT64_MAX },
		{ "15.999Ei", 18445591152204944770U },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };
		uint64_t got = 77;

		if (quantity_parse(rows[i].text, &got, &e) < 0 || got != rows[i].bytes) {
			fail_msg("%s: %s, %ju", rows[i].text, e.text, (uintmax_t)got);
		}
	}
}

static void what_is_no_quantity_is_refused_and_named(void **state)
{
	static const char *const rows[] = { "", "-1", "-1Gi", "much", "10 Gi", "10gi", "10GiB",
		"10K", "10KB", "Gi", ".", "1.2.3", "1e", "1e+", "1e1000", "0x10", "10Gi ", " 1",
		"1,5Gi", "1e3Gi", "NaN" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };
		uint64_t got = 77;

		assert_int_equal(quantity_parse(rows[i], &got, &e), -EINVAL);
		assert_int_equal(got, 77);
		assert_non_null(strstr(e.text, rows[i]));
	}
}

static void what_exceeds_64_bits_is_refused(void **state)
{
	static const char *const rows[] = { "18446744073709551616", "16Ei", "19E", "1e20",
		"99999999999999999999999", "1.00000000000000000000000" };
	uint64_t got = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(quantity_parse(rows[i], &got, NULL), -ERANGE);
	}
	assert_int_equal(got, 77);
}

static void the_usual_slip_gets_a_hint(void **state)
{
	struct err e = { 0 };
	uint64_t got;

	(void)state;
	assert_int_equal(quantity_parse("64K", &got, &e), -EINVAL);
	assert_non_null(strstr(e.text, "Ki"));
}

static void a_size_is_written_shortest_and_exactly(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = { { 0, "0" }, { 1, "1" }, { 1000, "1000" }, { 1024, "1Ki" }, { GIB(2), "2Gi" },
		{ MIB(1536), "1536Mi" }, { 2000003072, "1953128Ki" }, { (uint64_t)1 << 63, "8Ei" },
		{ UINT64_MAX, "18446744073709551615" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[QUANTITY_MAX];
		uint64_t back = 77;

		assert_string_equal(quantity_format(rows[i].bytes, text), rows[i].text);
		assert_int_equal(quantity_parse(text, &back, NULL), 0);
		assert_int_equal(back, rows[i].bytes);
	}
}

static void times_have_units(void **state)
{
	static const char *const bad[] = { "", "0", "0s", "-1", "soon", "1d", "5 m", "1.5h", "0x",
		"9999999999", "99999999999" };
	unsigned int got = 7;

	(void)state;
	assert_int_equal(quantity_parse_seconds("90", &got, NULL), 0);
	assert_int_equal(got, 90);
	assert_int_equal(quantity_parse_seconds("90s", &got, NULL), 0);
	assert_int_equal(got, 90);
	assert_int_equal(quantity_parse_seconds("2m", &got, NULL), 0);
	assert_int_equal(got, 120);
	assert_int_equal(quantity_parse_seconds("1h", &got, NULL), 0);
	assert_int_equal(got, 3600);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(quantity_parse_seconds(bad[i], &got, NULL) < 0);
	}
	assert_int_equal(got, 3600);
}

static void counts_stay_within_their_limits(void **state)
{
	static const char *const bad[] = { "", "0", "65", "4294967297", "99999999999", "1x", "-1",
		"+1", " 1" };
	unsigned int got = 7;

	(void)state;
	assert_int_equal(quantity_parse_count("64", 1, 64, &got, NULL), 0);
	assert_int_equal(got, 64);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(quantity_parse_count(bad[i], 1, 64, &got, NULL), -EINVAL);
	}
	assert_int_equal(got, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kubernetes_quantities_are_read_as_kubernetes_reads_them),
		cmocka_unit_test(what_is_no_quantity_is_refused_and_named),
		cmocka_unit_test(what_exceeds_64_bits_is_refused),
		cmocka_unit_test(the_usual_slip_gets_a_hint),
		cmocka_unit_test(a_size_is_written_shortest_and_exactly),
		cmocka_unit_test(times_have_units),
		cmocka_unit_test(counts_stay_within_their_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
