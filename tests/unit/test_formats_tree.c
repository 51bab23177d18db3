/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "formats/tree.h"

#define BASE 0U

static struct tree *new_tree(void)
{
	struct tree *t = NULL;

	assert_int_equal(tree_new(&t), 0);
	return t;
}

/* The `ref` of a file is that of the layer and a number, so that one is told from the other. */
static void add_file(struct tree *t, const char *name, uint64_t ref)
{
	const struct tree_entry entry = { .kind = TREE_FILE, .name = name, .ref = ref };

	assert_int_equal(tree_add(t, &entry, NULL), 0);
}

static void add_dir(struct tree *t, const char *name)
{
	const struct tree_entry entry = { .kind = TREE_DIR, .name = name };

	assert_int_equal(tree_add(t, &entry, NULL), 0);
}

static void add_link(struct tree *t, const char *name, const char *link)
{
	const struct tree_entry entry = { .kind = TREE_SYMLINK, .name = name, .link = link };

	assert_int_equal(tree_add(t, &entry, NULL), 0);
}

static void assert_file(const struct tree *t, const char *path, uint64_t ref)
{
	struct tree_found found = { 0 };

	assert_int_equal(tree_find(t, path, &found), TREE_IS);
	assert_int_equal(found.kind, TREE_FILE);
	assert_int_equal(found.ref, ref);
}

static void assert_answer(const struct tree *t, const char *path, enum tree_answer want)
{
	struct tree_found found;

	assert_int_equal(tree_find(t, path, &found), want);
}

static size_t count_in(const struct tree *t, const char *path)
{
	struct tree_found found = { 0 };
	const char *first;
	char names[100];
	bool more;

	assert_int_equal(tree_find(t, path, &found), TREE_IS);
	return tree_list(t, &found, names, sizeof(names), &first, &more);
}

static void names_are_one_however_they_are_written(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, BASE);
	add_file(t, "./disk/a", 1);
	add_file(t, "/disk/b", 2);
	add_file(t, "disk//c", 3);
	add_file(t, "disk/../../disk/d", 4);
	assert_file(t, "disk/a", 1);
	assert_file(t, "/disk/b", 2);
	assert_file(t, "/disk/./c", 3);
	assert_file(t, "/../disk/d", 4);
	assert_int_equal(count_in(t, "/disk"), 4);
	tree_free(t);
}

static void what_is_above_wins(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, 1);
	add_file(t, "disk/a", 11);
	add_dir(t, "x");
	tree_begin(t, BASE);
	add_file(t, "disk/a", 1);
	add_file(t, "disk/b", 2);
	add_file(t, "x", 3);
	assert_file(t, "/disk/a", 11);
	assert_file(t, "/disk/b", 2);
	assert_int_equal(count_in(t, "/x"), 0);
	tree_free(t);
}

static void the_last_of_one_layer_wins(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, 1);
	add_file(t, "a", 1);
	add_file(t, "a", 2);
	add_file(t, "d/in", 3);
	add_file(t, "d", 4);
	add_file(t, "f", 5);
	add_file(t, "f/in", 6);
	tree_begin(t, BASE);
	add_file(t, "d/below", 7);
	add_file(t, "f/below", 8);
	assert_file(t, "/a", 2);
	assert_file(t, "/d", 4);
	assert_answer(t, "/d/in", TREE_IS_NOT);
	assert_file(t, "/f/in", 6);
	assert_int_equal(count_in(t, "/f"), 1); /* the file took the base's directory away */
	tree_free(t);
}

static void whiteouts_take_away_from_lower_layers_only(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, 2);
	add_file(t, "disk/.wh.a", 0);
	add_file(t, "disk/b", 22);
	add_file(t, "disk/.wh.b", 0);
	add_file(t, ".wh.dir", 0);
	add_file(t, "dir/new", 23);
	tree_begin(t, 1);
	add_file(t, "disk/a", 11);
	add_file(t, "disk/c", 13);
	add_file(t, "dir/old", 14);
	tree_begin(t, BASE);
	add_file(t, "disk/b", 2);
	add_file(t, "disk/.wh.c", 3);
	add_file(t, "dir/older", 4);
	assert_answer(t, "/disk/a", TREE_IS_NOT);
	assert_file(t, "/disk/b", 22);
	assert_file(t, "/disk/c", 13);
	assert_int_equal(count_in(t, "/disk"), 2);
	assert_file(t, "/dir/new", 23);
	assert_int_equal(count_in(t, "/dir"), 1);
	tree_free(t);
}

static void opaque_directories_hide_what_is_below(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, 2);
	add_file(t, "disk/b", 22);
	tree_begin(t, 1);
	add_file(t, "disk/a", 11);
	add_file(t, "disk/.wh..wh..opq", 0);
	add_file(t, "disk/.wh..wh.plnk", 0);
	assert_answer(t, "/disk/none", TREE_IS_NOT);
	assert_answer(t, "/none", TREE_MAYBE);
	tree_begin(t, BASE);
	add_file(t, "disk/c", 3);
	add_file(t, "disk/sub/d", 4);
	assert_int_equal(count_in(t, "/disk"), 2);
	assert_file(t, "/disk/a", 11);
	assert_answer(t, "/none", TREE_IS_NOT);
	tree_free(t);
}

static void a_file_parts_directories_above_and_below_it(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, 2);
	add_file(t, "disk/a", 21);
	tree_begin(t, 1);
	add_file(t, "disk", 11);
	tree_begin(t, BASE);
	add_file(t, "disk/b", 1);
	assert_int_equal(count_in(t, "/disk"), 1);
	assert_file(t, "/disk/a", 21);
	tree_free(t);
}

static void links_stay_in_the_image(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, BASE);
	add_file(t, "images/a", 1);
	add_link(t, "disk", "images");
	add_link(t, "x/up", "../../../../images/a");
	add_link(t, "abs", "/x/up");
	add_link(t, "me", "me");
	add_link(t, "one", "other/in");
	add_link(t, "other", "one");
	assert_file(t, "/disk/a", 1);
	assert_file(t, "/x/up", 1);
	assert_file(t, "/abs", 1);
	assert_answer(t, "/me", TREE_CIRCLES);
	assert_answer(t, "/one/x", TREE_CIRCLES);
	assert_answer(t, "/disk/a/b", TREE_IS_NOT);
	tree_free(t);
}

static void a_layer_follows_its_own_links_when_it_is_unpacked(void **state)
{
	struct tree *t = new_tree();

	(void)state;
	tree_begin(t, BASE);
	add_link(t, "disk", "/data/disks");
	add_file(t, "disk/a", 1);
	add_link(t, "loop", "loop");
	add_file(t, "loop/a", 2);
	assert_file(t, "/data/disks/a", 1);
	assert_file(t, "/disk/a", 1);
	tree_free(t);
}

static void many_files_and_names_that_are_too_long(void **state)
{
	struct tree *t = new_tree();
	char name[TREE_PATH_MAX + 10];
	struct err e = { 0 };

	(void)state;
	tree_begin(t, BASE);
	for (unsigned int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "d%u/f%u", i % 7, i);
		add_file(t, name, i);
	}
	for (unsigned int i = 0; i < 5000; i += 131) {
		snprintf(name, sizeof(name), "/d%u/f%u", i % 7, i);
		assert_file(t, name, i);
	}
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(
		tree_add(t, &(struct tree_entry){ .kind = TREE_FILE, .name = name }, &e), -EBADMSG);
	assert_answer(t, name, TREE_IS_NOT);
	tree_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_one_however_they_are_written),
		cmocka_unit_test(what_is_above_wins),
		cmocka_unit_test(the_last_of_one_layer_wins),
		cmocka_unit_test(whiteouts_take_away_from_lower_layers_only),
		cmocka_unit_test(opaque_directories_hide_what_is_below),
		cmocka_unit_test(a_file_parts_directories_above_and_below_it),
		cmocka_unit_test(links_stay_in_the_image),
		cmocka_unit_test(a_layer_follows_its_own_links_when_it_is_unpacked),
		cmocka_unit_test(many_files_and_names_that_are_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
