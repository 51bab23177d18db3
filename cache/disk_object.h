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
	int guard;       /* keeps evictors out while the file is lent, else -1 */
	uint64_t proven; /* 1 + the epoch at which `data` was found fit for lending; 0: never */
	struct bits verified; /* seen right (or written) by this process */
	struct bits bad;      /* seen wrong, and the map cannot be changed */
};

extern const struct object_ops disk_ops;

/* Those of disk_ops that lend the file. One call at a time. */
int disk_lend(struct object *o, bool may_wait, int *ret_fd);
void disk_unlend(struct object *o, bool closed);

/* Frees what was opened so far; durably if @sync. */
void disk_free(struct disk *d, bool sync);

#endif
