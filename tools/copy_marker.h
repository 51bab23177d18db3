/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume that was filled says so: DIR/NAMESPACE/NAME/.lazydisk.json beside (or, of a block
 * volume, instead of) its disk.img names the source and the PersistentVolume. It is written when
 * the volume is complete and durable.
 */
#ifndef TOOLS_COPY_MARKER_H
#define TOOLS_COPY_MARKER_H

#include <stdint.h>

#include "core/err.h"

struct copy_marker {
	char *source;  /* as shown to users: without credentials */
	char *pv;      /* the PersistentVolume that holds it; "" for a file */
	uint64_t size; /* that was asked for; 0: whatever the source has */
};

/* Of the volume whose directory is @dir. -ENOENT: it is not complete. @ret is to be cleared on
 * success only. */
int copy_marker_load(const char *dir, struct copy_marker *ret, struct err *e);

/* Replaces it at once or not at all. */
int copy_marker_save(const char *dir, const struct copy_marker *marker, struct err *e);

/* Before the volume is filled anew. No marker is fine. */
int copy_marker_remove(const char *dir, struct err *e);

void copy_marker_clear(struct copy_marker *marker);

#endif
