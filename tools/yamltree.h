/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML (and JSON, which YAML includes) as trees that remember their lines. One file may hold
 * several documents. What is read is bounded in size, depth and aliases, so that no input makes it
 * slow or large; a key that stands twice in one mapping is an error.
 *
 * Aliases are shared, not copied: a tree is never larger than its file, and has no cycles, but a
 * node may be met in several places. Merge keys (<<) are refused.
 */
#ifndef TOOLS_YAMLTREE_H
#define TOOLS_YAMLTREE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

#define YAMLTREE_SIZE_MAX (4U << 20) /* of a file, in bytes */

enum yamltree_kind {
	YAMLTREE_SCALAR,
	YAMLTREE_LIST,
	YAMLTREE_MAP,
};

struct yamltree_node {
	enum yamltree_kind kind;
	unsigned int line;            /* where it begins; the first is 1 */
	bool plain;                   /* a scalar without quotes: may mean null, a bool, a number */
	char *text;                   /* of a scalar: UTF-8 without NUL; else NULL */
	size_t count;                 /* of a list's items, or a map's pairs */
	struct yamltree_node **items; /* of a map: key, value, key, value, ...; keys are scalars */
};

struct yamltree {
	struct yamltree_node **documents; /* empty ones are left out */
	size_t count;

	struct yamltree_node **nodes; /* all of them, each once: who owns them */
	size_t node_count;
};

/* -EINVAL, "PATH:LINE: ..." in @e, when @text is not YAML or exceeds a bound. The text of values is
 * never part of the message: it may be secret. @ret is changed on success only. */
int yamltree_parse(
	const char *path, const char *text, size_t len, struct yamltree *ret, struct err *e);

/* Wipes and frees. */
void yamltree_clear(struct yamltree *tree);

/* What stands under @key; NULL when @map (which may be NULL) is no map, has no such key, or has
 * null there. */
const struct yamltree_node *yamltree_get(const struct yamltree_node *map, const char *key);

/* Whether it is NULL, or written as null, ~ or nothing. */
bool yamltree_is_null(const struct yamltree_node *node);

/* The text of a scalar that is not null; else NULL. */
const char *yamltree_text(const struct yamltree_node *node);

#endif
