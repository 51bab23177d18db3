/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of mountinfo, and paths as it spells them. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fusefs/mounts.h"

static bool parse(const char *text, const char *path, struct mounts_entry *ret)
{
	char line[512];

	snprintf(line, sizeof(line), "%s", text);
	return mounts_parse(line, path, ret);
}

static void a_line_tells_device_and_type_of_its_path(void **state)
{
	struct mounts_entry m;

	(void)state;
	assert_true(parse("43 27 0:39 / /mnt/a\\040b ro,nosuid shared:7 master:2 - fuse.lazydisk "
			  "http://h/x,y ro,user_id=0",
		"/mnt/a b", &m));
	assert_string_equal(m.type, "fuse.lazydisk");
	assert_int_equal(m.dev, makedev(0, 39));
	assert_true(parse("43 27 8:1 / / rw - ext4 /dev/sda1 rw", "/", &m));
	assert_string_equal(m.type, "ext4");
	assert_int_equal(m.dev, makedev(8, 1));
	assert_true(parse("43 27 0:9 / /m\\134n\\011\\012 rw - tmpfs - rw", "/m\\n\t\n", &m));
	assert_string_equal(m.type, "tmpfs");
}

static void lines_of_other_paths_and_broken_lines_are_not_it(void **state)
{
	struct mounts_entry m = { .type = "untouched" };

	(void)state;
	assert_false(parse("43 27 0:39 / /mnt/ab rw - fuse.lazydisk x rw", "/mnt/a", &m));
	assert_false(parse("43 27 0:39 / /mnt", "/mnt", &m));
	assert_false(parse("43 27 0:39 / /mnt rw -", "/mnt", &m));
	assert_false(parse("43 27 0:39 / /mnt rw master:1", "/mnt", &m));
	assert_false(parse("43 27 zero / /mnt rw - tmpfs x rw", "/mnt", &m));
	assert_false(parse("43 27 0:x / /mnt rw - tmpfs x rw", "/mnt", &m));
	assert_false(parse("", "/mnt", &m));
	assert_string_equal(m.type, "untouched");
}

static void what_is_mounted_is_found_and_what_is_not_is_not(void **state)
{
	struct mounts_entry m;
	struct stat st;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stat("/proc", &st), 0);
	assert_int_equal(mounts_find("/proc", &m, &e), 0);
	assert_string_equal(m.type, "proc");
	assert_int_equal(m.dev, st.st_dev);
	assert_int_equal(mounts_find("/proc/self", &m, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/proc/self"));
}

/* In a directory of its own, the present one. */
static int enter_scratch(void **state)
{
	char dir[] = "/tmp/lazydisk-mounts-XXXXXX";

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("sub", 0755), 0);
	assert_int_equal(mkdir("sub/deep", 0755), 0);
	assert_int_equal(symlink("sub/deep", "short"), 0);
	assert_int_equal(symlink("../sub", "sub/back"), 0);
	assert_int_equal(symlink("round", "round"), 0);
	*state = realpath(".", NULL);
	return 0;
}

static int leave_scratch(void **state)
{
	char *dir = *state;

	unlink("round");
	unlink("short");
	unlink("sub/back");
	rmdir("sub/deep");
	rmdir("sub");
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(dir), 0);
	free(dir);
	return 0;
}

static void expect(const char *base, const char *path, const char *below)
{
	char want[512];
	char *got = NULL;

	snprintf(want, sizeof(want), "%s%s", base, below);
	assert_int_equal(mounts_resolve(path, &got, NULL), 0);
	assert_string_equal(got, want);
	free(got);
}

static void paths_become_absolute_without_links_and_slashes(void **state)
{
	const char *base = *state;

	expect(base, "sub", "/sub");
	expect(base, "sub///", "/sub");
	expect(base, "./sub/../sub/deep/", "/sub/deep");
	expect(base, "short", "/sub/deep");
	expect(base, "short/", "/sub/deep");
	expect(base, "sub/back/deep", "/sub/deep");
	expect(base, ".", "");
	expect(base, "sub/.", "/sub");
	expect(base, "sub/deep/..", "/sub");
	expect(base, "sub/missing", "/sub/missing");
	expect("", "/", "/");
	expect("", "//proc//", "/proc");
}

static void paths_that_lead_nowhere_say_so(void **state)
{
	struct err e = { 0 };
	char *got = NULL;

	(void)state;
	assert_int_equal(mounts_resolve("missing/x", &got, &e), -ENOENT);
	assert_non_null(strstr(e.text, "missing/x"));
	assert_int_equal(mounts_resolve("", &got, &e), -ENOENT);
	assert_int_equal(mounts_resolve("round", &got, &e), -ELOOP);
	assert_null(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_tells_device_and_type_of_its_path),
		cmocka_unit_test(lines_of_other_paths_and_broken_lines_are_not_it),
		cmocka_unit_test(what_is_mounted_is_found_and_what_is_not_is_not),
		cmocka_unit_test_setup_teardown(paths_become_absolute_without_links_and_slashes,
			enter_scratch, leave_scratch),
		cmocka_unit_test_setup_teardown(
			paths_that_lead_nowhere_say_so, enter_scratch, leave_scratch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
