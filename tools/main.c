/* SPDX-License-Identifier: Apache-2.0 */
/* The command: finds the verb, parses its options, runs it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/log.h"
#include "tools/exitcode.h"
#include "tools/mount_helper.h"
#include "tools/options.h"
#include "tools/stack.h"
#include "tools/verb.h"

static const struct verb verbs[] = {
	{ "mount", VERB_MOUNT, "[options] SOURCE... | -f FILE... MOUNTPOINT",
		"show disk images as local raw files, fetched as they are read", 2, -1, mount_run },
	{ "umount", VERB_UMOUNT, "[options] MOUNTPOINT", "end a mount", 1, 1, umount_run },
	{ "copy", VERB_COPY, "[options] SOURCE TARGET | -f FILE... --volumes DIR",
		"fill a file or a block device with the disk of an image", 2, 2, copy_verb_run },
	{ "info", VERB_INFO, "[options] SOURCE",
		"show formats, sizes, version and what is cached of an image", 1, 1, info_run },
	{ "map", VERB_MAP, "[options] SOURCE", "show where an image has data and where holes", 1, 1,
		map_run },
	{ "status", VERB_STATUS, "[options] MOUNTPOINT",
		"show what a mount has fetched and how its readers fared", 1, 1, status_run },
	{ "cache", VERB_CACHE, "list | drop SOURCE | prune --max-size SIZE | verify",
		"look after what is kept on disk", 1, 2, cache_run },
	{ "overlay", VERB_OVERLAY, "info FILE | commit [options] FILE TARGET",
		"look at what was written over an image, or merge the two", 2, 3, overlay_run },
	{ "trace", VERB_TRACE, "info | export | import | drop SOURCE [FILE]",
		"look after the records of how machines boot", 2, 3, trace_run },
	{ "volume", VERB_VOLUME, "create --size SIZE --name NAME | list | delete NAME",
		"make local block volumes: a file, its loop device, its manifest", 1, 2,
		volume_run },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	return NULL;
}

static void print_help(FILE *out)
{
	fputs("Usage: lazydisk VERB [options] ...\n\n"
	      "Remote disk images as local raw disks, before they have been "
	      "downloaded.\n\n",
		out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
	}
	fputs("\nlazydisk VERB --help lists the options of a verb; lazydisk "
	      "--version says which\n"
	      "version this is. See lazydisk(1).\n",
		out);
}

static int check_arguments(const struct verb *verb, const struct options *o, struct err *e)
{
	/* Manifests stand for the sources, and for copy's target. */
	int sources = verb->args_max < 0 ? 1 : 2;
	int min = verb->args_min - (o->manifest_count ? sources : 0);
	bool many = verb->args_max >= 0 && o->arg_count > verb->args_max;
	int r;

	if (o->arg_count < min || many) {
		return err_set(e, -EINVAL, "too %s arguments; usage: lazydisk %s %s",
			many ? "many" : "few", verb->name, verb->synopsis);
	}
	r = options_check(o, e);
	return r < 0 ? r : stack_check(o, e);
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
	struct options o;
	struct err e;
	int r = options_parse(verb, argc, argv, &o, &e);

	log_setup(o.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, o.log_format);
	if (o.help && r == 0) {
		options_help(verb, stdout);
		options_clear(&o);
		return EXITCODE_OK;
	}
	if (r == 0) {
		r = check_arguments(verb, &o, &e);
	}
	r = r < 0 ? exitcode_report(&e, EXITCODE_USAGE) : verb->run(&o);
	options_clear(&o);
	return r;
}

static int run_helper(int argc, char **argv)
{
	struct mount_helper h;
	struct err e;
	int r = mount_helper_parse(find_verb("mount"), argc, argv, &h, &e);

	if (r < 0) {
		r = exitcode_report(&e, EXITCODE_USAGE);
	} else if (h.fake) {
		r = EXITCODE_OK;
	} else {
		r = run_verb(find_verb("mount"), h.argc, h.argv);
	}
	mount_helper_clear(&h);
	return r;
}

static int dispatch(int argc, char **argv)
{
	const struct verb *verb;
	struct err e;

	if (argc > 0 && mount_helper_called(argc, argv)) {
		return run_helper(argc, argv);
	}
	if (argc < 2) {
		print_help(stderr);
		return EXITCODE_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return EXITCODE_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("lazydisk " LAZYDISK_VERSION);
		return EXITCODE_OK;
	}
	verb = find_verb(argv[1]);
	if (!verb) {
		err_set(&e, -EINVAL, "'%s' is no %s of lazydisk; see lazydisk --help", argv[1],
			argv[1][0] == '-' ? "option" : "verb");
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	return run_verb(verb, argc - 1, argv + 1);
}

/* Where 0, 1 or 2 is closed, the next file would get its number, and what is meant for stderr. */
static void hold_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR); /* NOLINT(android-cloexec-open): as stdio is */
	} while (fd >= 0 && fd <= STDERR_FILENO);
	close(fd);
}

int main(int argc, char **argv)
{
	int code;

	hold_stdio();
	/* A reader of our output that went away is an error of write(), not a death; so is a limit
	 * on the size of files (ulimit -f), which a cache does without. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	code = dispatch(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (errno != EPIPE) {
			log_error("cannot write to standard output: %s", strerrordesc_np(errno));
		}
		return code ? code : EXITCODE_FAILED;
	}
	return code;
}
