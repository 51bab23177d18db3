/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a copy has to do when its source had best be read forward, once (IMAGE_FORWARD), and what
 * there is to do stands in tables between the data: tables and units of data in the order in which
 * they lie in the image below. A table that is met is read, and what it speaks for finds its place
 * among the rest. Writers of images put a table before its data; what lies before its table, or is
 * scattered in pieces smaller than COPY_PIECE, is right as well, and takes another pass.
 *
 * Not thread-safe. Memory: 32 bytes a table and a unit that was not met yet.
 */
#ifndef TOOLS_COPY_AGENDA_H
#define TOOLS_COPY_AGENDA_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "tools/copy_plan.h"

/* Of a block of COPY_UNIT, pieces of this size are units of their own when they lie apart below. */
#define COPY_PIECE KIB(64)

struct copy_agenda;

/* Whether @img is such an image. */
bool copy_agenda_suits(const struct image *img);

/* Everything that @img says without a table of that kind being read. @img outlives the agenda. 1:
 * there are too many tables to remember, and no agenda. */
int copy_agenda_new(struct image *img, struct copy_agenda **ret, struct err *e);

/* Where the next thing lies below; false: nothing is left. */
bool copy_agenda_peek(const struct copy_agenda *a, uint64_t *ret_host);

/* Takes the next thing: 1, a unit of data or zeros in *ret, within an aligned block of COPY_UNIT if
 * it is data; 0, a table, which was read. May wait for the source. */
int copy_agenda_next(struct copy_agenda *a, struct copy_unit *ret, struct err *e);

/* NULL is nothing. */
void copy_agenda_free(struct copy_agenda *a);

#endif
