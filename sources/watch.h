/* SPDX-License-Identifier: Apache-2.0 */
/* What guard.c needs of the images that source_watch_open() makes. */
#ifndef SOURCES_WATCH_H
#define SOURCES_WATCH_H

#include "core/err.h"
#include "core/image.h"

/* The one in the chain below @top; NULL: there is none. */
struct image *watch_find(struct image *top);

/* -ENOKEY: what is below @watch is known to be something else. */
int watch_check(struct image *watch, struct err *e);

#endif
