/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is mounted where, without asking the filesystem that is mounted: a dead or silent daemon
 * must not block or fail these.
 */
#ifndef FUSEFS_MOUNTS_H
#define FUSEFS_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

#define MOUNTS_TYPE "fuse.lazydisk"

struct mounts_entry {
	dev_t dev;
	char type[64];
};

/* *ret, malloc()ed: @path as /proc/self/mountinfo would spell it: absolute, without symbolic links,
 * "." or "..". Only the directories above the last component are entered. */
int mounts_resolve(const char *path, char **ret, struct err *e);

/* The topmost mount exactly at @path (as of mounts_resolve()). -ENOENT: there is none. -EIO: it
 * cannot be known. */
int mounts_find(const char *path, struct mounts_entry *ret, struct err *e);

/* Reads one line of mountinfo, which it may change. True and *ret set when it is a mount at
 * @path. */
bool mounts_parse(char *line, const char *path, struct mounts_entry *ret);

#endif
