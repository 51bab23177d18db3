/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The windows of a seek index, numbered from 0: compressed, in memory until the page that they
 * belong to is full and written, and from then on read from there.
 *
 * All functions are thread-safe, but for saving, which is for one thread at a time.
 */
#ifndef FORMATS_GZIP_WINDOWS_H
#define FORMATS_GZIP_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "formats/gzip_decoder.h"
#include "formats/gzip_record.h"

struct gzip_windows;

/* Pages are records called NAME.NUMBER in @blobs, which may be NULL. All that @of and @name point
 * to outlives the windows. -ENOMEM or 0. */
int gzip_windows_new(const struct gzip_record_of *of, struct blobs *blobs, const char *name,
	struct gzip_windows **ret);

/* NULL is nothing. */
void gzip_windows_free(struct gzip_windows *ws);

/* There are @count, all in pages. Returns how many of them can be used: a last page that is not
 * full is needed whole, because it goes on growing. To be called before anything is added. */
size_t gzip_windows_adopt(struct gzip_windows *ws, size_t count);

/* Adds the next one, of @n bytes, at most GZIP_WINDOW. False: out of memory, it was not added. */
bool gzip_windows_add(struct gzip_windows *ws, const uint8_t *window, size_t n);

/* The window @number into @buf, which has room for GZIP_WINDOW. A negative errno: it is lost. */
int gzip_windows_get(struct gzip_windows *ws, size_t number, uint8_t *buf, size_t *ret_n);

/* Writes the pages that changed. */
int gzip_windows_save(struct gzip_windows *ws);

/* Compressed bytes, in memory and altogether. */
void gzip_windows_bytes(struct gzip_windows *ws, uint64_t *ret_held, uint64_t *ret_all);

#endif
