/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a file are in an archive. A file that was stored whole is one piece; a sparse
 * one has a piece for each run of data, and what lies between them are zeros.
 */
#ifndef FORMATS_TAR_MAP_H
#define FORMATS_TAR_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* A disk of a terabyte with a hole every megabyte has no more. */
#define TAR_MAP_MAX 1048576U

struct tar_piece {
	uint64_t offset; /* in the file */
	uint64_t length; /* never 0 */
	uint64_t host;   /* in the archive */
};

struct tar_map {
	struct tar_piece *pieces; /* owned; by offset, without overlaps */
	size_t count;
	size_t room;
	uint64_t size; /* of the file */
};

/* Adds a piece behind the others; one without length is forgotten. -EBADMSG: out of order,
 * overlapping or beyond 64 bits, or too many; -ENOMEM. */
int tar_map_add(struct tar_map *map, uint64_t offset, uint64_t length, struct err *e);

/* Says of a map without `host` and size that the pieces are stored one behind the other from @host,
 * @stored bytes in all, and that the file has @size bytes. -EBADMSG when that cannot be. */
int tar_map_place(
	struct tar_map *map, uint64_t host, uint64_t stored, uint64_t size, struct err *e);

/* The index of the first piece that ends behind @off; `count` if there is none. */
size_t tar_map_find(const struct tar_map *map, uint64_t off);

void tar_map_clear(struct tar_map *map);

#endif
