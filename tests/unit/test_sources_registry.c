/* SPDX-License-Identifier: Apache-2.0 */
/* References, challenges, accounts: what a registry is called, what it asks for, who we are. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base64.h"
#include "core/bytes.h"
#include "sources/authfile.h"
#include "sources/json_text.h"
#include "sources/registry_challenge.h"
#include "sources/registry_ref.h"
#include "sources/registry_token.h"
#include "sources/source.h"

#define HEX  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAME "a23456789a23456789a23456789a23456789a23456789a23456789"

static void references_are_taken_apart(void **state)
{
	static const struct {
		const char *spec;
		const char *domain;
		const char *host;
		const char *path;
		const char *tag;
		const char *digest;
	} rows[] = {
		{ "docker://fedora", "docker.io", "registry-1.docker.io", "library/fedora",
			"latest", NULL },
		{ "docker://a/b:1", "docker.io", "registry-1.docker.io", "a/b", "1", NULL },
		{ "docker://index.docker.io/x", "docker.io", "registry-1.docker.io", "library/x",
			"latest", NULL },
		{ "docker://docker.io/a/b/c", "docker.io", "registry-1.docker.io", "a/b/c",
			"latest", NULL },
		{ "docker://quay.io/x", "quay.io", "quay.io", "x", "latest", NULL },
		{ "docker://localhost/x", "localhost", "localhost", "x", "latest", NULL },
		{ "docker://h:5000/x/y_z__w-v.u:T_a.g-", "h:5000", "h:5000", "x/y_z__w-v.u",
			"T_a.g-", NULL },
		{ "docker://Host/x", "Host", "Host", "x", "latest", NULL },
		{ "docker://[::1]:5000/x", "[::1]:5000", "[::1]:5000", "x", "latest", NULL },
		{ "docker://h.io/x@sha256:" HEX, "h.io", "h.io", "x", NULL, "sha256:" HEX },
		{ "docker://h.io/x:t@sha256:" HEX, "h.io", "h.io", "x", NULL, "sha256:" HEX },
		{ "docker://h.io/x@sha512:" HEX HEX, "h.io", "h.io", "x", NULL, "sha512:" HEX HEX },
		{ "DOCKER://h.io/" HEX, "h.io", "h.io", HEX, "latest", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct registry_ref ref;
		struct err e = { 0 };

		if (registry_ref_parse(rows[i].spec, &ref, &e) < 0) {
			fail_msg("%s: %s", rows[i].spec, e.text);
		}
		assert_string_equal(ref.domain, rows[i].domain);
		assert_string_equal(ref.host, rows[i].host);
		assert_string_equal(ref.path, rows[i].path);
		assert_string_equal(ref.tag ? ref.tag : "", rows[i].tag ? rows[i].tag : "");
		assert_string_equal(
			ref.digest ? ref.digest : "", rows[i].digest ? rows[i].digest : "");
		registry_ref_clear(&ref);
	}
}

static void references_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = { "docker://", "docker:///x", "docker://Upper",
		"docker://a//b", "docker://a/", "docker://h.io/", "docker://a/-b", "docker://a/b-",
		"docker://a/b___c", "docker://a/b..c", "docker://a/../b",
		"docker://a:", "docker://a:b:c", "docker://a:-t", "docker://a: b",
		"docker://h:70000/x", "docker://h:/x", "docker://a.b:x/y", "docker://" HEX,
		"docker://a@", "docker://a@md5:d41d8cd98f00b204e9800998ecf8427e",
		"docker://a@sha256:" HEX "0", "docker://a@sha256:" HEX "/../x", "docker://[::1/x",
		"docker://-h.io/x", "docker://h-.io/x", "docker://a%2fb", "docker://a?x=y",
		"docker://h.io/" NAME NAME NAME NAME NAME "x",
		"docker://a/" NAME NAME NAME NAME "a23456789a23456789a23456789b",
		"docker://\xc3\xa4/x" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct registry_ref ref;
		struct err e = { 0 };

		if (registry_ref_parse(bad[i], &ref, &e) == 0) {
			fail_msg("%s was taken for %s", bad[i], ref.text);
		}
		assert_int_equal(e.code, -EINVAL);
	}
}

static void a_password_in_a_reference_is_not_repeated(void **state)
{
	struct registry_ref ref;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(registry_ref_parse("docker://joe:hunter2@h.io/x", &ref, &e), -EINVAL);
	assert_null(strstr(e.text, "hunter2"));
	assert_non_null(strstr(e.text, "--authfile"));
}

static void only_this_machine_is_loopback(void **state)
{
	static const struct {
		const char *spec;
		bool is;
	} rows[] = {
		{ "docker://localhost:1/x", true },
		{ "docker://127.0.0.1/x", true },
		{ "docker://127.1.2.3:5000/x", true },
		{ "docker://[::1]:5000/x", true },
		{ "docker://127.0.0.1.example.org/x", false },
		{ "docker://localhost.example.org/x", false },
		{ "docker://10.0.0.1/x", false },
		{ "docker://fedora", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct registry_ref ref;

		assert_int_equal(registry_ref_parse(rows[i].spec, &ref, NULL), 0);
		assert_int_equal(registry_ref_is_loopback(&ref), rows[i].is);
		registry_ref_clear(&ref);
	}
}

static void images_have_names_and_keys(void **state)
{
	static const struct {
		const char *spec;
		const char *name;
		const char *key;
	} rows[] = {
		{ "docker://h.io/a/fedora:38", "fedora", "docker://h.io/a/fedora:38" },
		{ "docker://fedora", "fedora", "docker://docker.io/library/fedora:latest" },
		{ "oci:/nowhere/dir:tag", "dir", "oci:/nowhere/dir:tag" },
		{ "oci-archive:/nowhere/x.tar", "x", "oci-archive:/nowhere/x.tar" },
		{ "docker-archive:/nowhere/x.tar:a/b:c", "x",
			"docker-archive:/nowhere/x.tar:a/b:c" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *text = NULL;

		assert_true(source_is_image(rows[i].spec));
		assert_int_equal(source_is_remote(rows[i].spec), i < 2);
		assert_int_equal(source_name(rows[i].spec, &text, NULL), 0);
		assert_string_equal(text, rows[i].name);
		free(text);
		assert_int_equal(source_key(rows[i].spec, &text, NULL), 0);
		assert_string_equal(text, rows[i].key);
		free(text);
		assert_int_equal(source_sibling(rows[i].spec, "b", &text, NULL), -EINVAL);
	}
	assert_false(source_is_image("https://h/x"));
	assert_false(source_is_image("./oci:x"));
}

static void check_challenge(const char *header, const char *realm, const char *service,
	const char *scope, const char *error)
{
	struct registry_challenge c;

	if (!registry_challenge_find(header, "bearer", &c)) {
		fail_msg("nothing in %s", header);
	}
	assert_string_equal(c.realm ? c.realm : "", realm);
	assert_string_equal(c.service ? c.service : "", service);
	assert_string_equal(c.scope ? c.scope : "", scope);
	assert_string_equal(c.error ? c.error : "", error);
	registry_challenge_clear(&c);
}

static void challenges_are_found_among_others(void **state)
{
	(void)state;
	check_challenge(
		"Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\"",
		"https://a/t", "s", "repository:a:pull,push", "");
	check_challenge("BEARER REALM = \"x\" , error=invalid_token", "x", "", "", "invalid_token");
	check_challenge(
		"Basic realm=\"b, Bearer realm=\\\"no\\\"\", Bearer realm=yes", "yes", "", "", "");
	check_challenge("Negotiate, Bearer realm=r", "r", "", "", "");
	check_challenge("Negotiate YWJj/Zg==, Bearer realm=r", "r", "", "", "");
	check_challenge(",, Digest a=b, c=\"d\",,Bearer realm=\"a\\\"b\"", "a\"b", "", "", "");
	check_challenge("Bearer", "", "", "", "");
	check_challenge("Bearer realm=a, realm=b", "a", "", "", "");
}

static void challenges_that_are_broken_are_none(void **state)
{
	static const char *const bad[] = { "", ",", "Basic realm=x", "Bearer realm=\"x",
		"\"Bearer\" realm=x", "Basic realm=\"x, Bearer realm=y", "Bearerx realm=x" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct registry_challenge c;

		if (registry_challenge_find(bad[i], "Bearer", &c)) {
			fail_msg("something in %s", bad[i]);
		}
	}
}

/* Who @file says we are at @spec: "user:password", "identity", "helper NAME", "" for nobody. */
static const char *who(const char *file, const char *spec)
{
	static char text[256];
	struct registry_login l = { 0 };
	struct registry_ref ref;
	const char *helper;
	struct err e = { 0 };
	json_t *json = NULL;
	int r;

	assert_int_equal(registry_ref_parse(spec, &ref, NULL), 0);
	assert_int_equal(authfile_parse("f", file, strlen(file), &json, NULL), 0);
	helper = authfile_helper(json, &ref);
	r = authfile_find("f", json, &ref, &l, &e);
	if (helper) {
		snprintf(text, sizeof(text), "helper %s", helper);
	} else if (r == -ENOENT) {
		text[0] = '\0';
	} else if (r < 0) {
		snprintf(text, sizeof(text), "error %.200s", e.text);
	} else {
		snprintf(text, sizeof(text), "%s:%s%s%s", l.user ? l.user : "",
			l.password ? l.password : "", l.identity ? l.identity : "",
			l.bearer ? l.bearer : "");
	}
	registry_login_clear(&l);
	registry_ref_clear(&ref);
	json_decref(json);
	return text;
}

static void the_most_specific_account_is_taken(void **state)
{
	/* a:1, b:2, c:3:4, d:5 */
	static const char file[] = "{\"auths\": {\"h.io\": {\"auth\": \"YTox\"},"
				   "\"h.io/x\": {\"auth\": \"Yjoy\"},"
				   "\"h.io/x/y\": {\"auth\": \"Yzozt6Q=\", \"auth\": \"\"},"
				   "\"other:5000\": {\"username\": \"u\", \"password\": \"p\"}}}";
	static const char good[] = "{\"auths\": {\"h.io\": {\"auth\": \"YTox\"},"
				   "\"h.io/x\": {\"auth\": \"Yjoy\"},"
				   "\"h.io/x/y\": {\"auth\": \"YzozOjQ=\"},"
				   "\"h.io/x/empty\": {},"
				   "\"other:5000\": {\"username\": \"u\", \"password\": \"p\"}}}";
	json_t *json;

	(void)state;
	assert_int_equal(authfile_parse("f", file, strlen(file), &json, NULL), -EINVAL);
	assert_string_equal(who(good, "docker://h.io/z"), "a:1");
	assert_string_equal(who(good, "docker://h.io/x"), "b:2");
	assert_string_equal(who(good, "docker://h.io/x/other"), "b:2");
	assert_string_equal(who(good, "docker://h.io/x/y"), "c:3:4");
	assert_string_equal(who(good, "docker://h.io/x/y/z"), "c:3:4");
	assert_string_equal(who(good, "docker://h.io/x/empty"), "b:2");
	assert_string_equal(who(good, "docker://h.io/xy"), "a:1");
	assert_string_equal(who(good, "docker://other:5000/a"), "u:p");
	assert_string_equal(who(good, "docker://other/a"), "");
	assert_string_equal(who(good, "docker://fedora"), "");
}

static void old_keys_and_tokens_are_understood(void **state)
{
	static const char hub[] =
		"{\"auths\": {\"https://index.docker.io/v1/\": {\"auth\": \"YTox\"}}}";
	static const char old[] = "{\"https://h.io/v2/\": {\"auth\": \"YTox\"}}";
	static const char padded[] = "{\"auths\": {\"h.io\": {\"auth\": \"YToxAAAA\"}}}";
	static const char identity[] =
		"{\"auths\": {\"h.io\": {\"auth\": \"YTo=\", \"identitytoken\": \"I\"}}}";
	static const char bearer[] = "{\"auths\": {\"h.io\": {\"registrytoken\": \"R\"}}}";
	static const char broken[] = "{\"auths\": {\"h.io\": {\"auth\": \"c2VjcmV0\"}}}";

	(void)state;
	assert_string_equal(who(hub, "docker://fedora"), "a:1");
	assert_string_equal(who(hub, "docker://docker.io/x/y"), "a:1");
	assert_string_equal(who(hub, "docker://h.io/x"), "");
	assert_string_equal(who(old, "docker://h.io/x"), "a:1");
	assert_string_equal(who(padded, "docker://h.io/x"), "a:1");
	assert_string_equal(who(identity, "docker://h.io/x"), "a:I");
	assert_string_equal(who(bearer, "docker://h.io/x"), ":R");
	assert_non_null(strstr(who(broken, "docker://h.io/x"), "error f: the entry for h.io"));
	assert_null(strstr(who(broken, "docker://h.io/x"), "secret"));
	assert_string_equal(who("{}", "docker://h.io/x"), "");
}

static void helpers_are_found(void **state)
{
	static const char file[] =
		"{\"credsStore\": \"all\", \"credHelpers\": {\"h.io\": \"one\", \"docker.io\": \"hub\"}}";
	struct registry_ref ref;

	(void)state;
	assert_string_equal(who(file, "docker://h.io/x"), "helper one");
	assert_string_equal(who(file, "docker://fedora"), "helper hub");
	assert_string_equal(who(file, "docker://q.io/x"), "helper all");
	assert_int_equal(registry_ref_parse("docker://fedora", &ref, NULL), 0);
	assert_string_equal(authfile_server(&ref), "https://index.docker.io/v1/");
	registry_ref_clear(&ref);
}

static int realm(const char *registry, const char *where, bool insecure)
{
	struct http_url a;
	struct http_url b;
	int r;

	assert_int_equal(http_url_parse(registry, &a, NULL), 0);
	assert_int_equal(http_url_parse(where, &b, NULL), 0);
	r = registry_token_check_realm(&a, &b, insecure, NULL);
	http_url_clear(&a);
	http_url_clear(&b);
	return r;
}

static void logins_go_only_where_they_may(void **state)
{
	static const char *const inner[] = { "127.0.0.1", "localhost", "10.1.2.3", "172.20.0.1",
		"192.168.1.1", "169.254.169.254", "0.0.0.0", "[::1]", "[fe80::1]", "[fd00::1]",
		"[::ffff:10.0.0.1]", "[::]" };

	(void)state;
	assert_int_equal(realm("https://r.io/", "https://auth.r.io/t", false), 0);
	assert_int_equal(realm("https://r.io/", "http://auth.r.io/t", false), -EPROTO);
	assert_int_equal(realm("https://r.io/", "http://auth.r.io/t", true), 0);
	assert_int_equal(realm("http://r.io/", "http://auth.r.io/t", false), 0);
	for (size_t i = 0; i < ARRAY_SIZE(inner); i++) {
		char url[100];

		snprintf(url, sizeof(url), "https://%s/t", inner[i]);
		assert_int_equal(realm("https://r.io/", url, true), -EPROTO);
		assert_int_equal(realm("https://10.0.0.9:5000/", url, false), 0);
	}
	assert_int_equal(realm("https://r.io/", "https://172.32.0.1/t", false), 0);
}

static void base64_goes_forth_and_back(void **state)
{
	static const char *const coded[] = { "", "YQ==", "YWI=", "YWJj", "YWJjZA==" };
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(coded); i++) {
		char *text = base64_encode("abcd", i);
		char *plain = base64_decode(text, &len);

		assert_string_equal(text, coded[i]);
		assert_int_equal(len, i);
		assert_memory_equal(plain, "abcd", i);
		free(text);
		free(plain);
	}
	assert_null(base64_decode("a", &len));
	assert_null(base64_decode("ab!=", &len));
	assert_null(base64_decode_text("YQBi"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(references_are_taken_apart),
		cmocka_unit_test(references_that_are_none_are_refused),
		cmocka_unit_test(a_password_in_a_reference_is_not_repeated),
		cmocka_unit_test(only_this_machine_is_loopback),
		cmocka_unit_test(images_have_names_and_keys),
		cmocka_unit_test(challenges_are_found_among_others),
		cmocka_unit_test(challenges_that_are_broken_are_none),
		cmocka_unit_test(the_most_specific_account_is_taken),
		cmocka_unit_test(old_keys_and_tokens_are_understood),
		cmocka_unit_test(helpers_are_found),
		cmocka_unit_test(logins_go_only_where_they_may),
		cmocka_unit_test(base64_goes_forth_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
