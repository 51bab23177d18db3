/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A boot trace: which granules of an image readers touched first, in order of time, and how many of
 * the boots that were recorded touched each. Pure: no I/O, no locks.
 *
 * As a record (in the cache, in a file, beside an image) all numbers are little-endian:
 *
 *    0  "LZDTRACE"
 *    8  u32 version of this layout: 1
 *   12  u32 bytes of a granule: 65536
 *   16  u64 size of the image
 *   24  u32 boots
 *   28  u32 number of entries
 *   32  u32 length of the text that follows
 *   36  u32 0
 *   40  the version of the image: text
 *       entries of 12: u32 granule, u32 milliseconds, u32 boots that touched it
 *       u64 XXH3 of all before
 *
 * A record comes from a disk or a server and is not trusted; but bytes fetched for a wrong one are
 * only bytes fetched in vain.
 */
#ifndef CACHE_TRACE_H
#define CACHE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* Of one record. */
#define TRACE_ENTRIES_MAX 65536U /* less than CACHE_TRACE_MAX bytes */
#define TRACE_VERSION_MAX 1024U
/* Counts are halved when so many boots were seen, so that a change of habits shows. */
#define TRACE_BOOTS_MAX 16U

struct trace_entry {
	uint32_t granule;
	uint32_t ms;    /* since the first touch of the boot; long pauses are shortened */
	uint32_t boots; /* that touched it: 1 to the trace's boots */
};

struct trace {
	char *version; /* of the image; owned */
	uint64_t size; /* of the image, bytes */
	uint32_t boots;
	size_t count;
	struct trace_entry *entries; /* by time; owned */
};

/* The part of an image's id that says which version it is: without the URL in front, so that a
 * trace is good for every way to the same bytes. Points into @id. */
const char *trace_version(const char *id);

/* -EINVAL: something else; -EBADMSG: damaged; -ENOTSUP: of a later layout; -ENOMEM. */
int trace_parse(const void *data, size_t len, struct trace *ret, struct err *e);
/* *ret is malloc()ed. -ENOMEM. */
int trace_format(const struct trace *t, void **ret, size_t *ret_len, struct err *e);
/* Of a zeroed struct: nothing. */
void trace_clear(struct trace *t);

/* Whether @t is of the image @id of @size bytes. */
bool trace_fits(const struct trace *t, const char *id, uint64_t size);

/* Whether most boots touched @x, which is of @t: only then is it fetched ahead. */
bool trace_is_usual(const struct trace *t, const struct trace_entry *x);

/* @old with one boot more, which touched @seen (by time, no granule twice). A boot that touched
 * less than a quarter of what is usual was none (somebody looked at the partition table) and
 * changes nothing. @old may be of no boots; its version and size are taken over. -ENOMEM. */
int trace_merge(
	const struct trace *old, const struct trace_entry *seen, size_t count, struct trace *ret);

/* A run of granules to be fetched at once. */
struct trace_run {
	uint32_t first;
	uint32_t count;
};

/* Of the usual entries from *@next on, takes those whose time lies within @ms of the first, as long
 * as they are not more than @room, and merges neighbours (with holes of at most @gap granules
 * between them) to runs, by place. Moves *@next behind what was taken; returns the number of runs;
 * 0 at the end. */
size_t trace_window(const struct trace *t, size_t *next, uint32_t ms, uint32_t gap,
	struct trace_run *ret, size_t room);

#endif
