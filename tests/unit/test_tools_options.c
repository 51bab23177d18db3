/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the mount option string, and what they have in common. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tools/mount_helper.h"
#include "tools/mount_names.h"
#include "tools/options.h"

static const struct verb mount_verb = { .name = "mount", .bit = VERB_MOUNT, .synopsis = "x" };
static const struct verb map_verb = { .name = "map", .bit = VERB_MAP, .synopsis = "x" };

/* Parses "mount WORD WORD ..." (words parted by a blank each). */
static int parse(
	const struct verb *verb, const char *line, struct options *ret, char *words, struct err *e)
{
	static char *argv[32];
	int argc = 0;
	char *rest = words;

	snprintf(words, 512, "%s", line);
	while (rest && argc < 31) {
		argv[argc++] = strsep(&rest, " ");
	}
	argv[argc] = NULL;
	return options_parse(verb, argc, argv, ret, e);
}

static void every_kind_of_value_arrives(void **state)
{
	struct options o;
	struct err e = { 0 };
	char words[512];

	(void)state;
	assert_int_equal(parse(&mount_verb,
				 "mount --cacert=/ca.pem a --cache-size 1.5Ki -v --timeout 2m "
				 "--connections 3 b --name x --name y --retry 0 --log-format json "
				 "--readahead 0 --insecure c",
				 &o, words, &e),
		0);
	assert_string_equal(o.cacert, "/ca.pem");
	assert_int_equal(o.cache_size, 1536);
	assert_true(o.cache_size_given && o.verbose && o.insecure && !o.foreground && !o.help);
	assert_int_equal(o.timeout_s, 120);
	assert_int_equal(o.connections, 3);
	assert_int_equal(o.name_count, 2);
	assert_string_equal(o.names[0], "x");
	assert_string_equal(o.names[1], "y");
	assert_int_equal(o.tries, 1);
	assert_false(o.retry_hard);
	assert_int_equal(o.log_format, LOG_FORMAT_JSON);
	assert_true(o.readahead_given);
	assert_int_equal(o.readahead, 0);
	assert_int_equal(o.arg_count, 3);
	assert_string_equal(o.args[0], "a");
	assert_string_equal(o.args[2], "c");
	options_clear(&o);
	assert_null(o.cacert);
}

static void a_relative_path_becomes_absolute(void **state)
{
	char here[1024];
	char expected[1200];
	char words[512];
	struct options o;
	struct err e;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	snprintf(expected, sizeof(expected), "%s/dir/x", here);
	assert_int_equal(parse(&mount_verb, "mount --cache-dir dir/x", &o, words, &e), 0);
	assert_string_equal(o.cache_dir, expected);
	options_clear(&o);
}

static void overlays_are_paths_or_temporary(void **state)
{
	char words[512];
	struct options o;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(parse(&mount_verb, "mount --overlay :temp: --overlay /x/o --overlay o", &o,
				 words, &e),
		0);
	assert_int_equal(o.overlay_count, 3);
	assert_string_equal(o.overlays[0], ":temp:");
	assert_string_equal(o.overlays[1], "/x/o");
	assert_int_equal(o.overlays[2][0], '/');
	options_clear(&o);
	assert_int_equal(parse(&mount_verb, "mount --overlay=", &o, words, &e), -EINVAL);
	assert_non_null(strstr(e.text, "--overlay"));
	options_clear(&o);
}

static void the_last_of_two_values_counts(void **state)
{
	char words[512];
	struct options o;
	struct err e;

	(void)state;
	assert_int_equal(
		parse(&mount_verb, "mount --user a --user b --retry hard --retry 4", &o, words, &e),
		0);
	assert_string_equal(o.user, "b");
	assert_int_equal(o.tries, 5);
	assert_false(o.retry_hard);
	options_clear(&o);
}

static void words_behind_two_dashes_are_arguments(void **state)
{
	char words[512];
	struct options o;
	struct err e;

	(void)state;
	assert_int_equal(parse(&mount_verb, "mount -- --user b", &o, words, &e), 0);
	assert_int_equal(o.arg_count, 2);
	assert_string_equal(o.args[0], "--user");
	options_clear(&o);
}

static void a_wrong_option_is_named_and_its_value_is_not(void **state)
{
	static const struct {
		const struct verb *verb;
		const char *line;
		const char *says;
	} rows[] = {
		{ &mount_verb, "mount --pass=geheim a b", "unknown option '--pass'" },
		{ &mount_verb, "mount --password geheim a b", "unknown option '--password'" },
		{ &mount_verb, "mount --insec a b", "unknown option '--insec'" },
		{ &mount_verb, "mount -x a b", "unknown option '-x'" },
		{ &mount_verb, "mount -vx a b", "unknown option '-x'" },
		{ &mount_verb, "mount --overlays=geheim a b", "unknown option '--overlays'" },
		{ &mount_verb, "mount --foreground=geheim a b", "'--foreground' takes no value" },
		{ &mount_verb, "mount a b --cacert", "'--cacert' needs a value" },
		{ &mount_verb, "mount --json a b", "mount takes no option '--json'" },
		{ &map_verb, "map --foreground a", "map takes no option '--foreground'" },
		{ &mount_verb, "mount --cache-size lots a b", "--cache-size: 'lots'" },
		{ &mount_verb, "mount --timeout 0 a b", "--timeout: '0'" },
		{ &mount_verb, "mount --connections 65 a b", "--connections: '65'" },
		{ &mount_verb, "mount --retry soft a b", "--retry: 'soft'" },
		{ &mount_verb, "mount --log-format xml a b", "--log-format: 'xml'" },
		{ &mount_verb, "mount --cacert= a b", "--cacert: the path is empty" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct options o;
		struct err e = { 0 };
		char words[512];

		assert_int_equal(parse(rows[i].verb, rows[i].line, &o, words, &e), -EINVAL);
		if (!strstr(e.text, rows[i].says) || strstr(e.text, "geheim")) {
			fail_msg("%s: %s", rows[i].line, e.text);
		}
		options_clear(&o);
	}
}

static void options_that_contradict_each_other_are_refused(void **state)
{
	static const char *const rows[] = { "mount --user a:b", "mount --password-file /dev/null",
		"mount --secret /dev/null --user a", "mount --client-key /dev/null",
		"mount --no-cache --cache-dir /x", "mount --cache-size 0",
		"mount --cacert /does/not/exist" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct options o;
		struct err e = { 0 };
		char words[512];

		assert_int_equal(parse(&mount_verb, rows[i], &o, words, &e), 0);
		assert_true(options_check(&o, &e) < 0);
		assert_non_null(strstr(e.text, "--"));
		options_clear(&o);
	}
}

static void help_lists_exactly_what_the_verb_takes(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	options_help(
		&(struct verb){ .name = "map", .bit = VERB_MAP, .synopsis = "S", .summary = "do" },
		out);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(text, "Usage: lazydisk map S\n"));
	assert_non_null(strstr(text, "--json"));
	assert_non_null(strstr(text, "-v, --verbose"));
	assert_non_null(strstr(text, "--cacert FILE"));
	assert_null(strstr(text, "--foreground"));
	assert_null(strstr(text, "--max-size"));
	free(text);
}

static void expect_helper(const char *options, const char *const *words, size_t count)
{
	char name[] = "/sbin/mount.fuse.lazydisk";
	char source[] = "https://h/a,b";
	char point[] = "/mnt";
	char o[] = "-o";
	char list[512];
	char *argv[] = { name, source, point, o, list, NULL };
	struct mount_helper h;
	struct err e = { 0 };

	snprintf(list, sizeof(list), "%s", options);
	assert_true(mount_helper_called(5, argv));
	if (mount_helper_parse(&mount_verb, 5, argv, &h, &e) < 0) {
		fail_msg("%s: %s", options, e.text);
	}
	assert_int_equal(h.argc, count + 4);
	assert_string_equal(h.argv[0], "mount");
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(h.argv[1 + i], words[i]);
	}
	assert_string_equal(h.argv[1 + count], "--");
	assert_string_equal(h.argv[2 + count], source);
	assert_string_equal(h.argv[3 + count], point);
	assert_null(h.argv[4 + count]);
	mount_helper_clear(&h);
}

static void mount_options_become_long_options(void **state)
{
	static const char *const words[] = { "--cacert=/a,b\\c", "--allow-other", "--user=anna",
		"--cache-size=1Gi" };

	(void)state;
	expect_helper("rw", NULL, 0);
	expect_helper(
		"defaults,ro,noauto,_netdev,nofail,x-systemd.automount,user,,comment=x,", NULL, 0);
	expect_helper("rw,cacert=/a\\,b\\\\c,allow_other,user=anna,cache-size=1Gi,nodev", words, 4);
}

static int helper(const char *options, bool sloppy, struct mount_helper *h, struct err *e)
{
	char name[] = "mount.fuse.lazydisk";
	char source[] = "/a";
	char point[] = "/mnt";
	char flags[] = "-svn";
	char o[] = "-o";
	char list[512];
	char *argv[] = { name, source, point, o, list, flags, NULL };

	snprintf(list, sizeof(list), "%s", options);
	flags[1] = sloppy ? 's' : 'v';
	return mount_helper_parse(&mount_verb, 6, argv, h, e);
}

static void unknown_mount_options_are_refused_unless_sloppy(void **state)
{
	static const char *const rows[] = { "rw,frobnicate", "password=geheim", "cacert",
		"foreground=geheim", "remount", "json" };
	struct mount_helper h;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(helper(rows[i], false, &h, &e), -EINVAL);
		assert_null(strstr(e.text, "geheim"));
		mount_helper_clear(&h);
		assert_int_equal(helper(rows[i], true, &h, &e), 0);
		assert_int_equal(h.argc, 5);
		assert_string_equal(h.argv[1], "--verbose");
		mount_helper_clear(&h);
	}
}

static void mount_fuse3_is_recognised_by_the_source(void **state)
{
	char name[] = "lazydisk";
	char source[] = "https://h/x";
	char point[] = "/mnt";
	char verb[] = "mount";
	char *by_source[] = { name, source, point, NULL };
	char *by_verb[] = { name, verb, source, point, NULL };

	(void)state;
	assert_true(mount_helper_called(3, by_source));
	assert_false(mount_helper_called(4, by_verb));
	assert_false(mount_helper_called(2, by_source));
}

static void names_come_from_the_sources_or_the_user(void **state)
{
	char a[] = "https://h/d/debian-12.qcow2?x=y";
	char b[] = "/images/b.img";
	char c[] = "own.raw";
	char *sources[] = { a, b };
	char *names[] = { c };
	char **files;
	struct err e;

	(void)state;
	assert_int_equal(mount_names_make(sources, 2, NULL, 0, &files, &e), 0);
	assert_string_equal(files[0], "debian-12.raw");
	assert_string_equal(files[1], "b.raw");
	mount_names_free(files, 2);
	assert_int_equal(mount_names_make(sources, 2, names, 1, &files, &e), 0);
	assert_string_equal(files[0], "own.raw");
	assert_string_equal(files[1], "b.raw");
	mount_names_free(files, 2);
}

static void names_that_clash_or_cannot_be_are_refused(void **state)
{
	static char bad[][8] = { "", ".", "..", "a/b", "a\nb" };
	char a[] = "https://h/1/disk.qcow2";
	char b[] = "https://h/2/disk.img";
	char disk[] = "disk";
	char *sources[] = { a, b };
	char *names[] = { disk, disk, disk };
	char **files;
	struct err e;

	(void)state;
	assert_int_equal(mount_names_make(sources, 2, NULL, 0, &files, &e), -EINVAL);
	assert_non_null(strstr(e.text, "disk.raw"));
	assert_non_null(strstr(e.text, "--name"));
	assert_int_equal(mount_names_make(sources, 2, names, 3, &files, &e), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		names[0] = bad[i];
		assert_int_equal(mount_names_make(sources, 2, names, 1, &files, &e), -EINVAL);
		assert_non_null(strstr(e.text, "--name"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_value_arrives),
		cmocka_unit_test(a_relative_path_becomes_absolute),
		cmocka_unit_test(overlays_are_paths_or_temporary),
		cmocka_unit_test(the_last_of_two_values_counts),
		cmocka_unit_test(words_behind_two_dashes_are_arguments),
		cmocka_unit_test(a_wrong_option_is_named_and_its_value_is_not),
		cmocka_unit_test(options_that_contradict_each_other_are_refused),
		cmocka_unit_test(help_lists_exactly_what_the_verb_takes),
		cmocka_unit_test(mount_options_become_long_options),
		cmocka_unit_test(unknown_mount_options_are_refused_unless_sloppy),
		cmocka_unit_test(mount_fuse3_is_recognised_by_the_source),
		cmocka_unit_test(names_come_from_the_sources_or_the_user),
		cmocka_unit_test(names_that_clash_or_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
