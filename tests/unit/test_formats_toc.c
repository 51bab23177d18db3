/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that no program writes; those that programs write are in tests/integration. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/toc.h"

#define DATA_END       100000U
#define DIGEST         "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define TABLE(entries) "{\"version\":1,\"entries\":[" entries "]}"
#define FILE_(rest)    "{\"name\":\"f\",\"type\":\"reg\"," rest "}"
#define CHUNK(rest)    "{\"name\":\"f\",\"type\":\"chunk\"," rest "}"
#define SUM            "\"chunkDigest\":\"" DIGEST "\""

static int parse(const char *json, size_t len, struct toc *t, struct err *e)
{
	char *copy = malloc(len ? len : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, json, len);
	r = toc_parse(copy, len, DATA_END, t, e);
	free(copy);
	return r;
}

static void parse_well(const char *json, struct toc *t)
{
	struct err e = { 0 };

	if (parse(json, strlen(json), t, &e) < 0) {
		fail_msg("%s: %s", json, e.text);
	}
}

static void refused(const char *json, int code, const char *why)
{
	struct toc t = { .entry_count = 77 };
	struct err e = { 0 };

	assert_int_equal(parse(json, strlen(json), &t, &e), code);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, why)) {
		fail_msg("%s: \"%s\" says nothing of \"%s\"", json, e.text, why);
	}
	assert_int_equal(t.entry_count, 77);
}

static void entries_of_all_kinds(void **state)
{
	struct toc t = { 0 };

	(void)state;
	parse_well(TABLE("{\"name\":\"d/\",\"type\":\"dir\",\"mode\":493,\"xattrs\":{\"a\":\"b\"}},"
			 "{\"name\":\"d/s\",\"type\":\"symlink\",\"linkName\":\"../x\"},"
			 "{\"name\":\"d/h\",\"type\":\"hardlink\",\"linkName\":\"d/f\"},"
			 "{\"name\":\"d/c\",\"type\":\"char\"},"
			 "{\"name\":\"d/empty\",\"type\":\"reg\"}"),
		&t);
	assert_int_equal(t.entry_count, 5);
	assert_int_equal(t.entries[0].kind, TREE_DIR);
	assert_string_equal(t.text + t.entries[0].name, "d/");
	assert_int_equal(t.entries[1].kind, TREE_SYMLINK);
	assert_string_equal(t.text + t.entries[1].link, "../x");
	assert_int_equal(t.entries[2].kind, TREE_HARDLINK);
	assert_string_equal(t.text + t.entries[2].link, "d/f");
	assert_int_equal(t.entries[3].kind, TREE_OTHER);
	assert_int_equal(t.entries[4].kind, TREE_FILE);
	assert_int_equal(t.files[t.entries[4].file].size, 0);
	assert_int_equal(t.files[t.entries[4].file].count, 0);
	toc_clear(&t);
	toc_clear(&t);
}

/* Where a stream ends follows from where the next one begins, whosever that is. */
static void chunks_tile_their_file(void **state)
{
	struct toc t = { 0 };
	const struct toc_file *f;
	const struct toc_chunk *c;

	(void)state;
	parse_well(
		TABLE(FILE_("\"size\":300,\"offset\":5000,\"chunkSize\":100," SUM) "," CHUNK("\"offset\":9000,\"chunkOffset\":100,\"chunkSize\":50," SUM) "," CHUNK(
			"\"chunkOffset\":150,\"chunkSize\":130,\"chunkType\":\"zeros\"") "," CHUNK("\"offset\":5000,\"innerOffset\":100,\"chunkOffset\":280," SUM) ","
																				   "{\"name\":\"g\",\"type\":\"reg\",\"size\":10,\"offset\":7000,\"digest\":\"" DIGEST
																				   "\"}"),
		&t);
	assert_int_equal(t.entry_count, 2);
	assert_int_equal(t.file_count, 2);
	f = &t.files[t.entries[0].file];
	assert_int_equal(f->size, 300);
	assert_int_equal(f->count, 4);
	c = &t.chunks[f->first];
	assert_int_equal(c[0].offset, 0);
	assert_int_equal(c[0].size, 100);
	assert_int_equal(c[0].host, 5000);
	assert_int_equal(c[0].stored, 2000);
	assert_int_equal(c[0].digest[31], 0x1f);
	assert_int_equal(c[1].offset, 100);
	assert_int_equal(c[1].stored, DATA_END - 9000);
	assert_int_equal(c[2].host, UINT64_MAX);
	assert_int_equal(c[2].size, 130);
	assert_int_equal(c[3].offset, 280);
	assert_int_equal(c[3].size, 20);
	assert_int_equal(c[3].inner, 100);
	f = &t.files[t.entries[1].file];
	assert_int_equal(f->count, 1);
	assert_int_equal(t.chunks[f->first].size, 10);
	assert_int_equal(t.chunks[f->first].stored, 2000);
	toc_clear(&t);
}

static void an_end_that_is_said_is_no_reason_to_read_more(void **state)
{
	struct toc t = { 0 };

	(void)state;
	parse_well(TABLE(FILE_("\"size\":10,\"offset\":100,\"endOffset\":150," SUM)), &t);
	assert_int_equal(t.chunks[0].stored, 50);
	toc_clear(&t);
	parse_well(TABLE(FILE_("\"size\":10,\"offset\":100,\"endOffset\":999999999," SUM)), &t);
	assert_int_equal(t.chunks[0].stored, DATA_END - 100);
	toc_clear(&t);
	parse_well(TABLE(FILE_("\"size\":10,\"offset\":100,\"endOffset\":3," SUM)), &t);
	assert_int_equal(t.chunks[0].stored, DATA_END - 100);
	toc_clear(&t);
}

static void what_cannot_be_true_is_refused(void **state)
{
	(void)state;
	refused("", -EBADMSG, "JSON");
	refused("[]", -EBADMSG, "JSON");
	refused("{\"version\":1}", -EBADMSG, "JSON");
	refused(TABLE("") "x", -EBADMSG, "JSON");
	refused(TABLE(CHUNK("\"offset\":0")), -EBADMSG, "no file");
	refused(TABLE("{\"name\":\"d\",\"type\":\"dir\"}," CHUNK("\"offset\":0")), -EBADMSG,
		"no file");
	refused(TABLE(FILE_("\"size\":10,\"offset\":100000," SUM)), -EBADMSG, "behind the end");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkSize\":11," SUM)), -EBADMSG, "longer");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkOffset\":11," SUM)), -EBADMSG,
		"behind");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkOffset\":1," SUM)), -EBADMSG, "gaps");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkSize\":9," SUM)), -EBADMSG, "not all");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkSize\":5," SUM) "," CHUNK(
			"\"offset\":2,\"chunkOffset\":4,\"chunkSize\":6," SUM)),
		-EBADMSG, "gaps");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1," SUM) "," CHUNK(
			"\"offset\":2,\"chunkOffset\":10," SUM)),
		-EBADMSG, "longer");
	refused(TABLE(FILE_("\"size\":-1")), -EBADMSG, "JSON");
	refused(TABLE(FILE_("\"size\":9223372036854775808")), -EBADMSG, "JSON");
	refused(TABLE(FILE_("\"size\":1,\"offset\":9223372036854775807," SUM)), -EBADMSG, "behind");
}

static void what_could_not_be_checked_or_held_is_refused(void **state)
{
	(void)state;
	refused(TABLE(FILE_("\"size\":10,\"offset\":1")), -ENOTSUP, "digest");
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkDigest\":\"md5:00\"")), -ENOTSUP,
		"digest");
	/* That of the file is not that of a part. */
	refused(TABLE(FILE_("\"size\":10,\"offset\":1,\"chunkSize\":5,\"digest\":\"" DIGEST
			    "\"") "," CHUNK("\"offset\":2,\"chunkOffset\":5," SUM)),
		-ENOTSUP, "digest");
	refused(TABLE(FILE_("\"size\":67108865,\"offset\":1," SUM)), -ENOTSUP,
		"more than 67108864");
	refused(TABLE(FILE_("\"size\":1,\"offset\":1,\"innerOffset\":67108865," SUM)), -ENOTSUP,
		"more than 67108864");
}

static void names_have_an_end(void **state)
{
	char json[TREE_PATH_MAX + 100];
	struct toc t = { 0 };

	(void)state;
	for (size_t more = 0; more < 2; more++) {
		size_t n = (size_t)snprintf(json, sizeof(json),
			"{\"entries\":[{\"type\":\"dir\","
			"\"name\":\"");

		memset(json + n, 'n', TREE_PATH_MAX - 1 + more);
		n += TREE_PATH_MAX - 1 + more;
		snprintf(json + n, sizeof(json) - n, "\"}]}");
		if (more) {
			refused(json, -EBADMSG, "too long");
		} else {
			parse_well(json, &t);
			assert_int_equal(strlen(t.text + t.entries[0].name), TREE_PATH_MAX - 1);
			toc_clear(&t);
		}
	}
}

static void cut_off_anywhere_is_refused(void **state)
{
	static const char json[] =
		TABLE(FILE_("\"size\":9,\"offset\":1,\"chunkSize\":4," SUM) "," CHUNK(
			"\"offset\":2,\"chunkOffset\":4,\"chunkSize\":5," SUM));
	struct toc t = { 0 };
	struct err e = { 0 };

	(void)state;
	for (size_t len = 0; len < sizeof(json) - 1; len++) {
		assert_int_equal(parse(json, len, &t, &e), -EBADMSG);
	}
	parse_well(json, &t);
	toc_clear(&t);
}

static void digests_are_of_one_kind(void **state)
{
	uint8_t got[TOC_DIGEST] = { 0xee };

	(void)state;
	assert_true(toc_digest(DIGEST, got));
	assert_int_equal(got[0], 0);
	assert_int_equal(got[16], 16);
	assert_false(toc_digest("", got));
	assert_false(toc_digest("sha256:", got));
	assert_false(toc_digest(DIGEST "0", got));
	assert_false(
		toc_digest("sha512:000102030405060708090a0b0c0d0e0f10111213141516171819", got));
	assert_false(toc_digest("sha256:000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C"
				"1D1E1F",
		got));
	assert_int_equal(got[16], 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_of_all_kinds),
		cmocka_unit_test(chunks_tile_their_file),
		cmocka_unit_test(an_end_that_is_said_is_no_reason_to_read_more),
		cmocka_unit_test(what_cannot_be_true_is_refused),
		cmocka_unit_test(what_could_not_be_checked_or_held_is_refused),
		cmocka_unit_test(names_have_an_end),
		cmocka_unit_test(cut_off_anywhere_is_refused),
		cmocka_unit_test(digests_are_of_one_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
