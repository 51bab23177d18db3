/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "sources/source.h"

static void check_key(const char *spec, const char *want)
{
	CLEANUP_FREE char *key = NULL;
	struct err e = { 0 };

	assert_int_equal(source_key(spec, &key, &e), 0);
	assert_string_equal(key, want);
}

static void check_name(const char *spec, const char *want)
{
	CLEANUP_FREE char *name = NULL;
	struct err e = { 0 };

	assert_int_equal(source_name(spec, &name, &e), 0);
	assert_string_equal(name, want);
}

static void check_sibling(const char *spec, const char *name, const char *want)
{
	CLEANUP_FREE char *url = NULL;
	struct err e = { 0 };

	assert_int_equal(source_sibling(spec, name, &url, &e), 0);
	assert_string_equal(url, want);
}

static void check_no_sibling(const char *spec, const char *name)
{
	char *url = NULL;
	struct err e = { 0 };

	assert_int_equal(source_sibling(spec, name, &url, &e), -EINVAL);
	assert_null(url);
	assert_int_equal(e.code, -EINVAL);
}

static void a_key_has_no_user_info_fragment_or_default_port(void **state)
{
	(void)state;
	check_key("https://user:secret@Example.ORG:443/a/b.raw#top", "https://example.org/a/b.raw");
	check_key("HTTP://h:8080/x?file=1", "http://h:8080/x?file=1");
	check_key("http://h", "http://h/");
}

static void a_key_has_no_parameters_of_signed_urls(void **state)
{
	(void)state;
	check_key("https://b.s3/x.img?versionId=7&X-Amz-Signature=abc&X-Amz-Expires=60",
		"https://b.s3/x.img?versionId=7");
	check_key("https://b/x?Expires=5&Signature=s&Key-Pair-Id=k", "https://b/x");
	check_key("https://b/x?sv=1&sr=b&sig=zzz&part=2", "https://b/x?part=2");
	check_key("https://b/x?token=t", "https://b/x");
}

static void common_words_stay_in_the_key_of_an_unsigned_url(void **state)
{
	(void)state;
	check_key("https://b/x?sr=5&expires=never", "https://b/x?sr=5&expires=never");
}

static void a_name_is_the_last_part_without_suffixes(void **state)
{
	(void)state;
	check_name("https://host/d/debian-12.qcow2?x=y", "debian-12");
	check_name("https://host/d/disk.raw.xz#f", "disk");
	check_name("https://host/d/a%20b%2Fc.img/", "a b_c");
	check_name("/srv/images/foo.tar.gz", "foo");
	check_name("file:///srv/win%20dows.VHDX", "win dows");
	check_name("v1.2.3", "v1.2.3");
	check_name(".raw", ".raw");
}

static void a_name_is_never_empty_nor_a_directory(void **state)
{
	(void)state;
	check_name("https://host.example/", "host.example");
	check_name("/", "image");
	check_name("..", "image");
	check_name("http://h/%2e%2e%2f", ".._");
}

static void a_sibling_stays_beside_the_image(void **state)
{
	(void)state;
	check_sibling("https://h/d/a.qcow2?x=y", "b.raw", "https://h/d/b.raw");
	check_sibling(
		"https://h/d/a.qcow2", "sub/b c?#%.raw", "https://h/d/sub/b%20c%3f%23%25.raw");
	check_sibling("https://u:p@h/a.qcow2", "b", "https://u:p@h/b");
	check_sibling("/srv/a.qcow2", "b.raw", "/srv/b.raw");
	check_sibling("a.qcow2", "b.raw", "./b.raw");
	check_sibling("file:///srv/x%20y/a.qcow2", "b.raw", "/srv/x y/b.raw");
}

static void a_sibling_elsewhere_is_refused(void **state)
{
	static const char *const names[] = { "", "/etc/passwd", "../a", "a/../../b", "./a", "a//b",
		"a/", "..", "http://evil/x", "json:{}", "a\\b", "a\nb", "nbd:x" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		check_no_sibling("https://h/d/a.qcow2", names[i]);
		check_no_sibling("/srv/a.qcow2", names[i]);
	}
}

static void only_urls_of_web_servers_are_remote(void **state)
{
	(void)state;
	assert_true(source_is_remote("https://h/a"));
	assert_true(source_is_remote("HTTP://h/a"));
	assert_false(source_is_remote("/a"));
	assert_false(source_is_remote("file:///a"));
	assert_false(source_is_remote("http:/a"));
}

static void an_unknown_scheme_is_named_without_its_secrets(void **state)
{
	struct image *img = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(source_open(NULL, "ftp://u:secret@h/a", NULL, &img, &e), -EINVAL);
	assert_non_null(strstr(e.text, "ftp://"));
	assert_null(strstr(e.text, "secret"));
	assert_int_equal(source_open(NULL, "", NULL, &img, &e), -EINVAL);
	assert_null(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_has_no_user_info_fragment_or_default_port),
		cmocka_unit_test(a_key_has_no_parameters_of_signed_urls),
		cmocka_unit_test(common_words_stay_in_the_key_of_an_unsigned_url),
		cmocka_unit_test(a_name_is_the_last_part_without_suffixes),
		cmocka_unit_test(a_name_is_never_empty_nor_a_directory),
		cmocka_unit_test(a_sibling_stays_beside_the_image),
		cmocka_unit_test(a_sibling_elsewhere_is_refused),
		cmocka_unit_test(only_urls_of_web_servers_are_remote),
		cmocka_unit_test(an_unknown_scheme_is_named_without_its_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
