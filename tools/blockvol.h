/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local block volumes: a preallocated file, seen as a loop device, described as a Kubernetes
 * PersistentVolume. What is known of a volume stands in DIR/NAME.json, where DIR is
 * $LAZYDISK_VOLUME_DIR, else /var/lib/lazydisk/volumes; whether it is attached now, the kernel
 * tells. After a reboot volumes are there and detached: blockvol_create() attaches them again, at
 * their old device when that is free.
 */
#ifndef TOOLS_BLOCKVOL_H
#define TOOLS_BLOCKVOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/err.h"

struct blockvol {
	char *name; /* a DNS label */
	char *file; /* absolute */
	char *node; /* the host where it is */
	char *storage_class;
	uint64_t size;   /* bytes; a multiple of 4096 */
	int last_number; /* of the loop device at which it was last; LOOPDEV_NONE */
	int number;      /* at which it is now, or LOOPDEV_NONE */
	bool missing;    /* the file is gone */
};

/* What is asked for; NULL: the default, or what an existing volume has. */
struct blockvol_spec {
	const char *name;
	uint64_t size;
	const char *file;
	const char *node;
	const char *storage_class;
};

void blockvol_clear(struct blockvol *v);

/* Makes and attaches the volume. One that exists already and is what @spec says is attached again
 * if need be; one that is not is refused (-EEXIST). *ret_direct: see loopdev_attach(). After a
 * failure nothing new is left behind. -EINVAL: the spec is to blame. */
int blockvol_create(
	const struct blockvol_spec *spec, struct blockvol *ret, bool *ret_direct, struct err *e);

/* Detaches the volume and deletes its file. -ENOENT: there is none of that name; -EBUSY: somebody
 * uses it, and nothing has changed. */
int blockvol_delete(const char *name, struct err *e);

/* All volumes, by name; *ret is an array, to be freed with blockvol_free_all(). */
int blockvol_list(struct blockvol **ret, size_t *ret_count, struct err *e);
void blockvol_free_all(struct blockvol *volumes, size_t count);

/* Writes the PersistentVolume of an attached volume, as YAML. */
void blockvol_print_manifest(const struct blockvol *v, FILE *out);

#endif
