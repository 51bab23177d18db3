/* SPDX-License-Identifier: Apache-2.0 */
/* Logins from mounted Secrets, manifests and files. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tools/secret.h"

static char dir[] = "/tmp/lazydisk-unit-XXXXXX";
static const char *const names[] = { "accessKeyId", "secretKey", "username", "password", "file",
	".dockerconfigjson" };

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static void in_dir(const char *name, char *ret)
{
	snprintf(ret, 64, "%s/%s", dir, name);
}

static int clear_dir(void **state)
{
	char path[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		in_dir(names[i], path);
		unlink(path);
	}
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void put(const char *name, const char *text, size_t len)
{
	char path[64];
	int fd;

	in_dir(name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

#define PUT(name, text) put(name, text, sizeof(text) - 1)

static void expect_login(const char *path, const char *user, const char *password)
{
	struct secret s;
	struct err e = { 0 };

	if (secret_load(path, &s, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_string_equal(s.user, user);
	assert_string_equal(s.password, password);
	secret_clear(&s);
}

static void expect_refusal(const char *path, const char *says)
{
	struct secret s;
	struct err e = { 0 };

	assert_true(secret_load(path, &s, &e) < 0);
	if (!strstr(e.text, says) || strstr(e.text, "geheim")) {
		fail_msg("%s", e.text);
	}
	secret_clear(&s);
}

static void a_mounted_secret_is_read_without_its_line_end(void **state)
{
	(void)state;
	PUT("accessKeyId", "anna\n");
	PUT("secretKey", " pass word \r\n");
	expect_login(dir, "anna", " pass word ");
}

static void a_basic_auth_secret_is_read(void **state)
{
	(void)state;
	PUT("username", "anna");
	PUT("password", "geheim");
	expect_login(dir, "anna", "geheim");
}

static void a_docker_config_is_kept_as_it_is(void **state)
{
	struct secret s;
	struct err e;
	char path[64];

	(void)state;
	PUT(".dockerconfigjson", "{\n\"auths\": {}}\n");
	assert_int_equal(secret_load(dir, &s, &e), 0);
	assert_null(s.user);
	assert_string_equal(s.docker_config, "{\n\"auths\": {}}\n");
	secret_clear(&s);
	PUT("file", "kind: Secret\ndata: {.dockercfg: e30=}\n");
	in_dir("file", path);
	assert_int_equal(secret_load(path, &s, &e), 0);
	assert_string_equal(s.docker_config, "{}");
	secret_clear(&s);
}

static void empty_values_are_anonymous(void **state)
{
	struct secret s;
	struct err e;

	(void)state;
	PUT("accessKeyId", "\n");
	PUT("secretKey", "");
	assert_int_equal(secret_load(dir, &s, &e), 0);
	assert_null(s.user);
	assert_null(s.password);
}

static void what_cannot_be_a_login_is_refused(void **state)
{
	(void)state;
	expect_refusal(dir, "neither accessKeyId");
	PUT("accessKeyId", "");
	PUT("secretKey", "geheim");
	expect_refusal(dir, "no user name");
	PUT("accessKeyId", "geheim\nX-Evil: 1\n");
	expect_refusal(dir, "accessKeyId: a name or password is one line");
	PUT("accessKeyId", "geheim\0geheim");
	expect_refusal(dir, "NUL");
	expect_refusal("/tmp/lazydisk-unit-nothing-here", "cannot read");
}

static void manifest(const char *text, const char *user, const char *password)
{
	char path[64];

	put("file", text, strlen(text));
	in_dir("file", path);
	expect_login(path, user, password);
}

static void a_manifest_is_read_as_yaml_and_as_json(void **state)
{
	(void)state;
	manifest("apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\ntype: Opaque\n"
		 "data:\n  accessKeyId: \"YW5uYQ==\"\n  secretKey: Z2VoZWltCg==\n",
		"anna", "geheim");
	manifest("{\"kind\": \"Secret\", \"data\": {\"username\": \"YW5uYQ==\", "
		 "\"password\": \"Z2VoZWlt\"}}",
		"anna", "geheim");
	manifest("kind: Secret\nstringData: {accessKeyId: anna, secretKey: \"geheim\\n\"}\n"
		 "data: {secretKey: eA==}\n",
		"anna", "geheim");
	manifest("kind: ConfigMap\ndata: {accessKeyId: x}\n---\nkind: Secret\n"
		 "data:\n  accessKeyId: |\n    YW5u\n    YQ==\n  secretKey: Zw==\n---\n",
		"anna", "g");
	manifest("kind: Secret\nstringData: {accessKeyId: anna}\n", "anna", "");
}

static void refuse_manifest(const char *text, size_t len, const char *says)
{
	char path[64];

	put("file", text, len);
	in_dir("file", path);
	expect_refusal(path, says);
}

#define REFUSE_MANIFEST(text, says) refuse_manifest(text, sizeof(text) - 1, says)

static void a_manifest_that_is_none_is_refused(void **state)
{
	(void)state;
	REFUSE_MANIFEST("", "no document of kind Secret");
	REFUSE_MANIFEST("anna:geheim\n", "no document of kind Secret");
	REFUSE_MANIFEST("- kind: Secret\n", "no document of kind Secret");
	REFUSE_MANIFEST(
		"kind: ConfigMap\ndata: {secretKey: geheim}\n", "no document of kind Secret");
	REFUSE_MANIFEST("kind: Secret\n", "neither accessKeyId");
	REFUSE_MANIFEST("kind: Secret\ndata: [1, 2]\n", "neither accessKeyId");
	REFUSE_MANIFEST("kind: Secret\ndata: {accessKeyId: [a]}\n", "neither accessKeyId");
	REFUSE_MANIFEST(
		"kind: Secret\ndata: {accessKeyId: \"geheim!\"}\n", "accessKeyId is not base64");
	REFUSE_MANIFEST("kind: Secret\ndata: {accessKeyId: \"Y\"}\n", "accessKeyId is not base64");
	REFUSE_MANIFEST("kind: Secret\ndata: {accessKeyId: \"YQ==x\"}\n", "not base64");
	REFUSE_MANIFEST("kind: Secret\ndata: {accessKeyId: \"YQBi\"}\n", "not base64 text");
	REFUSE_MANIFEST("kind: Secret\ndata: {accessKeyId: \"YQpi\", secretKey: YQ==}\n",
		"one line of text");
	REFUSE_MANIFEST("kind: Secret\ndata: {a: b}\n---\nkind: Secret\n", "more than one Secret");
	REFUSE_MANIFEST("kind: Secret\ndata: {geheim\n", ":3: not YAML");
	REFUSE_MANIFEST("kind: Secret\n\0\xff\xfe", "not YAML");
	REFUSE_MANIFEST("kind: *x\n", ":1: an alias");
	REFUSE_MANIFEST("&a kind: &b {*a : *b}\n", "stands within what it names");
}

static void a_password_file_holds_one_line(void **state)
{
	char path[64];
	char *password = NULL;
	struct err e;

	(void)state;
	in_dir("file", path);
	PUT("file", "geheim\n");
	assert_int_equal(secret_read_password(path, &password, &e), 0);
	assert_string_equal(password, "geheim");
	free_secret(password);
	PUT("file", "geheim\nX-Evil: 1\n");
	assert_int_equal(secret_read_password(path, &password, &e), -EINVAL);
	assert_null(strstr(e.text, "geheim"));
	assert_true(secret_read_password("/does/not/exist", &password, &e) < 0);
	assert_non_null(strstr(e.text, "/does/not/exist"));
}

static void headers_are_lines(void **state)
{
	char path[64];
	char **headers;
	struct err e;

	(void)state;
	in_dir("file", path);
	PUT("file", "X-A: 1\r\n\n# no header\nX-B:two: 2\nX-C:");
	assert_int_equal(secret_read_headers(path, &headers, &e), 0);
	assert_string_equal(headers[0], "X-A: 1");
	assert_string_equal(headers[1], "X-B:two: 2");
	assert_string_equal(headers[2], "X-C:");
	assert_null(headers[3]);
	secret_free_headers(headers);
}

static void a_line_that_is_no_header_is_refused_by_its_number(void **state)
{
	static const char *const rows[] = { "X-A: 1\ngeheim\n", "X-A: 1\n: geheim\n",
		"X-A: 1\nX B: geheim\n", "X-A: 1\nX-B: a\rgeheim\n", "X-A: 1\n X-B: geheim\n" };
	char path[64];

	(void)state;
	in_dir("file", path);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char **headers;
		struct err e;

		put("file", rows[i], strlen(rows[i]));
		assert_int_equal(secret_read_headers(path, &headers, &e), -EINVAL);
		assert_non_null(strstr(e.text, "line 2"));
		assert_null(strstr(e.text, "geheim"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_mounted_secret_is_read_without_its_line_end, clear_dir),
		cmocka_unit_test_teardown(a_basic_auth_secret_is_read, clear_dir),
		cmocka_unit_test_teardown(a_docker_config_is_kept_as_it_is, clear_dir),
		cmocka_unit_test_teardown(empty_values_are_anonymous, clear_dir),
		cmocka_unit_test_teardown(what_cannot_be_a_login_is_refused, clear_dir),
		cmocka_unit_test_teardown(a_manifest_is_read_as_yaml_and_as_json, clear_dir),
		cmocka_unit_test_teardown(a_manifest_that_is_none_is_refused, clear_dir),
		cmocka_unit_test_teardown(a_password_file_holds_one_line, clear_dir),
		cmocka_unit_test_teardown(headers_are_lines, clear_dir),
		cmocka_unit_test_teardown(
			a_line_that_is_no_header_is_refused_by_its_number, clear_dir),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
