/* SPDX-License-Identifier: Apache-2.0 */
/* Retries, errors, redirects, expiry. */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/http_error.h"
#include "sources/http_retry.h"
#include "sources/http_route.h"

static void waits_grow_and_are_capped(void **state)
{
	(void)state;
	for (unsigned int failures = 1; failures < 100; failures++) {
		uint64_t most = 0;

		for (uint32_t random = 0; random < 20000; random += 7) {
			uint64_t wait = http_retry_wait(failures, HTTP_UNKNOWN, random, UINT64_MAX);

			most = max_u64(most, wait);
		}
		assert_in_range(most, failures == 1 ? 90 : 190, failures == 1 ? 100 : 8000);
		if (failures > 8) {
			assert_in_range(most, 7900, 8000);
		}
	}
}

static void retry_after_is_a_lower_bound(void **state)
{
	(void)state;
	assert_in_range(http_retry_wait(1, 5, 12345, UINT64_MAX), 5000, 5100);
	assert_in_range(http_retry_wait(1, 5, 12345, 10), 5000, 5005);
	assert_in_range(http_retry_wait(3, UINT64_MAX - 1, 1, UINT64_MAX), 3600000, 3600400);
}

static void a_wait_leaves_time_for_the_attempt(void **state)
{
	(void)state;
	assert_in_range(http_retry_wait(20, HTTP_UNKNOWN, UINT32_MAX, 1000), 0, 500);
	assert_int_equal(http_retry_wait(20, HTTP_UNKNOWN, UINT32_MAX, 0), 0);
}

static void each_stall_is_given_more_time(void **state)
{
	(void)state;
	assert_int_equal(http_retry_stall(0, 60000), 10000);
	assert_int_equal(http_retry_stall(1, 60000), 20000);
	assert_int_equal(http_retry_stall(50, 60000), 60000);
	assert_int_equal(http_retry_stall(0, 6000), 2000);
	assert_int_equal(http_retry_stall(0, 1), 1000);
}

static struct http_verdict error_of(CURLcode code, const char *detail)
{
	struct http_failure f = {
		.end = NET_ENDED,
		.result = code,
		.detail = detail,
		.host = "h.example",
		.authority = "h.example:443",
	};

	return http_error(&f);
}

static void check_error(
	CURLcode code, const char *detail, enum http_answer answer, int err, const char *word)
{
	struct http_verdict v = error_of(code, detail);

	assert_int_equal(v.answer, answer);
	assert_int_equal(v.code, err);
	if (!strstr(v.text, word)) {
		fail_msg("\"%s\" does not say \"%s\"", v.text, word);
	}
}

static void errors_say_what_to_do(void **state)
{
	(void)state;
	check_error(CURLE_COULDNT_RESOLVE_HOST, "", HTTP_AGAIN, -ENXIO, "h.example");
	check_error(CURLE_COULDNT_CONNECT, "", HTTP_AGAIN, -ENXIO, "h.example:443");
	check_error(CURLE_COULDNT_CONNECT,
		"Failed to connect to p.example port 3128 after 0 ms: Couldn't connect", HTTP_AGAIN,
		-ENXIO, "proxy p.example:3128");
	check_error(CURLE_COULDNT_CONNECT,
		"Failed to connect to h.example port 443 after 0 ms: Couldn't connect", HTTP_AGAIN,
		-ENXIO, "h.example:443 refuses");
	check_error(CURLE_PEER_FAILED_VERIFICATION,
		"SSL certificate problem: unable to get local issuer certificate", HTTP_FATAL,
		-EKEYREJECTED, "--cacert");
	check_error(CURLE_PEER_FAILED_VERIFICATION,
		"SSL certificate problem: certificate has expired", HTTP_FATAL, -EKEYREJECTED,
		"expired");
	check_error(CURLE_PEER_FAILED_VERIFICATION,
		"SSL: no alternative certificate subject name matches target host name 'x'",
		HTTP_FATAL, -EKEYREJECTED, "subject name");
	check_error(CURLE_SSL_CONNECT_ERROR,
		"OpenSSL/3.0: error:0A00010B:SSL routines::wrong version number", HTTP_FATAL,
		-EKEYREJECTED, "wrong version number");
	check_error(CURLE_SSL_CONNECT_ERROR, "OpenSSL SSL_connect: Connection reset by peer",
		HTTP_AGAIN, -ECONNRESET, "reset");
	check_error(CURLE_RECV_ERROR,
		"OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required",
		HTTP_FATAL, -EKEYREJECTED, "--client-cert");
	check_error(CURLE_RECV_ERROR, "Recv failure: Connection reset by peer", HTTP_AGAIN,
		-ECONNRESET, "reset");
	check_error(CURLE_PARTIAL_FILE, "", HTTP_AGAIN, -ECONNRESET, "before its end");
	check_error(CURLE_UNSUPPORTED_PROTOCOL, "Received HTTP/0.9 when not allowed", HTTP_FATAL,
		-EPROTO, "HTTP");
}

static void time_that_ran_out_may_pass(void **state)
{
	struct http_failure f = {
		.end = NET_STALLED,
		.detail = "",
		.host = "h",
		.authority = "h:80",
		.stall_ms = 9500,
		.limit_ms = 60000,
	};
	struct http_verdict v = http_error(&f);

	(void)state;
	assert_int_equal(v.answer, HTTP_AGAIN);
	assert_int_equal(v.cause, HTTP_CAUSE_UNREACHABLE);
	f.connected = true;
	v = http_error(&f);
	assert_int_equal(v.cause, HTTP_CAUSE_STALL);
	assert_non_null(strstr(v.text, "10 s"));
	f.end = NET_EXPIRED;
	v = http_error(&f);
	assert_int_equal(v.cause, HTTP_CAUSE_LATE);
	f.end = NET_STOPPED;
	v = http_error(&f);
	assert_int_equal(v.answer, HTTP_FATAL);
	assert_int_equal(v.code, -ECANCELED);
}

static struct http_route route;
static struct http_trail trail;

static int begin(const char *text)
{
	struct http_url u;

	assert_int_equal(http_url_parse(text, &u, NULL), 0);
	assert_int_equal(http_route_init(&route, &u), 0);
	http_trail_start(&trail, &route, 1000);
	return 0;
}

static void end(void)
{
	http_trail_clear(&trail);
	http_route_clear(&route);
}

static const char *here(void)
{
	return http_trail_here(&trail)->url.full;
}

static void redirects_are_relative_to_where_they_are(void **state)
{
	(void)state;
	begin("http://u:p@h/a/b.raw?q=1#f");
	assert_string_equal(here(), "http://h/a/b.raw?q=1");
	assert_int_equal(http_trail_follow(&trail, "../c d", 1000, NULL), 0);
	assert_string_equal(here(), "http://h/c%20d");
	assert_int_equal(http_trail_follow(&trail, "//other:81/e", 1000, NULL), 0);
	assert_string_equal(here(), "http://other:81/e");
	assert_int_equal(http_trail_follow(&trail, "https://x:y@third/?z#w", 1000, NULL), 0);
	assert_string_equal(here(), "https://third/?z");
	assert_string_equal(http_trail_here(&trail)->url.origin, "https://third:443");
	end();
}

static void redirects_to_elsewhere_are_refused(void **state)
{
	static const char *const bad[] = { "http://h/x", "file:///etc/passwd", "ftp://h/x",
		"javascript:1", "https://", "https://h/a" };
	struct err e = { 0 };

	(void)state;
	begin("https://h/a");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(http_trail_follow(&trail, bad[i], 1000, &e), -EPROTO);
		assert_string_equal(here(), "https://h/a");
	}
	assert_non_null(strstr(e.text, "circle"));
	end();
}

static void ten_redirects_are_followed_and_no_more(void **state)
{
	struct err e = { 0 };
	char to[32];

	(void)state;
	begin("https://h/a");
	for (int i = 0; i < HTTP_REDIRECTS_MAX; i++) {
		snprintf(to, sizeof(to), "/%d", i);
		assert_int_equal(http_trail_follow(&trail, to, 1000, &e), 0);
	}
	assert_int_equal(http_trail_follow(&trail, "/more", 1000, &e), -EPROTO);
	end();
}

static void a_redirect_is_kept_until_it_fails(void **state)
{
	(void)state;
	begin("https://h/a");
	assert_false(http_route_forget(&route, http_trail_here(&trail)));
	assert_int_equal(http_trail_follow(&trail, "https://cdn/a", 1000, NULL), 0);
	http_route_keep(&route, http_trail_here(&trail));
	http_trail_start(&trail, &route, 1001);
	assert_string_equal(here(), "https://cdn/a");
	assert_true(http_route_forget(&route, http_trail_here(&trail)));
	http_trail_start(&trail, &route, 1002);
	assert_string_equal(here(), "https://h/a");
	end();
}

static void a_signed_url_is_left_before_it_expires(void **state)
{
	static const char *const locations[] = { "https://s3/a?Expires=2000&Signature=x",
		"https://s3/a?X-Amz-Date=19700101T002640Z&X-Amz-Expires=400&X-Amz-Signature=y",
		"https://az/a?se=1970-01-01T00%3A33%3A20Z&sig=z" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(locations); i++) {
		begin("https://h/a");
		assert_int_equal(http_trail_follow(&trail, locations[i], 1000, NULL), 0);
		assert_int_equal(http_trail_here(&trail)->url.expires, 2000);
		assert_null(strstr(http_trail_here(&trail)->url.label, "sig"));
		http_route_keep(&route, http_trail_here(&trail));
		http_trail_start(&trail, &route, 1969);
		assert_string_equal(here(), locations[i]);
		http_trail_start(&trail, &route, 1970);
		assert_string_equal(here(), "https://h/a");
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_grow_and_are_capped),
		cmocka_unit_test(retry_after_is_a_lower_bound),
		cmocka_unit_test(a_wait_leaves_time_for_the_attempt),
		cmocka_unit_test(each_stall_is_given_more_time),
		cmocka_unit_test(errors_say_what_to_do),
		cmocka_unit_test(time_that_ran_out_may_pass),
		cmocka_unit_test(redirects_are_relative_to_where_they_are),
		cmocka_unit_test(redirects_to_elsewhere_are_refused),
		cmocka_unit_test(ten_redirects_are_followed_and_no_more),
		cmocka_unit_test(a_redirect_is_kept_until_it_fails),
		cmocka_unit_test(a_signed_url_is_left_before_it_expires),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
