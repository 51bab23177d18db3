/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a copy has to do, in which order: an image's extents become units of work. Zeros come first;
 * data follows in the order in which it lies in the image
 * below, so that the network sees large sequential ranges. Pure arithmetic but for the calls of
 * image_extent_at(). The same image gives the same plan, which is what a resumed copy relies on.
 */
#ifndef TOOLS_COPY_PLAN_H
#define TOOLS_COPY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"

/* Data units begin and end at multiples of it, but for the image's end. */
#define COPY_UNIT MIB(1)

struct copy_unit {
	uint64_t off;   /* of the image, bytes */
	uint64_t len;   /* at most COPY_UNIT when there is data in it */
	uint64_t host;  /* where its first data lies in the image below: its place in the order */
	uint32_t fetch; /* bytes of the image below that it needs, about; 0: zeros */
	bool zero;
	bool beside; /* some of it is in another image (a backing file), in no order with this one;
			said by an agenda */
};

struct copy_plan {
	struct copy_unit *units;
	size_t count;
	size_t zeros; /* so many of the units are zero and come first; all, but where an agenda
			 makes the plan: there others come between the data */
	size_t room;
	uint64_t data_bytes; /* of units that are not zero */
	uint64_t zero_bytes;
};

/* Walks the extents of @img. Memory: 32 bytes a unit, so 32 MiB for a full TiB. */
int copy_plan_make(struct image *img, struct copy_plan *ret, struct err *e);

/* The same for an image of @size bytes that is read in order: data in blocks of COPY_UNIT, one
 * after the other. */
int copy_plan_make_blocks(uint64_t size, struct copy_plan *ret, struct err *e);

/* Adds the zeros behind the image, up to the end of the target. */
int copy_plan_add_tail(struct copy_plan *plan, uint64_t from, uint64_t to, struct err *e);

/* A unit more, behind those that there are; it counts as one of the data, see `zeros`. */
int copy_plan_append(struct copy_plan *plan, const struct copy_unit *unit, struct err *e);

void copy_plan_clear(struct copy_plan *plan);

#endif
