/* SPDX-License-Identifier: Apache-2.0 */
/* Names, inodes and attributes, without a mount. */
#include "tests/unit/test.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "fusefs/tree.h"

static const struct tree_volume two[] = {
	{ .name = "debian.raw", .size = GIB(2), .writable = false },
	{ .name = "work.raw", .size = 1000, .writable = true },
};

static struct tree make_tree(void)
{
	struct tree t;

	assert_int_equal(tree_init(&t, two, ARRAY_SIZE(two), NULL), 0);
	return t;
}

static void a_name_leads_to_its_inode_and_others_to_none(void **state)
{
	struct tree t = make_tree();

	(void)state;
	assert_int_equal(tree_lookup(&t, TREE_ROOT, "debian.raw"), TREE_FIRST_VOLUME);
	assert_int_equal(tree_lookup(&t, TREE_ROOT, "work.raw"), TREE_FIRST_VOLUME + 1);
	assert_int_equal(tree_lookup(&t, TREE_ROOT, ".lazydisk"), TREE_CONTROL);
	assert_int_equal(tree_lookup(&t, TREE_CONTROL, "status"), TREE_STATUS);
	assert_int_equal(tree_lookup(&t, TREE_ROOT, "status"), 0);
	assert_int_equal(tree_lookup(&t, TREE_ROOT, "debian.ra"), 0);
	assert_int_equal(tree_lookup(&t, TREE_CONTROL, "debian.raw"), 0);
	assert_int_equal(tree_lookup(&t, TREE_FIRST_VOLUME, "debian.raw"), 0);
	tree_clear(&t);
}

static void an_inode_is_of_one_kind(void **state)
{
	struct tree t = make_tree();

	(void)state;
	assert_int_equal(tree_kind(&t, 0), TREE_KIND_NONE);
	assert_int_equal(tree_kind(&t, TREE_ROOT), TREE_KIND_DIR);
	assert_int_equal(tree_kind(&t, TREE_CONTROL), TREE_KIND_DIR);
	assert_int_equal(tree_kind(&t, TREE_STATUS), TREE_KIND_STATUS);
	assert_int_equal(tree_kind(&t, TREE_FIRST_VOLUME + 1), TREE_KIND_VOLUME);
	assert_int_equal(tree_volume_index(&t, TREE_FIRST_VOLUME + 1), 1);
	assert_int_equal(tree_kind(&t, TREE_FIRST_VOLUME + 2), TREE_KIND_NONE);
	assert_int_equal(tree_kind(&t, UINT64_MAX), TREE_KIND_NONE);
	tree_clear(&t);
}

static void a_volume_has_its_size_its_blocks_and_its_mode(void **state)
{
	struct tree t = make_tree();
	struct stat st;

	(void)state;
	assert_true(tree_attr(&t, TREE_FIRST_VOLUME, MIB(3) + 1, &st));
	assert_int_equal(st.st_size, GIB(2));
	assert_int_equal(st.st_blocks, MIB(3) / 512 + 1);
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_uid, getuid());
	assert_int_equal(st.st_gid, getgid());
	assert_int_equal(st.st_ino, TREE_FIRST_VOLUME);
	assert_true(st.st_mtim.tv_sec > 0);
	assert_true(tree_attr(&t, TREE_FIRST_VOLUME + 1, 0, &st));
	assert_int_equal(st.st_size, 1000);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_false(tree_attr(&t, TREE_FIRST_VOLUME + 2, 0, &st));
	tree_clear(&t);
}

static void directories_and_the_status_cannot_be_written(void **state)
{
	struct tree t = make_tree();
	struct stat st;

	(void)state;
	assert_true(tree_attr(&t, TREE_ROOT, 0, &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0555);
	assert_int_equal(st.st_nlink, 3);
	assert_true(tree_attr(&t, TREE_CONTROL, 0, &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0555);
	assert_int_equal(st.st_nlink, 2);
	assert_true(tree_attr(&t, TREE_STATUS, 0, &st));
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_size, 0);
	tree_clear(&t);
}

static void the_root_lists_volumes_and_hides_the_rest(void **state)
{
	static const char *const names[] = { ".", "..", "debian.raw", "work.raw" };
	static const uint64_t inodes[] = { TREE_ROOT, TREE_ROOT, TREE_FIRST_VOLUME,
		TREE_FIRST_VOLUME + 1 };
	struct tree t = make_tree();
	struct tree_entry entry;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_true(tree_entry(&t, TREE_ROOT, i, &entry));
		assert_string_equal(entry.name, names[i]);
		assert_int_equal(entry.ino, inodes[i]);
		assert_int_equal(entry.mode, i < 2 ? S_IFDIR : S_IFREG);
	}
	assert_false(tree_entry(&t, TREE_ROOT, ARRAY_SIZE(names), &entry));
	assert_false(tree_entry(&t, TREE_ROOT, UINT64_MAX, &entry));
	assert_true(tree_entry(&t, TREE_CONTROL, 2, &entry));
	assert_string_equal(entry.name, "status");
	assert_false(tree_entry(&t, TREE_CONTROL, 3, &entry));
	assert_false(tree_entry(&t, TREE_FIRST_VOLUME, 0, &entry));
	tree_clear(&t);
}

static void names_that_cannot_be_files_are_refused(void **state)
{
	char longest[NAME_MAX + 2];
	const char *const bad[] = { "", ".", "..", ".lazydisk", "a/b", "/", longest };

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct tree_volume v = { .name = bad[i], .size = 1 };
		struct err e = { 0 };
		struct tree t;

		assert_int_equal(tree_init(&t, &v, 1, &e), -EINVAL);
		assert_non_null(strstr(e.text, "cannot be the name"));
	}
	longest[NAME_MAX] = '\0';
	{
		struct tree_volume v = { .name = longest, .size = 1 };
		struct tree t;

		assert_int_equal(tree_init(&t, &v, 1, NULL), 0);
		tree_clear(&t);
	}
}

static void a_name_given_twice_is_refused_by_name(void **state)
{
	const struct tree_volume twice[] = { { .name = "a.raw" }, { .name = "b.raw" },
		{ .name = "a.raw" } };
	struct err e = { 0 };
	struct tree t;

	(void)state;
	assert_int_equal(tree_init(&t, twice, 3, &e), -EINVAL);
	assert_non_null(strstr(e.text, "a.raw"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_leads_to_its_inode_and_others_to_none),
		cmocka_unit_test(an_inode_is_of_one_kind),
		cmocka_unit_test(a_volume_has_its_size_its_blocks_and_its_mode),
		cmocka_unit_test(directories_and_the_status_cannot_be_written),
		cmocka_unit_test(the_root_lists_volumes_and_hides_the_rest),
		cmocka_unit_test(names_that_cannot_be_files_are_refused),
		cmocka_unit_test(a_name_given_twice_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
