/* SPDX-License-Identifier: Apache-2.0 */
/* The object behind disk.h, for disk.c (its granules) and disk_open.c (its files). */
#ifndef CACHE_DISK_OBJECT_H
#define CACHE_DISK_OBJECT_H

#include "cache/disk.h"
#include "cache/map.h"

struct disk {
	struct object object;
	struct map map;
	int data;
	struct store_object where;
	struct kept kept;
	struct disk_env env;
	struct object *spill; /* in memory: what the disk did not take of late */
	_Atomic bool spilled;
	struct bits verified; /* seen right (or written) by this process */
	struct bits bad;      /* seen wrong, and the map cannot be changed */
};

extern const struct object_ops disk_ops;

/* Frees what was opened so far; durably if @sync. */
void disk_free(struct disk *d, bool sync);

#endif
