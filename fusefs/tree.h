/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, inode numbers and attributes of the filesystem. Pure: knows neither libfuse nor images.
 * All of it is fixed by tree_init(), so every function may be called from any thread.
 *
 *   1        the root
 *   2        .lazydisk, which readdir of the root leaves out
 *   3        .lazydisk/status
 *   4 + i    the i-th volume
 */
#ifndef FUSEFS_TREE_H
#define FUSEFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/err.h"

#define TREE_ROOT         1U
#define TREE_CONTROL      2U
#define TREE_STATUS       3U
#define TREE_FIRST_VOLUME 4U

struct tree_volume {
	const char *name; /* outlives the tree */
	uint64_t size;
	bool writable;
};

struct tree {
	struct tree_volume *volumes; /* owned */
	size_t count;
	uid_t uid;
	gid_t gid;
	struct timespec born; /* every time stamp */
};

enum tree_kind {
	TREE_KIND_NONE, /* no such inode */
	TREE_KIND_DIR,
	TREE_KIND_STATUS,
	TREE_KIND_VOLUME,
};

struct tree_entry {
	const char *name;
	uint64_t ino;
	mode_t mode;
};

/* Owner and time stamps are those of the caller and of now. -EINVAL names the volume whose name
 * cannot be one of a file here, or is there twice. */
int tree_init(struct tree *t, const struct tree_volume *volumes, size_t count, struct err *e);
void tree_clear(struct tree *t);

enum tree_kind tree_kind(const struct tree *t, uint64_t ino);

/* Of an inode of kind TREE_KIND_VOLUME. */
size_t tree_volume_index(const struct tree *t, uint64_t ino);

/* The inode of @name in directory @parent, or 0. */
uint64_t tree_lookup(const struct tree *t, uint64_t parent, const char *name);

/* @allocated: bytes behind st_blocks, for a volume. False when there is no such inode. */
bool tree_attr(const struct tree *t, uint64_t ino, uint64_t allocated, struct stat *ret);

/* The @pos-th entry of directory @dir, "." and ".." included; false when there are no more. */
bool tree_entry(const struct tree *t, uint64_t dir, uint64_t pos, struct tree_entry *ret);

#endif
