/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a layer of a container image, for view.c. */
#ifndef FORMATS_LAYER_H
#define FORMATS_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"
#include "formats/tree.h"

/* When what is looked for was found, so much more of a compressed archive is decoded to see whether
 * there is something else that matters, and so many more readings are done of a plain one. Whether
 * bytes happen to be here already plays no part: what is found in a layer shall not depend on that.
 */
#define LAYER_LOOK_ON       MIB(16)
#define LAYER_LOOK_ON_READS 64U

/* A layer of the archive @image, which stays the caller's until layer_file_open() succeeds. */
int layer_of_archive(struct image *image, struct layer **ret, struct err *e);

struct layer_walk;

/* Borrows @l. */
int layer_walk_new(struct layer *l, struct layer_walk **ret, struct err *e);

/* 1: *ret is the next entry, valid until the next call; 0: there is none. */
int layer_walk_next(struct layer_walk *w, struct tree_entry *ret, struct err *e);

/* What was looked for is found: with the last entry, or in a layer above this one. From now on,
 * layer_walk_next() says 0 also where the next entry is too far away. */
void layer_walk_satisfied(struct layer_walk *w);

/* NULL is nothing. */
void layer_walk_free(struct layer_walk *w);
void layer_walk_freep(struct layer_walk **w);

/* The file that an entry with @ref is; takes @l over on success. @name: to show. */
int layer_file_open(
	struct layer *l, uint64_t ref, const char *name, struct image **ret, struct err *e);

/* Whether the bytes of @img come out of a decoder that reads in order, at least in parts. */
bool layer_is_decoded(struct image *img);

#endif
