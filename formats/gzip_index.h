/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where decoding can begin: the seek points of a gzip file, found while somebody decodes it for the
 * first time, and kept through struct blobs for all later times.
 *
 * A point is the header of a member, or a border between two blocks with the 32 KiB before it (its
 * window). Each holds the CRC of its member's bytes up to there: so whoever decodes from one
 * point to the next knows whether what he got is what the first pass saw, and whoever comes to the
 * end of a member knows whether the member's own CRC is right, wherever he began.
 *
 * Points are only ever added, behind the last. The one at 0 is always there. Windows are compressed
 * and, once they are safe in a record, no longer held in memory. Records are not trusted: they have
 * a checksum, name the file they are of, and a window is checked when it is used.
 *
 * All functions are thread-safe.
 */
#ifndef FORMATS_GZIP_INDEX_H
#define FORMATS_GZIP_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "formats/gzip_decoder.h"
#include "formats/gzip_record.h"

struct gzip_index;

/* Of the compressed file of @file_size bytes that @id names; takes what @blobs (may be NULL; stays
 * the caller's and outlives the index) has of it. -ENOMEM or 0. */
int gzip_index_new(
	uint64_t file_size, const char *id, struct blobs *blobs, struct gzip_index **ret);

/* NULL is nothing. Does not save. */
void gzip_index_free(struct gzip_index *ix);

/* The last point at or before @out; *ret_number counts from 0. */
void gzip_index_find(
	struct gzip_index *ix, uint64_t out, struct gzip_point *ret, size_t *ret_number);

/* The first point behind @out; false: none is known. */
bool gzip_index_after(struct gzip_index *ix, uint64_t out, struct gzip_point *ret);

/* What is decoded from byte @at of the compressed file on needs no byte at or behind *ret until the
 * next point is reached. False: no point or end is known there. */
bool gzip_index_span(struct gzip_index *ix, uint64_t at, uint64_t *ret);

/* The point with that number, which there is. */
void gzip_index_get(struct gzip_index *ix, size_t number, struct gzip_point *ret);

/* The window of the point @number into @buf, GZIP_WINDOW bytes. A negative errno: it is lost. */
int gzip_index_window(struct gzip_index *ix, size_t number, uint8_t *buf, size_t *ret_n);

/* Whether a point of that kind at @out is wanted. */
bool gzip_index_wants(struct gzip_index *ix, uint64_t out, bool header);

/* Adds it if it is still wanted; @window as gzip_point says. Running out of memory drops it. */
void gzip_index_add(struct gzip_index *ix, const struct gzip_point *p, const uint8_t *window);

/* Everything was decoded, and is @out bytes. -EBADMSG: it was another number before. */
int gzip_index_finish(struct gzip_index *ix, uint64_t out, struct err *e);

/* The number of decoded bytes; false: not known yet. */
bool gzip_index_total(struct gzip_index *ix, uint64_t *ret);

/* The member that begins at @from has other bytes at or before @to than its checksum says:
 * reads there fail from now on with @why, and nothing that was learned is kept. Nothing happens
 * when all of the file was found right before. */
void gzip_index_condemn(struct gzip_index *ix, uint64_t from, uint64_t to, const struct err *why);

/* Whether something was condemned, and what. */
bool gzip_index_condemned(struct gzip_index *ix, uint64_t *ret_from, uint64_t *ret_to);

/* -EBADMSG when anything of [off, end) was condemned. */
int gzip_index_check(struct gzip_index *ix, uint64_t off, uint64_t end, struct err *e);

/* Whether so much was learned since the last save that it is time for one. */
bool gzip_index_due(struct gzip_index *ix);

/* Writes what is new. One thread at a time; may wait for the disk. */
void gzip_index_save(struct gzip_index *ix);

struct gzip_index_facts {
	uint64_t points;
	uint64_t reached; /* the last point */
	uint64_t bytes;   /* of points and windows, about */
};
void gzip_index_facts(struct gzip_index *ix, struct gzip_index_facts *ret);

#endif
