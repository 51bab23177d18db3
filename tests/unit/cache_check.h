/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the cache look at: its counters, and the bytes that come out of it. */
#ifndef TESTS_UNIT_CACHE_CHECK_H
#define TESTS_UNIT_CACHE_CHECK_H

#include <stdbool.h>

#include "core/image.h"

/* The number that the cache in @img reports as @key; there is one. */
uint64_t cache_check_count(struct image *img, const char *key);

/* [off, off + len) of @img can be read, and is what fake_byte() says for @seed. */
void cache_check_read(struct image *img, uint64_t seed, uint64_t off, size_t len);

/* The same for many pieces at random places of the @size bytes, read by several threads at once. */
void cache_check_crowd(struct image *img, uint64_t seed, uint64_t size);

/* Of a thread: reads the last byte of the image @img. Returns NULL when it could. */
void *cache_check_last_byte(void *img);

/* The path of the file @name of the only object in the cache at @dir; the caller frees it. */
char *cache_check_file(const char *dir, const char *name);

/* Whether it is on record that the only object is what it should be. */
bool cache_check_verdict(const char *dir);

#endif
