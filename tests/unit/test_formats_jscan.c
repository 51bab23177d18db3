/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/jscan.h"

/* In a buffer of exactly that size, so that a sanitizer sees what is read behind it. */
struct text {
	char *copy;
	struct jscan j;
};

static struct text begin(const char *text, size_t len)
{
	struct text t = { .copy = malloc(len ? len : 1) };

	assert_non_null(t.copy);
	memcpy(t.copy, text, len);
	jscan_init(&t.j, t.copy, len);
	return t;
}

static void assert_string(const char *json, const char *want)
{
	struct text t = begin(json, strlen(json));
	char got[64];

	assert_int_equal(jscan_string(&t.j, got, sizeof(got)), strlen(want));
	assert_false(jscan_failed(&t.j));
	assert_true(jscan_at_end(&t.j));
	assert_string_equal(got, want);
	free(t.copy);
}

static void assert_no_string(const char *json)
{
	struct text t = begin(json, strlen(json));
	char got[64];

	jscan_string(&t.j, got, sizeof(got));
	assert_true(jscan_failed(&t.j) || !jscan_at_end(&t.j));
	free(t.copy);
}

static void strings_are_unescaped(void **state)
{
	(void)state;
	assert_string("\"\"", "");
	assert_string(" \t\r\n\"a b\" ", "a b");
	assert_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
	assert_string("\"\\u0041\\u00e9\\u20AC\"", "A\xc3\xa9\xe2\x82\xac");
	assert_string("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80");
	assert_string("\"\xc3\xa9\"", "\xc3\xa9");
}

static void what_is_no_string_is_an_error(void **state)
{
	static const char *const bad[] = { "", "\"", "\"a", "a", "\"\\", "\"\\x\"", "\"\\u\"",
		"\"\\u12\"", "\"\\u123g\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\ud800\\n\"",
		"\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\ud83d\\u", "1", "{}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_no_string(bad[i]);
	}
}

static void a_string_is_cut_to_its_room_and_counted_whole(void **state)
{
	struct text t = begin("\"abcdef\" \"xyz\"", 14);
	char got[4] = "###";

	(void)state;
	assert_int_equal(jscan_string(&t.j, got, sizeof(got)), 6);
	assert_string_equal(got, "abc");
	assert_int_equal(jscan_string(&t.j, NULL, 0), 3);
	assert_false(jscan_failed(&t.j));
	free(t.copy);
}

static void assert_number(const char *json, bool good, uint64_t want)
{
	struct text t = begin(json, strlen(json));
	uint64_t got = jscan_number(&t.j);

	assert_int_equal(good, !jscan_failed(&t.j) && jscan_at_end(&t.j));
	if (good) {
		assert_int_equal(got, want);
	}
	free(t.copy);
}

static void numbers_are_integers_in_bounds(void **state)
{
	static const char *const bad[] = { "", "-1", "+1", "01", "00", "1.0", "1e3", "1E3", "1-",
		"9223372036854775808", "18446744073709551616", "99999999999999999999999", "x",
		"\"1\"", "1x" };

	(void)state;
	assert_number("0", true, 0);
	assert_number(" 17 ", true, 17);
	assert_number("9223372036854775807", true, INT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_number(bad[i], false, 0);
	}
}

/* {"a": NUMBER, ...} summed, all else passed over; UINT64_MAX: an error. */
static uint64_t sum_of(const char *json, size_t len)
{
	struct text t = begin(json, len);
	bool first = true;
	uint64_t sum = 0;
	char name[3];

	jscan_object(&t.j);
	while (jscan_member(&t.j, &first, name, sizeof(name))) {
		if (strcmp(name, "a") == 0) {
			sum += jscan_number(&t.j);
		} else {
			jscan_skip(&t.j);
		}
	}
	sum = jscan_failed(&t.j) || !jscan_at_end(&t.j) ? UINT64_MAX : sum;
	free(t.copy);
	return sum;
}

static uint64_t sum(const char *json)
{
	return sum_of(json, strlen(json));
}

static void what_is_not_wanted_is_passed_over(void **state)
{
	(void)state;
	assert_int_equal(sum("{}"), 0);
	assert_int_equal(sum("{\"a\":1,\"b\":[],\"a\":2}"), 3);
	assert_int_equal(sum("{\"b\":{\"a\":9,\"c\":[1,{\"a\":[[]]},\"}\"]},\"a\":4}"), 4);
	assert_int_equal(sum("{ \"b\" : -1.5e+7 , \"long\" : null , \"c\" : true, \"a\" : 5 }"), 5);
	assert_int_equal(sum("{\"b\":\"\\\"]}\",\"a\":6}\n"), 6);
}

static void what_is_no_json_is_an_error(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{\"a\"}", "{\"a\":}", "{\"a\":1",
		"{\"a\":1,}", "{,}", "{\"a\":1 \"a\":2}", "{a:1}", "{\"b\":[1,]}", "{\"b\":[1}",
		"{\"b\":{]}", "{\"b\":}", "{\"b\":[,1]}", "{\"a\":1}x", "{\"a\":1}{}",
		"{\"b\":[1 2]}", "{\"b\":{\"c\"}}", "{\"b\":\"}" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(sum(bad[i]), UINT64_MAX);
	}
	assert_int_equal(sum_of("{\"a\":1}\0", 8), UINT64_MAX);
	assert_int_equal(sum_of("{\0\"a\":1}", 8), UINT64_MAX);
}

static void cut_off_anywhere_is_an_error(void **state)
{
	static const char whole[] = "{\"a\":12,\"b\":[{\"c\":\"\\u00e9\\n\"},[],{}, 1],\"a\":3}";

	(void)state;
	assert_int_equal(sum(whole), 15);
	for (size_t len = 0; len < sizeof(whole) - 1; len++) {
		assert_int_equal(sum_of(whole, len), UINT64_MAX);
	}
}

static uint64_t nested(unsigned int depth, char open, char close)
{
	char json[512];
	size_t n = (size_t)snprintf(json, sizeof(json), "{\"b\":");

	for (unsigned int i = 0; i < depth; i++) {
		json[n++] = open;
	}
	for (unsigned int i = 0; i < depth; i++) {
		json[n++] = close;
	}
	n += (size_t)snprintf(json + n, sizeof(json) - n, ",\"a\":7}");
	return sum_of(json, n);
}

static void depth_is_bounded(void **state)
{
	(void)state;
	assert_int_equal(nested(JSCAN_DEPTH_MAX, '[', ']'), 7);
	assert_int_equal(nested(JSCAN_DEPTH_MAX + 1, '[', ']'), UINT64_MAX);
	assert_int_equal(nested(200, '[', ']'), UINT64_MAX);
}

static void after_an_error_all_fails(void **state)
{
	struct text t = begin("[1,x,2,3]", 9);
	bool first = true;
	char got[8];

	(void)state;
	jscan_array(&t.j);
	assert_true(jscan_element(&t.j, &first));
	assert_int_equal(jscan_number(&t.j), 1);
	assert_true(jscan_element(&t.j, &first));
	jscan_number(&t.j);
	assert_true(jscan_failed(&t.j));
	assert_false(jscan_element(&t.j, &first));
	jscan_skip(&t.j);
	jscan_object(&t.j);
	jscan_number(&t.j);
	jscan_string(&t.j, got, sizeof(got));
	assert_true(jscan_failed(&t.j));
	free(t.copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_are_unescaped),
		cmocka_unit_test(what_is_no_string_is_an_error),
		cmocka_unit_test(a_string_is_cut_to_its_room_and_counted_whole),
		cmocka_unit_test(numbers_are_integers_in_bounds),
		cmocka_unit_test(what_is_not_wanted_is_passed_over),
		cmocka_unit_test(what_is_no_json_is_an_error),
		cmocka_unit_test(cut_off_anywhere_is_an_error),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(after_an_error_all_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
