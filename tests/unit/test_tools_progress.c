/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "tools/progress.h"

static const struct progress_state half = {
	.phase = "copy",
	.done = MIB(50),
	.total = MIB(100),
	.rate = 1048576,
	.seconds = 12.25,
};

static void a_line_says_how_far_it_is(void **state)
{
	char text[256];

	(void)state;
	progress_format(PROGRESS_PLAIN, &half, text, sizeof(text));
	assert_string_equal(text, "copy  50 %  50.0 of 100.0 MiB  1.0 MiB/s  ETA 00:50");
}

static void a_bar_is_half_full(void **state)
{
	char text[256];

	(void)state;
	progress_format(PROGRESS_BAR, &half, text, sizeof(text));
	assert_string_equal(text,
		"copy [############------------]  50 %  50.0 of 100.0 MiB  1.0 MiB/s  ETA 00:50");
	assert_true(strlen(text) < 80);
}

static void a_program_gets_an_object(void **state)
{
	struct progress_state s = half;
	char text[256];

	(void)state;
	progress_format(PROGRESS_JSON, &s, text, sizeof(text));
	assert_string_equal(text,
		"{\"phase\":\"copy\",\"done\":52428800,\"total\":104857600,\"rate\":1048576,"
		"\"eta_s\":50.0,\"elapsed_s\":12.2}");
	s.rate = 0;
	progress_format(PROGRESS_JSON, &s, text, sizeof(text));
	assert_non_null(strstr(text, "\"eta_s\":null"));
}

static void nobody_knows_the_end_without_a_rate(void **state)
{
	struct progress_state s = half;
	char text[256];

	(void)state;
	s.rate = 0;
	assert_true(progress_eta(&s) < 0);
	progress_format(PROGRESS_PLAIN, &s, text, sizeof(text));
	assert_non_null(strstr(text, "ETA --:--"));
	s.done = s.total;
	assert_true(progress_eta(&s) == 0);
	s.total = 0;
	s.done = 0;
	progress_format(PROGRESS_PLAIN, &s, text, sizeof(text));
	assert_non_null(strstr(text, "100 %"));
	s.total = UINT64_MAX;
	s.rate = 1;
	progress_format(PROGRESS_PLAIN, &s, text, sizeof(text));
	assert_non_null(strstr(text, "ETA --:--"));
	s.total = 5000;
	progress_format(PROGRESS_PLAIN, &s, text, sizeof(text));
	assert_non_null(strstr(text, "ETA 1:23:20"));
}

static void an_estimate_that_was_too_low_is_not_told(void **state)
{
	struct progress_state s = half;
	char text[256];

	(void)state;
	s.done = 2 * s.total;
	assert_true(progress_eta(&s) < 0);
	progress_format(PROGRESS_PLAIN, &s, text, sizeof(text));
	assert_string_equal(text, "copy  200.0 MiB  1.0 MiB/s");
	progress_format(PROGRESS_BAR, &s, text, sizeof(text));
	assert_string_equal(text, "copy  200.0 MiB  1.0 MiB/s");
	progress_format(PROGRESS_JSON, &s, text, sizeof(text));
	assert_non_null(strstr(text, "\"total\":null"));
	assert_non_null(strstr(text, "\"eta_s\":null"));
}

static void modes_have_names(void **state)
{
	enum progress_mode mode = PROGRESS_BAR;
	struct err e;

	(void)state;
	assert_int_equal(progress_parse(NULL, &mode, &e), 0);
	assert_int_equal(mode, PROGRESS_AUTO);
	assert_int_equal(progress_parse("json", &mode, &e), 0);
	assert_int_equal(mode, PROGRESS_JSON);
	assert_int_equal(progress_parse("none", &mode, &e), 0);
	assert_int_equal(mode, PROGRESS_NONE);
	assert_int_equal(progress_parse("bar", &mode, &e), -EINVAL);
	assert_non_null(strstr(e.text, "'bar'"));
	assert_int_equal(mode, PROGRESS_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_says_how_far_it_is),
		cmocka_unit_test(a_bar_is_half_full),
		cmocka_unit_test(a_program_gets_an_object),
		cmocka_unit_test(nobody_knows_the_end_without_a_rate),
		cmocka_unit_test(an_estimate_that_was_too_low_is_not_told),
		cmocka_unit_test(modes_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
