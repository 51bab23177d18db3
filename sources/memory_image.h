/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in memory as an image: blobs that stand in a manifest. */
#ifndef SOURCES_MEMORY_IMAGE_H
#define SOURCES_MEMORY_IMAGE_H

#include <stddef.h>

#include "core/err.h"
#include "core/image.h"

/* @data (malloc()ed) is taken over on success. */
int memory_image_open(void *data, size_t len, const char *id, struct image **ret, struct err *e);

#endif
