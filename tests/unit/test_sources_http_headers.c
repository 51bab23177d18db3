/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/http_headers.h"

#define NOW 1700000000 /* Tue, 14 Nov 2023 22:13:20 GMT */

static void feed(struct http_headers *h, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");

		http_headers_line(h, text, n, NOW);
		text += n + (text[n] == '\n');
	}
}

static void a_good_answer_is_taken_apart(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 206 Partial Content\r\n"
		 "DATE: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
		 "content-range: bytes 5-9/100\r\n"
		 "Content-Length: 5 \r\n"
		 "ETag: W/\"a b\"\r\n"
		 "Last-Modified:Tue, 14 Nov 2023 22:00:00 GMT\r\n"
		 "Content-Encoding: identity\r\n");
	assert_false(h.complete);
	feed(&h, "\r\n");
	assert_true(h.complete);
	assert_int_equal(h.status, 206);
	assert_true(h.has_range && !h.range_bad && !h.unsatisfied);
	assert_int_equal(h.from, 5);
	assert_int_equal(h.to, 9);
	assert_int_equal(h.total, 100);
	assert_int_equal(h.length, 5);
	assert_int_equal(h.date, NOW);
	assert_string_equal(h.etag, "W/\"a b\"");
	assert_string_equal(h.last_modified, "Tue, 14 Nov 2023 22:00:00 GMT");
	assert_int_equal(h.coding, HTTP_CODING_NONE);
	http_headers_clear(&h);
}

static void a_second_header_starts_over(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 401 Unauthorized\r\nETag: \"x\"\r\nContent-Length: 7\r\n"
		 "WWW-Authenticate: Digest realm=\"r\"\r\nLocation: /y\r\n\r\n");
	assert_int_equal(h.auth, HTTP_AUTH_DIGEST);
	assert_string_equal(h.location, "/y");
	feed(&h, "HTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(h.status, 200);
	assert_string_equal(h.etag, "");
	assert_true(h.length == HTTP_UNKNOWN);
	assert_int_equal(h.auth, 0);
	assert_null(h.location);
}

static void an_interim_answer_is_not_complete(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 103 Early Hints\r\n\r\n");
	assert_false(h.complete);
}

static void trailers_change_nothing(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 206 x\r\nETag: \"a\"\r\nContent-Range: bytes 0-0/1\r\n\r\n");
	feed(&h, "ETag: \"b\"\r\nContent-Range: bytes 0-4/9\r\n");
	assert_string_equal(h.etag, "\"a\"");
	assert_false(h.range_bad);
	assert_int_equal(h.total, 1);
}

static void broken_content_ranges_are_told_from_good_ones(void **state)
{
	static const char *const bad[] = { "", "bytes", "bytes ", "bytes 1-", "bytes 5-4/10",
		"bytes 0-10/10", "bytes 0-0/0", "bytes */*", "bytes a-b/c", "bytes -5-9/10",
		"bytes 0-9/10x", "bytes 0-9/", "bytes +0-9/10", "bytes 0 -9/10",
		"bytes 0-99999999999999999999/*", "items 0-9/10", "bytes 0-9/18446744073709551616",
		"bytes=0-9/10", "bytes 0-9 /10" };
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (http_parse_content_range(bad[i], &h)) {
			fail_msg("\"%s\" was taken for a range", bad[i]);
		}
	}
	assert_true(http_parse_content_range("bytes 0-9/*", &h));
	assert_true(h.total == HTTP_UNKNOWN);
	assert_true(http_parse_content_range("BYTES \t*/77", &h));
	assert_true(h.unsatisfied);
	assert_int_equal(h.total, 77);
	assert_true(http_parse_content_range(
		"bytes 9223372036854775806-9223372036854775806/9223372036854775807", &h));
	assert_true(h.from == INT64_MAX - 1);
}

static void two_content_ranges_are_bad(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 206 x\nContent-Range: bytes 0-0/1\nContent-Range: bytes 0-0/1\n");
	assert_true(h.range_bad);
}

static void what_is_no_validator_is_none(void **state)
{
	static const char *const tags[] = { "ETag: abc\n", "ETag: \"\n", "ETag: \"a\"b\"\n",
		"ETag: w/\"a\"\n", "ETag:\n", "ETag: \"a\n" };
	struct http_headers h = HTTP_HEADERS_INIT;
	char huge[HTTP_ETAG_MAX + 32] = "ETag: \"";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		feed(&h, "HTTP/1.1 200 OK\n");
		feed(&h, tags[i]);
		assert_string_equal(h.etag, "");
	}
	memset(huge + 7, 'x', HTTP_ETAG_MAX);
	huge[HTTP_ETAG_MAX + 7] = '"';
	feed(&h, huge);
	assert_string_equal(h.etag, "");
	feed(&h, "Last-Modified: yesterday\n");
	assert_string_equal(h.last_modified, "");
}

static void retry_after_is_seconds_or_a_date(void **state)
{
	(void)state;
	assert_int_equal(http_parse_retry_after("120", NOW), 120);
	assert_int_equal(http_parse_retry_after("0", NOW), 0);
	assert_int_equal(http_parse_retry_after("Tue, 14 Nov 2023 22:14:20 GMT", NOW), 60);
	assert_int_equal(http_parse_retry_after("Tue, 14 Nov 2023 22:00:00 GMT", NOW), 0);
	assert_true(http_parse_retry_after("soon", NOW) == HTTP_UNKNOWN);
	assert_true(http_parse_retry_after("-1", NOW) == HTTP_UNKNOWN);
}

static void codings_are_told_apart(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	(void)state;
	feed(&h, "HTTP/1.1 206 x\nContent-Encoding: x-gzip\n");
	assert_int_equal(h.coding, HTTP_CODING_GZIP);
	feed(&h, "HTTP/1.1 206 x\nContent-Encoding: gzip, br\n");
	assert_int_equal(h.coding, HTTP_CODING_OTHER);
	feed(&h, "HTTP/1.1 206 x\nContent-Type: multipart/byteranges; boundary=x\n");
	assert_true(h.multipart);
}

static void lines_that_no_server_should_send_are_skipped(void **state)
{
	struct http_headers h = HTTP_HEADERS_INIT;
	char *huge = malloc(100000);

	(void)state;
	memset(huge, 'a', 100000);
	memcpy(huge, "Location: ", 10);
	feed(&h, "HTTP/1.1 302 x\n");
	http_headers_line(&h, huge, 100000, NOW);
	assert_null(h.location);
	http_headers_line(&h, "ETag: \"a\0b\"", 11, NOW);
	assert_string_equal(h.etag, "");
	feed(&h, "HTTP/garbage\n");
	assert_int_equal(h.status, 0);
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_answer_is_taken_apart),
		cmocka_unit_test(a_second_header_starts_over),
		cmocka_unit_test(an_interim_answer_is_not_complete),
		cmocka_unit_test(trailers_change_nothing),
		cmocka_unit_test(broken_content_ranges_are_told_from_good_ones),
		cmocka_unit_test(two_content_ranges_are_bad),
		cmocka_unit_test(what_is_no_validator_is_none),
		cmocka_unit_test(retry_after_is_seconds_or_a_date),
		cmocka_unit_test(codings_are_told_apart),
		cmocka_unit_test(lines_that_no_server_should_send_are_skipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
