/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of the command. A verb is one file with one run function and one row in main.c; the
 * options that it takes are marked with its bit in the table of options.c.
 *
 * A run function gets options that are parsed and arguments whose count is right. It returns an
 * exit code (tools/exitcode.h); a failure has been reported by then, in one line.
 */
#ifndef TOOLS_VERB_H
#define TOOLS_VERB_H

enum verb_bit {
	VERB_MOUNT = 1U << 0,
	VERB_UMOUNT = 1U << 1,
	VERB_INFO = 1U << 2,
	VERB_MAP = 1U << 3,
	VERB_STATUS = 1U << 4,
	VERB_CACHE = 1U << 5,
	VERB_COPY = 1U << 6,
	VERB_VOLUME = 1U << 7,
	VERB_OVERLAY = 1U << 8,
	VERB_TRACE = 1U << 9,
};

struct options;

struct verb {
	const char *name;
	enum verb_bit bit;
	const char *synopsis; /* what follows the name: "[options] SOURCE..." */
	const char *summary;  /* one line, begins in lower case */
	int args_min;
	int args_max; /* -1: any number */
	int (*run)(const struct options *o);
};

int mount_run(const struct options *o);
int umount_run(const struct options *o);
int info_run(const struct options *o);
int map_run(const struct options *o);
int status_run(const struct options *o);
int cache_run(const struct options *o);
int copy_verb_run(const struct options *o);
int trace_run(const struct options *o);
int volume_run(const struct options *o);
int overlay_run(const struct options *o);

#endif
