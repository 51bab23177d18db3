/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of mount(8)'s helper, translated. */
#include "tools/mount_helper.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tools/options.h"

/* For the kernel, mount(8) or the boot scripts; or what is so in any case. */
static const char *const ignored[] = { "defaults", "auto", "noauto", "nofail", "_netdev", "rw",
	"ro", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime",
	"nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime",
	"nolazytime", "sync", "async", "dirsync", "iversion", "noiversion", "silent", "loud",
	"owner", "group", "user", "nouser", "users", "nosymfollow", "default_permissions" };

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool mount_helper_called(int argc, char **argv)
{
	const char *name = base_name(argv[0]);

	if (strcmp(name, "mount.fuse.lazydisk") == 0 || strcmp(name, "mount.lazydisk") == 0) {
		return true;
	}
	/* mount.fuse3 takes the name of the program from the type; no verb has a slash in it. */
	return argc >= 3 && argv[1][0] != '-' && strchr(argv[1], '/');
}

static bool is_ignored(const char *word)
{
	if (strncasecmp(word, "x-", 2) == 0 || strncmp(word, "comment=", 8) == 0) {
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) {
		if (strcmp(word, ignored[i]) == 0) {
			return true;
		}
	}
	return false;
}

static int append(struct mount_helper *h, char *word, struct err *e)
{
	char **argv = word ? reallocarray(h->argv, (size_t)h->argc + 2, sizeof(*argv)) : NULL;

	if (!argv) {
		free(word);
		return err_set(e, -ENOMEM, "out of memory");
	}
	argv[h->argc++] = word;
	argv[h->argc] = NULL;
	h->argv = argv;
	return 0;
}

/* "cache_size=10Gi" becomes "--cache-size=10Gi". */
static int append_option(const struct verb *mount, struct mount_helper *h, const char *word,
	bool sloppy, struct err *e)
{
	size_t len = strcspn(word, "=");
	CLEANUP_FREE char *name = strndup(word, len);
	char *option = NULL;
	bool has_arg;

	for (char *p = name; p && *p; p++) {
		*p = *p == '_' ? '-' : *p;
	}
	if (!name || asprintf(&option, "--%s%s", name, word + len) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (options_find(mount, name, &has_arg) && has_arg == (word[len] == '=')) {
		return append(h, option, e);
	}
	free(option);
	if (sloppy) {
		return 0;
	}
	if (strcmp(word, "remount") == 0) {
		return err_set(e, -EINVAL,
			"a lazydisk mount cannot be remounted; unmount it and "
			"mount it anew");
	}
	if (options_find(mount, name, &has_arg)) {
		return err_set(e, -EINVAL,
			has_arg ? "mount option %s needs a value: %s=..."
				: "mount option %s takes no value",
			name, name);
	}
	return err_set(e, -EINVAL, "unknown mount option '%.*s'; see mount.fuse.lazydisk(8)",
		(int)len, word);
}

/* Cuts the next option off *rest, in place; a backslash takes what follows for itself. */
static char *next_word(char **rest)
{
	char *word = *rest;
	char *out = word;
	char *p = word;

	for (; *p && *p != ','; p++) {
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\')) {
			p++;
		}
		*out++ = *p;
	}
	*rest = *p ? p + 1 : NULL;
	*out = '\0';
	return word;
}

static int append_options(const struct verb *mount, struct mount_helper *h, const char *list,
	bool sloppy, struct err *e)
{
	CLEANUP_FREE char *copy = strdup(list);
	char *rest = copy;

	if (!copy) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while (rest) {
		const char *word = next_word(&rest);
		int r = 0;

		if (*word && !is_ignored(word)) {
			r = append_option(mount, h, word, sloppy, e);
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* What getopt() finds, before it is turned into options. */
struct switches {
	const char *lists[8];
	size_t list_count;
	bool sloppy;
	bool fake;
	bool verbose;
};

static int read_switches(int argc, char **argv, struct switches *ret, struct err *e)
{
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt(argc, argv, ":sfnvN:o:t:")) >= 0) {
		switch (c) {
		case 's':
			ret->sloppy = true;
			break;
		case 'f':
			ret->fake = true;
			break;
		case 'v':
			ret->verbose = true;
			break;
		case 'o':
			if (ret->list_count == ARRAY_SIZE(ret->lists)) {
				return err_set(e, -EINVAL, "too many -o");
			}
			ret->lists[ret->list_count++] = optarg;
			break;
		case 'n':
		case 't':
			break;
		case 'N':
			return err_set(e, -EINVAL,
				"mounting in another namespace is not supported; use nsenter(1)");
		case ':':
			return err_set(e, -EINVAL, "option '-%c' needs a value", optopt);
		default:
			return err_set(e, -EINVAL,
				"unknown option '-%c'; see mount.fuse.lazydisk(8)", optopt);
		}
	}
	return 0;
}

int mount_helper_parse(
	const struct verb *mount, int argc, char **argv, struct mount_helper *ret, struct err *e)
{
	struct switches s = { 0 };
	int r;

	*ret = (struct mount_helper){ 0 };
	r = read_switches(argc, argv, &s, e);
	if (r == 0 && argc - optind != 2) {
		r = err_set(
			e, -EINVAL, "usage: mount.fuse.lazydisk SOURCE MOUNTPOINT [-o OPTIONS]");
	}
	if (r == 0) {
		r = append(ret, strdup(mount->name), e);
	}
	if (r == 0 && s.verbose) {
		r = append(ret, strdup("--verbose"), e);
	}
	for (size_t i = 0; r == 0 && i < s.list_count; i++) {
		r = append_options(mount, ret, s.lists[i], s.sloppy, e);
	}
	if (r == 0) {
		r = append(ret, strdup("--"), e);
	}
	for (int i = optind; r == 0 && i < argc; i++) {
		r = append(ret, strdup(argv[i]), e);
	}
	ret->fake = s.fake;
	return r;
}

void mount_helper_clear(struct mount_helper *h)
{
	for (int i = 0; i < h->argc; i++) {
		free(h->argv[i]);
	}
	free(h->argv);
	*h = (struct mount_helper){ 0 };
}
