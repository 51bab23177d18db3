/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/http_check.h"

#define URL "https://h/x"

static const struct http_version strong = { .etag = "\"v1\"", .size = 1000 };
static const struct http_version dated = { .last_modified = "Tue, 14 Nov 2023 22:00:00 GMT",
	.size = 1000 };
static const struct http_version none = { .size = 1000 };

static struct http_ask range(const struct http_version *v)
{
	return (struct http_ask){ .kind = HTTP_RANGE, .off = 100, .len = 50, .version = v };
}

/* The verdict on an answer of these lines. */
static struct http_verdict judge(const struct http_ask *ask, const char *lines)
{
	struct http_headers h = HTTP_HEADERS_INIT;
	struct http_verdict v;

	while (*lines) {
		size_t n = strcspn(lines, "\n");

		http_headers_line(&h, lines, n, 0);
		lines += n + (lines[n] == '\n');
	}
	http_headers_line(&h, "", 0, 0);
	assert_true(h.complete);
	v = http_check(ask, &h);
	http_headers_clear(&h);
	return v;
}

static void expect(struct http_verdict v, enum http_answer answer, int code)
{
	assert_int_equal(v.answer, answer);
	assert_int_equal(v.code, code);
	if (code) {
		assert_true(v.text[0]);
	}
}

static void the_range_that_was_asked_for_is_accepted(void **state)
{
	struct http_ask ask = range(&strong);
	struct http_verdict v =
		judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 100-149/1000\n"
			    "Content-Length: 50");

	(void)state;
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.body_off, 100);
	assert_int_equal(v.body_len, 50);
}

static void a_shorter_range_is_accepted_as_what_it_is(void **state)
{
	struct http_ask ask = range(&strong);
	struct http_verdict v =
		judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 100-109/1000");

	(void)state;
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.body_len, 10);
}

static void any_other_range_is_refused(void **state)
{
	static const char *const ranges[] = { "bytes 0-49/1000", "bytes 101-149/1000",
		"bytes 100-150/1000", "bytes 99-149/1000", "bytes */1000", "bytes 100/1000" };
	struct http_ask ask = range(&strong);
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		snprintf(text, sizeof(text), "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: %s",
			ranges[i]);
		expect(judge(&ask, text), HTTP_FATAL, -EPROTO);
	}
	expect(judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\""), HTTP_FATAL, -EPROTO);
	expect(judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 100-149/1000\n"
			   "Content-Length: 51"),
		HTTP_FATAL, -EPROTO);
	expect(judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Type: multipart/byteranges; b=x"),
		HTTP_FATAL, -EPROTO);
}

static void another_version_is_noticed(void **state)
{
	static const char *const answers[] = { "ETag: \"v2\"\nContent-Range: bytes 100-149/1000",
		"ETag: W/\"v1\"\nContent-Range: bytes 100-149/1000",
		"Content-Range: bytes 100-149/1000",
		"ETag: \"v1\"\nContent-Range: bytes 100-149/1001" };
	struct http_ask ask = range(&strong);
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		snprintf(text, sizeof(text), "HTTP/1.1 206 x\n%s", answers[i]);
		expect(judge(&ask, text), HTTP_CHANGED, -ESTALE);
	}
	ask = range(&dated);
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 100-149/1000\n"
			   "Last-Modified: Tue, 14 Nov 2023 22:00:01 GMT"),
		HTTP_CHANGED, -ESTALE);
	expect(judge(&ask, "HTTP/1.1 412 x"), HTTP_CHANGED, -ESTALE);
	ask = range(&none);
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 100-149/999"), HTTP_CHANGED,
		-ESTALE);
}

static void a_strong_tag_is_enough(void **state)
{
	static const struct http_version both = {
		.etag = "\"v1\"", .last_modified = "Tue, 14 Nov 2023 22:00:00 GMT", .size = 1000
	};
	static const struct http_version weak = {
		.etag = "W/\"v1\"", .last_modified = "Tue, 14 Nov 2023 22:00:00 GMT", .size = 1000
	};
	struct http_ask ask = range(&both);

	(void)state;
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 100-149/1000\nETag: \"v1\"\n"
			   "Last-Modified: Tue, 14 Nov 2023 22:00:09 GMT"),
		HTTP_ACCEPT, 0);
	ask = range(&weak);
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 100-149/1000\nETag: W/\"v1\"\n"
			   "Last-Modified: Tue, 14 Nov 2023 22:00:09 GMT"),
		HTTP_CHANGED, -ESTALE);
}

static void a_date_is_a_validator_in_any_spelling(void **state)
{
	struct http_ask ask = range(&dated);

	(void)state;
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 100-149/1000\n"
			   "Last-Modified: Tuesday, 14-Nov-23 22:00:00 GMT"),
		HTTP_ACCEPT, 0);
}

static void the_whole_file_is_never_the_range(void **state)
{
	struct http_ask ask = range(&strong);

	(void)state;
	expect(judge(&ask, "HTTP/1.1 200 OK\nETag: \"v1\"\nContent-Length: 1000"), HTTP_NO_RANGES,
		-EPROTO);
	expect(judge(&ask, "HTTP/1.1 200 OK\nETag: \"v1\"\nContent-Length: 50"), HTTP_CHANGED,
		-ESTALE);
	expect(judge(&ask, "HTTP/1.1 200 OK\nETag: \"v2\"\nContent-Length: 1000"), HTTP_CHANGED,
		-ESTALE);
	ask = range(&none);
	expect(judge(&ask, "HTTP/1.1 200 OK\nContent-Length: 1000"), HTTP_NO_RANGES, -EPROTO);
}

static void a_coded_body_is_refused_unless_the_file_itself_is_gzip(void **state)
{
	struct http_ask ask = range(&strong);
	const char *answer = "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 100-149/1000\n"
			     "Content-Encoding: gzip";

	(void)state;
	expect(judge(&ask, answer), HTTP_FATAL, -EPROTO);
	ask.gzip_name = true;
	expect(judge(&ask, answer), HTTP_ACCEPT, 0);
}

static void the_probe_learns_the_size(void **state)
{
	struct http_ask ask = { .kind = HTTP_PROBE, .len = HTTP_PROBE_BYTES };
	struct http_verdict v;

	(void)state;
	v = judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 0-999/1000");
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.total, 1000);
	v = judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 0-65535/*");
	expect(v, HTTP_ACCEPT, 0);
	assert_true(v.total == HTTP_UNKNOWN);
	v = judge(&ask, "HTTP/1.1 200 OK\nContent-Length: 5000000");
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.total, 5000000);
	v = judge(&ask, "HTTP/1.1 416 x\nContent-Range: bytes */0");
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.total, 0);
	expect(judge(&ask, "HTTP/1.1 416 x"), HTTP_NO_RANGES, -EPROTO);
	expect(judge(&ask, "HTTP/1.1 206 x\nContent-Range: bytes 1-65536/70000"), HTTP_FATAL,
		-EPROTO);
}

static void a_file_without_ranges_must_be_the_same_all_the_way(void **state)
{
	struct http_ask ask = { .kind = HTTP_WHOLE, .off = 500, .len = 100, .version = &strong };
	struct http_verdict v = judge(&ask, "HTTP/1.1 200 OK\nETag: \"v1\"");

	(void)state;
	expect(v, HTTP_ACCEPT, 0);
	assert_int_equal(v.body_off, 0);
	assert_int_equal(v.body_len, 1000);
	expect(judge(&ask, "HTTP/1.1 200 OK\nETag: \"v2\""), HTTP_CHANGED, -ESTALE);
	expect(judge(&ask, "HTTP/1.1 200 OK\nETag: \"v1\"\nContent-Length: 999"), HTTP_CHANGED,
		-ESTALE);
	expect(judge(&ask, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 500-599/1000"),
		HTTP_FATAL, -EPROTO);
}

static void statuses_fall_into_their_classes(void **state)
{
	static const struct {
		const char *line;
		enum http_answer answer;
		int code;
	} table[] = {
		{ "HTTP/1.1 301 x\nLocation: /y", HTTP_MOVED, 0 },
		{ "HTTP/1.1 308 x\nLocation: /y", HTTP_MOVED, 0 },
		{ "HTTP/1.1 302 x", HTTP_FATAL, -EPROTO },
		{ "HTTP/1.1 300 x\nLocation: /y", HTTP_FATAL, -EPROTO },
		{ "HTTP/1.1 204 x", HTTP_FATAL, -EPROTO },
		{ "HTTP/1.1 400 x", HTTP_REFUSED, -EPROTO },
		{ "HTTP/1.1 401 x", HTTP_REFUSED, -EACCES },
		{ "HTTP/1.1 403 x", HTTP_REFUSED, -EACCES },
		{ "HTTP/1.1 404 x", HTTP_REFUSED, -ENOENT },
		{ "HTTP/1.1 410 x", HTTP_REFUSED, -ENOENT },
		{ "HTTP/1.1 407 x", HTTP_FATAL, -EACCES },
		{ "HTTP/1.1 408 x", HTTP_AGAIN, -ETIMEDOUT },
		{ "HTTP/1.1 416 x", HTTP_FATAL, -EPROTO },
		{ "HTTP/1.1 416 x\nContent-Range: bytes */120", HTTP_CHANGED, -ESTALE },
		{ "HTTP/1.1 418 x", HTTP_FATAL, -EPROTO },
		{ "HTTP/1.1 429 x", HTTP_AGAIN, -ETIMEDOUT },
		{ "HTTP/1.1 500 x", HTTP_AGAIN, -ETIMEDOUT },
		{ "HTTP/1.1 503 x", HTTP_AGAIN, -ETIMEDOUT },
	};
	struct http_ask ask = range(&strong);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		expect(judge(&ask, table[i].line), table[i].answer, table[i].code);
	}
}

static void digest_is_tried_only_with_credentials_and_without_basic(void **state)
{
	const char *digest = "HTTP/1.1 401 x\nWWW-Authenticate: Digest realm=\"r\"";
	const char *both = "HTTP/1.1 401 x\nWWW-Authenticate: Digest realm=\"r\"\n"
			   "WWW-Authenticate: Basic realm=\"r\"";
	struct http_ask ask = range(&strong);

	(void)state;
	expect(judge(&ask, digest), HTTP_REFUSED, -EACCES);
	ask.credentials = true;
	expect(judge(&ask, digest), HTTP_DIGEST, -EACCES);
	expect(judge(&ask, both), HTTP_REFUSED, -EACCES);
}

static void an_id_can_be_read_again(void **state)
{
	static const struct http_version versions[] = {
		{ .etag = "\"a b=\\c size=7\"", .size = 5 },
		{ .etag = "W/\"weak\"", .size = UINT64_MAX },
		{ .last_modified = "Tue, 14 Nov 2023 22:00:00 GMT", .size = 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		CLEANUP_FREE char *id = http_version_id(&versions[i], URL, 0);
		struct http_version again;

		assert_true(http_version_parse(id, URL, &again));
		assert_string_equal(again.etag, versions[i].etag);
		assert_string_equal(again.last_modified, versions[i].last_modified);
		assert_true(again.size == versions[i].size);
		assert_false(http_version_parse(id, "https://h/", &again));
		assert_false(http_version_parse(id, "https://h/xy", &again));
	}
}

static void an_id_without_a_validator_is_good_for_nothing_later(void **state)
{
	static const char *const bad[] = { "", URL, URL " ", URL " size=5", URL " etag=\"a\"",
		URL " etag=\"a size=5", URL " etag=\"a\" size=-1", URL " etag=\"a\" size=5 ",
		URL " etag=a size=5" };
	CLEANUP_FREE char *id = http_version_id(&none, URL, 0xabc);
	struct http_version v;

	(void)state;
	assert_string_equal(id, URL " open=0000000000000abc size=1000");
	assert_false(http_version_parse(id, URL, &v));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(http_version_parse(bad[i], URL, &v));
	}
}

static struct http_version version_at(int64_t date)
{
	struct http_headers h = HTTP_HEADERS_INIT;

	memcpy(h.last_modified, dated.last_modified, sizeof(h.last_modified));
	h.date = date;
	return http_version_of(&h, 1);
}

static void a_date_of_right_now_is_no_validator(void **state)
{
	int64_t then = http_parse_date(dated.last_modified);
	struct http_version v = version_at(then);

	(void)state;
	assert_false(http_version_has_validator(&v));
	v = version_at(then + 10);
	assert_true(http_version_has_validator(&v));
	assert_false(v.if_range);
	v = version_at(then + 60);
	assert_true(v.if_range);
	v = version_at(0);
	assert_true(http_version_has_validator(&v));
	assert_false(v.if_range);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_range_that_was_asked_for_is_accepted),
		cmocka_unit_test(a_shorter_range_is_accepted_as_what_it_is),
		cmocka_unit_test(any_other_range_is_refused),
		cmocka_unit_test(another_version_is_noticed),
		cmocka_unit_test(a_strong_tag_is_enough),
		cmocka_unit_test(a_date_is_a_validator_in_any_spelling),
		cmocka_unit_test(the_whole_file_is_never_the_range),
		cmocka_unit_test(a_coded_body_is_refused_unless_the_file_itself_is_gzip),
		cmocka_unit_test(the_probe_learns_the_size),
		cmocka_unit_test(a_file_without_ranges_must_be_the_same_all_the_way),
		cmocka_unit_test(statuses_fall_into_their_classes),
		cmocka_unit_test(digest_is_tried_only_with_credentials_and_without_basic),
		cmocka_unit_test(an_id_can_be_read_again),
		cmocka_unit_test(an_id_without_a_validator_is_good_for_nothing_later),
		cmocka_unit_test(a_date_of_right_now_is_no_validator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
