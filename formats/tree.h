/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory tree that the layers of a container image make together, as far down as they have
 * been looked at. Layers are added from the top one down, because what is above wins:
 *  - an entry of an upper layer hides what lower layers have under its name; only directories on
 *    directories are merged
 *  - ".wh.NAME" takes NAME away from lower layers, ".wh..wh..opq" everything that they have in the
 *    directory; neither touches its own layer, wherever it stands in it
 *  - of several entries with one name in one layer the last wins
 * Source of the rules: OCI image specification 1.1, layer.md, "Applying Changesets"; where it
 * leaves room, what containerd does. Entries are told by a number (`ref`) that only their layer
 * understands.
 */
#ifndef FORMATS_TREE_H
#define FORMATS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/err.h"

/* Image file systems have no more, whatever a hostile layer says. */
#define TREE_NODES_MAX 1048576U
#define TREE_TEXT_MAX  MIB(128)
#define TREE_PATH_MAX  4096U
/* Symbolic links in one path, as in the kernel. */
#define TREE_LINKS_MAX 40U

enum tree_kind {
	TREE_DIR,
	TREE_FILE,
	TREE_SYMLINK,
	TREE_HARDLINK,
	TREE_OTHER,
	TREE_GONE, /* whited out, for lower layers */
};

struct tree_entry {
	enum tree_kind kind; /* not TREE_GONE: that is in the name */
	const char *name;    /* as the layer has it: "disk/x", "./disk/x", "/disk/x" */
	const char *link;    /* of SYMLINK and HARDLINK */
	uint64_t ref;        /* of FILE */
};

struct tree;

/* -ENOMEM or 0. */
int tree_new(struct tree **ret);
void tree_free(struct tree *t);
void tree_freep(struct tree **t);

/* What is added from now on is of layer @layer: 0 is the base. Each call's is lower than the one
 * before. */
void tree_begin(struct tree *t, size_t layer);

/* -EBADMSG: too much of something; -ENOMEM. */
int tree_add(struct tree *t, const struct tree_entry *entry, struct err *e);

enum tree_answer {
	TREE_IS,      /* it is this */
	TREE_MAYBE,   /* lower layers may have it */
	TREE_IS_NOT,  /* there is none, whatever lower layers have */
	TREE_CIRCLES, /* too many symbolic links */
};

struct tree_found {
	enum tree_kind kind; /* not SYMLINK, not GONE */
	size_t layer;        /* that it is of */
	uint64_t ref;
	const char *link; /* of HARDLINK; the tree's */
	const struct tree_node *node;
};

/* What @path is, symbolic links in it (and at its end) being followed without ever leaving the
 * root. *ret is filled for TREE_IS. */
enum tree_answer tree_find(const struct tree *t, const char *path, struct tree_found *ret);

/* The names in the directory @dir, which tree_find() found, separated by ", " and cut to @room; how
 * many there are. *ret_first: one of them (the tree's), if there is any. @more: lower layers may
 * add to them. */
size_t tree_list(const struct tree *t, const struct tree_found *dir, char *text, size_t room,
	const char **ret_first, bool *more);

#endif
