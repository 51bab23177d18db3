/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where frames begin: from the table that the file brings along ("Zstandard Seekable Format"
 * 0.1.0, contrib/seekable_format/zst_seekable_compression_format.md), from a walk through a file
 * that is quick to read, or from what was learned when it was decoded before.
 */
#ifndef FORMATS_ZST_SEEK_H
#define FORMATS_ZST_SEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/decoded.h"

#define ZST_SEEK_FRAMES_MAX (1U << 22)

struct zst_entry {
	uint32_t in; /* bytes of the frame */
	uint32_t out;
	uint32_t sum; /* the lower half of XXH64 of the decoded bytes */
};

struct zst_seek {
	struct zst_entry *entries; /* malloc()ed */
	size_t count;
	bool sums;    /* entries have checksums */
	uint64_t end; /* where the last frame ends and the table begins */
};

/* Reads the table at the end of @img. 0 without entries: there is none. -EBADMSG: it is not right;
 * -ENOTSUP: more than ZST_SEEK_FRAMES_MAX entries. Entries are frames of 8 bytes or more that fill
 * the file up to the table. */
int zst_seek_read(struct image *img, struct zst_seek *ret, struct err *e);

/* Finds the frames of @d->img.below by their headers and those of their blocks, one small read
 * each, and adds them to @d, which is then finished. *ret_done false: not all frames say how long
 * their content is, or there are too many blocks; @d is as before. */
int zst_seek_walk(struct decoded *d, bool *ret_done, struct err *e);

/* Places where frames begin, @count of them, and the end: in the order of the file. They are put
 * away for zst_seek_load(). Failures are nothing: the next mount learns it anew. */
void zst_seek_save(struct blobs *blobs, uint64_t packed, const struct unit *marks, size_t count);

/* As zst_seek_walk(), from what was put away for the same file; whatever is wrong with that means
 * that it is not done. */
int zst_seek_load(struct decoded *d, struct blobs *blobs, bool *ret_done, struct err *e);

#endif
