/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as trees, and YAML that is meant to hurt. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "tools/yamltree.h"

static struct yamltree parse(const char *text)
{
	struct yamltree tree = { 0 };
	struct err e = { 0 };

	if (yamltree_parse("f", text, strlen(text), &tree, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return tree;
}

static void documents_keep_their_order_and_lines(void **state)
{
	struct yamltree t =
		parse("# first\na: 1\nb:\n  - x\n  - {c: d}\n---\n---\n{\"j\": [1,\n2]}\n");
	const struct yamltree_node *b = yamltree_get(t.documents[0], "b");

	(void)state;
	assert_int_equal(t.count, 2);
	assert_int_equal(t.documents[0]->line, 2);
	assert_string_equal(yamltree_text(yamltree_get(t.documents[0], "a")), "1");
	assert_int_equal(b->kind, YAMLTREE_LIST);
	assert_int_equal(b->count, 2);
	assert_int_equal(b->items[1]->line, 5);
	assert_string_equal(yamltree_text(yamltree_get(b->items[1], "c")), "d");
	assert_int_equal(yamltree_get(t.documents[1], "j")->items[1]->line, 9);
	yamltree_clear(&t);
}

static void nothing_and_null_are_absent(void **state)
{
	struct yamltree t = parse("a:\nb: null\nc: ~\nw: \"\"\ne: 'null'\nf: {}\n");
	const struct yamltree_node *m = t.documents[0];

	(void)state;
	assert_null(yamltree_get(m, "a"));
	assert_null(yamltree_get(m, "b"));
	assert_null(yamltree_get(m, "c"));
	assert_null(yamltree_get(m, "g"));
	assert_string_equal(yamltree_text(yamltree_get(m, "w")), "");
	assert_string_equal(yamltree_text(yamltree_get(m, "e")), "null");
	assert_non_null(yamltree_get(m, "f"));
	assert_null(yamltree_text(yamltree_get(m, "f")));
	assert_null(yamltree_get(yamltree_get(m, "w"), "x"));
	assert_null(yamltree_get(NULL, "x"));
	yamltree_clear(&t);
}

static void an_alias_is_what_it_names(void **state)
{
	struct yamltree t = parse("a: &x {k: v}\nb: *x\nc: [*x, *x]\n");

	(void)state;
	assert_ptr_equal(yamltree_get(t.documents[0], "a"), yamltree_get(t.documents[0], "b"));
	assert_string_equal(
		yamltree_text(yamltree_get(yamltree_get(t.documents[0], "c")->items[1], "k")), "v");
	yamltree_clear(&t);
}

static void json_may_be_indented_with_tabs(void **state)
{
	struct yamltree t = parse("{\n\t\"a\": {\n\t\t\"b\": \"x\\/y\"\n\t}\n}\n");

	(void)state;
	assert_string_equal(
		yamltree_text(yamltree_get(yamltree_get(t.documents[0], "a"), "b")), "x/y");
	yamltree_clear(&t);
}

static void refuse(const char *text, size_t len, const char *says)
{
	struct yamltree tree = { 0 };
	struct err e = { 0 };

	assert_int_equal(yamltree_parse("f", text, len, &tree, &e), -EINVAL);
	assert_int_equal(tree.node_count, 0);
	if (strncmp(e.text, says, strlen(says)) != 0 || strstr(e.text, "geheim")) {
		fail_msg("'%s', not '%s'", e.text, says);
	}
}

#define REFUSE(text, says) refuse(text, sizeof(text) - 1, says)

static void what_is_not_yaml_is_refused_by_its_line(void **state)
{
	(void)state;
	REFUSE("a: b\nc: {geheim\n", "f:3: not YAML");
	REFUSE("a:\n\tb: geheim\n", "f:2: not YAML");
	REFUSE("a: geheim: geheim\n", "f:1: not YAML");
	REFUSE("a: \xff\xfegeheim\n", "f:1: not YAML");
	REFUSE("a: geheim\0\n", "f:1: not YAML");
	REFUSE("a: 1\nb: \"geheim\\0\"\n", "f:2: a value holds a NUL");
	REFUSE("a: *geheim\n", "f:1: an alias (*) without its anchor");
	REFUSE("a: &a [1]\n---\nb: *a\n", "f:3: an alias (*) without its anchor");
}

static void what_has_two_meanings_is_refused(void **state)
{
	(void)state;
	REFUSE("a: 1\nb: 2\na: geheim\n",
		"f:3: a key stands twice in one mapping, first in line 1");
	REFUSE("a:\n  - b: 1\n    \"b\": 2\n", "f:3: a key stands twice");
	REFUSE("a: &a {k: v}\nb:\n  <<: *a\n", "f:3: merge keys");
	REFUSE("? [a]\n: b\n", "f:1: a key must be a word");
	REFUSE("a: &a\n  b: *a\n", "f:2: an alias (*) stands within what it names");
}

static char *repeat(const char *text, size_t times)
{
	size_t len = strlen(text);
	char *all = malloc(len * times + 1);

	assert_non_null(all);
	for (size_t i = 0; i < times; i++) {
		memcpy(all + i * len, text, len);
	}
	all[len * times] = '\0';
	return all;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void refuse_repeated(const char *piece, size_t times, const char *says)
{
	char *text = repeat(piece, times);
	double begun = seconds();

	refuse(text, strlen(text), says);
	assert_true(seconds() - begun < 20);
	free(text);
}

static void hostile_yaml_is_refused_soon(void **state)
{
	(void)state;
	refuse_repeated("[", 2000000, "f:1: nested too deeply");
	refuse_repeated("{a: ", 100000, "f:1: nested too deeply");
	refuse_repeated("- ", 100000, "f:1: nested too deeply");
	refuse_repeated("- a\n", 900000, "f:200000: too many values");
	refuse_repeated("x", YAMLTREE_SIZE_MAX + 1, "f:1: larger than 4Mi");
}

static void too_many_keys_and_anchors_are_refused(void **state)
{
	char *text = malloc(MIB(2));
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		n += (size_t)snprintf(text + n, MIB(2) - n, "k%d: x\n", i);
	}
	refuse(text, n, "f:513: too many keys");
	n = 0;
	for (int i = 0; i < 100000; i++) {
		n += (size_t)snprintf(text + n, MIB(2) - n, "- &a%d x\n", i);
	}
	refuse(text, n, "f:257: too many anchors");
	free(text);
}

static void a_bomb_of_aliases_stays_as_large_as_its_text(void **state)
{
	struct yamltree t;
	char text[4096];
	size_t n = (size_t)snprintf(text, sizeof(text), "l0: &l0 [x, x, x, x, x, x, x, x, x]\n");

	(void)state;
	for (int i = 1; i < 30; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n,
			"l%d: &l%d [*l%d, *l%d, *l%d, *l%d, *l%d, *l%d]\n", i, i, i - 1, i - 1,
			i - 1, i - 1, i - 1, i - 1);
	}
	t = parse(text);
	assert_true(t.node_count < 100);
	yamltree_clear(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_keep_their_order_and_lines),
		cmocka_unit_test(nothing_and_null_are_absent),
		cmocka_unit_test(an_alias_is_what_it_names),
		cmocka_unit_test(json_may_be_indented_with_tabs),
		cmocka_unit_test(what_is_not_yaml_is_refused_by_its_line),
		cmocka_unit_test(what_has_two_meanings_is_refused),
		cmocka_unit_test(hostile_yaml_is_refused_soon),
		cmocka_unit_test(too_many_keys_and_anchors_are_refused),
		cmocka_unit_test(a_bomb_of_aliases_stays_as_large_as_its_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
