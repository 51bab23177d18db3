/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of images, kept in the cache: see struct source_records. Each record is an
 * object of its own there, without bytes, so that it goes in its turn when it is not used any more.
 */
#ifndef TOOLS_IMAGE_RECORDS_H
#define TOOLS_IMAGE_RECORDS_H

#include <stdbool.h>

#include "cache/cache.h"
#include "sources/source.h"

/* Valid as long as @cache. One in memory remembers nothing. */
struct source_records image_records(struct cache *cache);

/* The name of the object of record @key; malloc()ed, NULL without memory. */
char *image_records_key(const char *key);

/* Whether an object is a record. */
bool image_records_is_one(const char *name);

#endif
