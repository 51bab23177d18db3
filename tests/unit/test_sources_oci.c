/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and platforms. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/oci_digest.h"
#include "sources/oci_manifest.h"
#include "sources/oci_platform.h"

#define HEX    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "\"digest\":\"sha256:" HEX "\",\"size\":7"
#define LAYER  "{\"mediaType\":\"application/x\"," DIGEST "}"
#define CONFIG "\"config\":{\"mediaType\":\"application/c\"," DIGEST "}"
#define OCI    "\"mediaType\":\"" OCI_TYPE_MANIFEST "\""

static int parse(const char *text, const char *type, struct oci_manifest *ret, struct err *e)
{
	return oci_manifest_parse("x", text, strlen(text), type, ret, e);
}

static void manifests_are_read(void **state)
{
	static const char text[] = "{\"schemaVersion\":2," OCI ",\"artifactType\":\"a/t\"," CONFIG
				   ",\"layers\":[" LAYER ",{\"mediaType\":\"y\"," DIGEST
				   ",\"annotations\":{\"k\":\"v\",\"n\":1}}]}";
	struct oci_manifest m;

	(void)state;
	assert_int_equal(parse(text, OCI_TYPE_MANIFEST, &m, NULL), 0);
	assert_false(m.is_index);
	assert_string_equal(m.media_type, OCI_TYPE_MANIFEST);
	assert_string_equal(m.artifact_type, "a/t");
	assert_string_equal(m.config.blob.media_type, "application/c");
	assert_int_equal(m.count, 2);
	assert_string_equal(m.items[0].blob.digest, "sha256:" HEX);
	assert_int_equal(m.items[0].blob.size, 7);
	assert_string_equal(m.items[1].blob.media_type, "y");
	assert_string_equal(source_blob_annotation(&m.items[1].blob, "k"), "v");
	assert_null(source_blob_annotation(&m.items[1].blob, "n"));
	assert_null(source_blob_annotation(&m.items[0].blob, "k"));
	oci_manifest_clear(&m);
}

static void what_it_holds_decides_where_nobody_says(void **state)
{
	static const char manifest[] = "{\"schemaVersion\":2," CONFIG ",\"layers\":[]}";
	static const char index[] = "{\"schemaVersion\":2,\"manifests\":[" LAYER "]}";
	static const char *const types[] = { "", "text/plain", "application/json" };
	struct oci_manifest m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(parse(manifest, types[i], &m, NULL), 0);
		assert_false(m.is_index);
		assert_string_equal(m.media_type, OCI_TYPE_MANIFEST);
		oci_manifest_clear(&m);
		assert_int_equal(parse(index, types[i], &m, NULL), 0);
		assert_true(m.is_index);
		oci_manifest_clear(&m);
	}
	assert_int_equal(parse(manifest, OCI_TYPE_SCHEMA2, &m, NULL), 0);
	assert_string_equal(m.media_type, OCI_TYPE_SCHEMA2);
	oci_manifest_clear(&m);
}

static void manifests_that_are_none_are_refused(void **state)
{
	static const struct {
		const char *text;
		const char *type;
		int code;
		const char *why;
	} rows[] = {
		{ "", "", -EBADMSG, "not JSON" },
		{ "[]", "", -EBADMSG, "" },
		{ "\"x\"", "", -EBADMSG, "" },
		{ "{}", "", -EBADMSG, "not a manifest" },
		{ "{\"schemaVersion\":1,\"fsLayers\":[]}", "", -ENOTSUP, "schema 1" },
		{ "{\"fsLayers\":[]}", "", -ENOTSUP, "schema 1" },
		{ "{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", -ENOTSUP,
			"schema 1" },
		{ "{}", "application/vnd.oci.artifact.manifest.v1+json", -ENOTSUP, "artifact" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}", "", -EBADMSG,
			"more than one kind" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"fsLayers\":[]}", "", -EBADMSG,
			"more than one kind" },
		{ "{\"schemaVersion\":2," OCI "," CONFIG ",\"layers\":[]}", OCI_TYPE_INDEX,
			-EBADMSG, "calls itself" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":[]}", OCI_TYPE_INDEX, -EBADMSG,
			"does not hold" },
		{ "{\"schemaVersion\":2,\"mediaType\":\"a/b\"," CONFIG ",\"layers\":[]}", "",
			-EBADMSG, "not a manifest" },
		{ "{\"schemaVersion\":3," CONFIG ",\"layers\":[]}", "", -EBADMSG, "schemaVersion" },
		{ "{\"schemaVersion\":2," CONFIG ",\"layers\":{}}", "", -EBADMSG, "not a list" },
		{ "{\"schemaVersion\":2," CONFIG "}", "", -EBADMSG, "not a list" },
		{ "{\"schemaVersion\":2,\"layers\":[1]}", "", -EBADMSG, "digest" },
		{ "{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":1}]}",
			"", -EBADMSG, "digest" },
		{ "{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX "\",\"size\":-1}]}",
			"", -EBADMSG, "size" },
		{ "{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX
		  "\",\"size\":9007199254740992}]}",
			"", -EBADMSG, "size" },
		{ "{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:" HEX "\",\"size\":1.5}]}",
			"", -EBADMSG, "size" },
		{ "{\"schemaVersion\":2,\"layers\":[],\"layers\":[]}", "", -EBADMSG, "twice" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct oci_manifest m;
		struct err e = { 0 };
		int r = parse(rows[i].text, rows[i].type, &m, &e);

		if (r != rows[i].code || !strstr(e.text, rows[i].why)) {
			fail_msg("%s: %d %s", rows[i].text, r, e.text);
		}
	}
}

/* @count times @item between @before and @after. */
static char *repeat(const char *before, const char *item, size_t count, const char *after)
{
	size_t n = strlen(item);
	char *text = malloc(strlen(before) + count * (n + 1) + strlen(after) + 1);
	char *p = stpcpy(text, before);

	for (size_t i = 0; i < count; i++) {
		p = stpcpy(p, item);
		if (i + 1 < count && *item == '{') {
			*p++ = ',';
		}
	}
	stpcpy(p, after);
	return text;
}

static void what_costs_too_much_is_refused(void **state)
{
	char *many = repeat("{\"schemaVersion\":2,\"layers\":[", LAYER, OCI_LAYERS_MAX + 1, "]}");
	char *most = repeat("{\"schemaVersion\":2,\"layers\":[", LAYER, OCI_LAYERS_MAX, "]}");
	char *deep = repeat("{\"a\":", "[", 100000, "");
	char *large = calloc(1, OCI_MANIFEST_MAX + 2);
	struct oci_manifest m;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(parse(many, "", &m, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "more than 512 layers"));
	assert_int_equal(parse(most, "", &m, &e), 0);
	oci_manifest_clear(&m);
	assert_int_equal(parse(deep, "", &m, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "nested too deeply"));
	memset(large, ' ', OCI_MANIFEST_MAX + 1);
	assert_int_equal(parse(large, "", &m, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "larger than 4 MiB"));
	free(many);
	free(most);
	free(deep);
	free(large);
}

static void brackets_in_texts_nest_nothing(void **state)
{
	char *text = repeat("{\"schemaVersion\":2,\"layers\":[],\"a\":\"\\\"", "[", 1000, "\"}");
	struct oci_manifest m;
	struct err e = { 0 };

	(void)state;
	if (parse(text, "", &m, &e) < 0) {
		fail_msg("%s", e.text);
	}
	oci_manifest_clear(&m);
	free(text);
}

static void digests_are_compared(void **state)
{
	char digest[OCI_DIGEST_MAX];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(oci_digest_make("abc", 3, digest, NULL), 0);
	assert_string_equal(
		digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(oci_digest_verify(digest, "abc", 3, "x", NULL), 0);
	assert_int_equal(oci_digest_verify(digest, "abd", 3, "x", &e), -ENOKEY);
	assert_non_null(strstr(e.text, "x: the bytes do not match"));
	assert_int_equal(oci_digest_verify(
				 "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b"
				 "55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54"
				 "ca49f",
				 "abc", 3, "x", NULL),
		0);
	assert_int_equal(oci_digest_check("sha256:" HEX, NULL), 0);
	assert_int_equal(oci_digest_check("sha256:ABCDEF" HEX, NULL), -EINVAL);
	assert_int_equal(oci_digest_check("sha1:" HEX, NULL), -EINVAL);
}

static void platforms_have_many_spellings(void **state)
{
	static const char *const rows[][2] = {
		{ "amd64", "linux/amd64" },
		{ "x86_64", "linux/amd64" },
		{ "linux/aarch64", "linux/arm64" },
		{ "armv7l", "linux/arm/v7" },
		{ "linux/arm/v6", "linux/arm/v6" },
		{ "windows/amd64", "windows/amd64" },
		{ "s390x", "linux/s390x" },
	};
	static const char *const bad[] = { "", "/", "linux/", "linux//v8", "a/b/c/d", "a b",
		"linux/\n" };
	struct oci_platform p;
	char text[100];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(oci_platform_parse(rows[i][0], &p, NULL), 0);
		oci_platform_print(&p, text, sizeof(text));
		assert_string_equal(text, rows[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (oci_platform_parse(bad[i], &p, NULL) == 0) {
			fail_msg("'%s' was taken for a platform", bad[i]);
		}
	}
	assert_int_equal(oci_platform_parse(NULL, &p, NULL), 0);
	assert_string_equal(p.os, "linux");
}

/* An index of platforms "os/arch/variant", separated by blanks; "-" has none, "?" is an
 * attestation.
 */
static void make_index(const char *platforms, struct oci_manifest *ret)
{
	char text[4096] = "{\"schemaVersion\":2,\"manifests\":[";
	char list[256];
	char *next = list;
	char *word;
	bool first = true;

	snprintf(list, sizeof(list), "%s", platforms);
	while ((word = strsep(&next, " "))) {
		char os[32] = "";
		char arch[32] = "";
		char variant[32] = "";
		size_t n = strlen(text);

		sscanf(word, "%31[^/]/%31[^/]/%31s", os, arch, variant);
		if (*word == '-') {
			snprintf(text + n, sizeof(text) - n, "%s{" DIGEST "}", first ? "" : ",");
		} else if (*word == '?') {
			snprintf(text + n, sizeof(text) - n,
				"%s{" DIGEST ",\"platform\":{\"os\":\"unknown\",\"architecture\":"
				"\"unknown\"}}",
				first ? "" : ",");
		} else {
			snprintf(text + n, sizeof(text) - n,
				"%s{" DIGEST ",\"platform\":{\"os\":\"%s\",\"architecture\":\"%s\","
				"\"variant\":\"%s\"}}",
				first ? "" : ",", os, arch, variant);
		}
		first = false;
	}
	stpcpy(text + strlen(text), "]}");
	assert_int_equal(parse(text, "", ret, NULL), 0);
}

static void the_nearest_platform_is_chosen(void **state)
{
	static const struct {
		const char *index;
		const char *wanted;
		int chosen; /* -1: none */
	} rows[] = {
		{ "linux/amd64 linux/arm64", "arm64", 1 },
		{ "linux/amd64 linux/arm64", "s390x", -1 },
		{ "windows/amd64 linux/amd64", "amd64", 1 },
		{ "linux/x86_64 linux/aarch64", "arm64", 1 },
		{ "linux/arm64/v8", "arm64", 0 },
		{ "linux/arm64", "linux/arm64/v8", 0 },
		{ "linux/arm64/v9", "linux/arm64/v8", -1 },
		{ "linux/arm/v5 linux/arm/v7 linux/arm/v6", "linux/arm/v7", 1 },
		{ "linux/arm/v5 linux/arm/v7 linux/arm/v6", "linux/arm/v6", 2 },
		{ "linux/arm/v5 linux/arm", "linux/arm/v7", 0 },
		{ "linux/arm/v7", "linux/arm/v6", -1 },
		{ "linux/amd64/v2", "amd64", 0 },
		{ "linux/amd64/v3 linux/amd64/v2", "amd64", 1 },
		{ "linux/amd64/v3 linux/amd64", "linux/amd64/v3", 0 },
		{ "linux/amd64/v3 linux/amd64", "linux/amd64/v2", 1 },
		{ "? linux/amd64 ?", "amd64", 1 },
		{ "?", "amd64", -1 },
		{ "- linux/amd64", "amd64", 1 },
		{ "linux/arm64 -", "amd64", 1 },
		{ "linux/ppc64le linux/ppc64le", "ppc64le", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct oci_platform p;
		struct oci_manifest m;
		size_t n = 0;
		int r;

		make_index(rows[i].index, &m);
		assert_int_equal(oci_platform_parse(rows[i].wanted, &p, NULL), 0);
		r = oci_platform_choose("x", &m, &p, &n, NULL);
		if (r < 0 ? rows[i].chosen >= 0 : (int)n != rows[i].chosen) {
			fail_msg("%s of %s: %d %zu", rows[i].wanted, rows[i].index, r, n);
		}
		oci_manifest_clear(&m);
	}
}

static void those_that_there_are_are_named(void **state)
{
	struct oci_platform p;
	struct oci_manifest m;
	struct err e = { 0 };
	size_t n;

	(void)state;
	make_index("linux/arm64 linux/amd64/v2 linux/arm64 ? -", &m);
	assert_int_equal(oci_platform_parse("s390x", &p, NULL), 0);
	m.count--;
	assert_int_equal(oci_platform_choose("x", &m, &p, &n, &e), -ENOENT);
	assert_string_equal(e.text, "x: there is no image for linux/s390x; there is linux/arm64, "
				    "linux/amd64/v2: choose with --platform");
	oci_manifest_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manifests_are_read),
		cmocka_unit_test(what_it_holds_decides_where_nobody_says),
		cmocka_unit_test(manifests_that_are_none_are_refused),
		cmocka_unit_test(what_costs_too_much_is_refused),
		cmocka_unit_test(brackets_in_texts_nest_nothing),
		cmocka_unit_test(digests_are_compared),
		cmocka_unit_test(platforms_have_many_spellings),
		cmocka_unit_test(the_nearest_platform_is_chosen),
		cmocka_unit_test(those_that_there_are_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
