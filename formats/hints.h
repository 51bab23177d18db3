/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers places of an image that will be read into few hints: those that lie close together become
 * one image_prefetch(). */
#ifndef FORMATS_HINTS_H
#define FORMATS_HINTS_H

#include <stdint.h>

#include "core/image.h"

/* Begins as { .img = borrowed }. */
struct hints {
	struct image *img;
	uint64_t start;
	uint64_t end;
};

/* [start, start + len) continues what was added before, or that goes to the image first. */
void hints_add(struct hints *h, uint64_t start, uint64_t len);

/* The rest goes to the image. */
void hints_flush(struct hints *h);

#endif
