/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay: a writable image over a read-only one. What is written goes into a file, or into a
 * temporary one, and the base below is only read. overlay_file.h describes the file.
 *
 * The promises are those of a disk with a write cache:
 *  - What was written before image_flush() is durable when that returns, whatever crashes then.
 *  - What was not flushed may be lost, and each of its sectors (512 bytes) reads as it was at the
 *    last flush or as it was written since, never as anything else.
 *  - A range that was zeroed (discarding is the same here) reads as zeros, and its space in the
 *    file is given back where the file system can do that.
 *  - A full disk is -ENOSPC for the writer; what was written before stays.
 *  - When the file cannot be made durable (-EIO of a sync), nothing more can be written or flushed
 *    until it is opened anew: nobody knows what of the writes since the last good flush is there.
 *
 * A write needs bytes of the base only where it begins or ends within an OVERLAY_UNIT that was not
 * written yet. image_flush() needs nothing of the base and works after image_interrupt(), too.
 */
#ifndef CACHE_OVERLAY_H
#define CACHE_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"

#define OVERLAY_UNIT 4096U

struct overlay_opts {
	const char *path; /* NULL: a temporary one, without a name, gone when it is closed */
	const char *dir;  /* where temporary ones lie */
	const char
		*source; /* written into a new file: where its base comes from, without secrets */
	bool existing;   /* @path is not created: -ENOENT */
};

/*
 * Puts an overlay over @base, which it takes over on success. A file that does not exist is made,
 * at once whole or not at all. Nothing of an existing file is changed by opening it, but that space
 * which a crash left behind in it is given back.
 *
 *   -ESTALE   the file belongs to another base, or another version of it: names both
 *   -EBADMSG  it is damaged: names what is wrong
 *   -ENOTSUP  it is of a later format; or @base has no version that it could be bound to, or a
 *             size that is only assumed
 *   -EBUSY    it is open elsewhere
 *   -EINVAL   it is no overlay at all
 *
 * image_report() says, as layer "overlay": file ("" when temporary), present_bytes (written ones,
 * whole units), zero_bytes (zeroed ones), disk_bytes (of the file system), and since it was opened
 * writes, bytes_written, zeroes, bytes_zeroed, flushes.
 */
int overlay_open(
	const struct overlay_opts *opts, struct image *base, struct image **ret, struct err *e);

struct overlay_info {
	char *id;     /* of the base; owned */
	char *source; /* owned */
	char uuid[37];
	uint64_t size; /* of the disk */
	uint64_t present;
	uint64_t zero;
	uint64_t disk_used;
	int64_t created; /* seconds since the epoch */
	bool in_use;     /* somebody has it open for writing; the numbers may change */
};

/* What the file at @path says of itself; changes nothing. Errors as of overlay_open(). */
int overlay_info_read(const char *path, struct overlay_info *ret, struct err *e);
void overlay_info_clear(struct overlay_info *info);

#endif
