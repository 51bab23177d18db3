/* SPDX-License-Identifier: Apache-2.0 */
/* A file in an archive as an image: nothing is copied, every read is one of the archive. */
#ifndef FORMATS_TAR_MEMBER_H
#define FORMATS_TAR_MEMBER_H

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/tar_map.h"

/* Over @archive, which it takes over on success, as it does @map (which it leaves empty). @name: of
 * the file, for reports. */
int tar_member_open(struct image *archive, struct tar_map *map, const char *name,
	struct image **ret, struct err *e);

/* For records about the file @member among those about its archive, @below: their names say which
 * file they are about. Valid until @member is closed, and as long as @below. NULL for NULL. */
struct blobs *tar_member_blobs(struct image *member, struct blobs *below);

#endif
