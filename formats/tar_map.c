/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array of pieces. */
#include "formats/tar_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/bytes.h"

int tar_map_add(struct tar_map *map, uint64_t offset, uint64_t length, struct err *e)
{
	uint64_t before = 0;
	uint64_t end;

	if (map->count > 0) {
		before = map->pieces[map->count - 1].offset + map->pieces[map->count - 1].length;
	}
	if (offset < before || !checked_add(offset, length, &end)) {
		return err_set(e, -EBADMSG,
			"the map of a sparse file is broken: %" PRIu64 "+%" PRIu64
			" comes after a piece that ends at %" PRIu64,
			offset, length, before);
	}
	if (length == 0) {
		return 0;
	}
	if (map->count == TAR_MAP_MAX) {
		return err_set(e, -EBADMSG, "a sparse file has more than %u pieces", TAR_MAP_MAX);
	}
	if (map->count == map->room) {
		size_t room = map->room ? 2 * map->room : 4;
		struct tar_piece *more = realloc(map->pieces, room * sizeof(*more));

		if (!more) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		map->pieces = more;
		map->room = room;
	}
	map->pieces[map->count++] = (struct tar_piece){ .offset = offset, .length = length };
	return 0;
}

int tar_map_place(struct tar_map *map, uint64_t host, uint64_t stored, uint64_t size, struct err *e)
{
	uint64_t left = stored;

	if (size > INT64_MAX) {
		return err_set(e, -EBADMSG, "a file of %" PRIu64 " bytes cannot be", size);
	}
	for (size_t i = 0; i < map->count; i++) {
		struct tar_piece *p = &map->pieces[i];

		if (!range_within(p->offset, p->length, size) || p->length > left) {
			return err_set(e, -EBADMSG,
				"the map of a sparse file of %" PRIu64 " bytes, %" PRIu64
				" of them stored, is broken at %" PRIu64 "+%" PRIu64,
				size, stored, p->offset, p->length);
		}
		p->host = host + (stored - left);
		left -= p->length;
	}
	if (left > 0) {
		return err_set(e, -EBADMSG,
			"the map of a sparse file has no place for %" PRIu64
			" of the bytes that are stored",
			left);
	}
	map->size = size;
	return 0;
}

size_t tar_map_find(const struct tar_map *map, uint64_t off)
{
	size_t low = 0;
	size_t high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->pieces[middle].offset + map->pieces[middle].length > off) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low;
}

void tar_map_clear(struct tar_map *map)
{
	free(map->pieces);
	*map = (struct tar_map){ 0 };
}
