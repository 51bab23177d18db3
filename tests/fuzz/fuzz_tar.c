/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tar archive: walking over it ends, soon, within bounds; what it says of files can
 * be read; walking from an entry's header finds the same entry. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "formats/format.h"
#include "formats/tar_header.h"
#include "formats/tar_member.h"
#include "formats/tar_walk.h"
#include "tests/fuzz/sparse.h"

#define READ 4096U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_error(int r, const struct err *e)
{
	if (r < 0) {
		assert(r == -EBADMSG || r == -ENOTSUP || r == -ENOENT);
		assert(e->code == r && e->text[0]);
	}
}

static void check_file(struct image *archive, struct tar_map *map)
{
	static uint8_t buf[READ];
	struct image *file = NULL;
	struct extent x;

	if (tar_member_open(archive, map, "file", &file, NULL) < 0) {
		abort();
	}
	file->borrows_below = true;
	for (uint64_t off = 0, n = 0; off < file->size && n < 16; n++) {
		size_t part = min_u64(READ, file->size - off);

		assert(image_read_at(file, buf, part, off, NULL) == 0);
		assert(image_extent_at(file, off, &x, NULL) == 0);
		assert(!x.zero || is_zero(buf, min_u64(part, x.length)));
		off += x.length;
	}
	image_close(file);
}

static void check_again(struct image *archive, const struct tar_entry *entry, uint64_t size)
{
	struct tar_walk *w = NULL;
	const struct tar_entry *again = NULL;

	assert(tar_walk_new(archive, entry->header, &w, NULL) == 0);
	assert(tar_walk_next(w, &again, NULL) == 1);
	assert(again->kind == entry->kind && strcmp(again->name, entry->name) == 0);
	assert(again->map.size == size);
	tar_walk_free(w);
}

static void check_walk(struct image *archive)
{
	struct tar_walk *w = NULL;
	const struct tar_entry *entry = NULL;
	struct err e = { 0 };
	unsigned int n = 0;
	int r;

	assert(tar_walk_new(archive, 0, &w, NULL) == 0);
	while ((r = tar_walk_next(w, &entry, &e)) > 0) {
		if (++n < 6) {
			struct tar_map map = tar_walk_take_map(w);

			check_again(archive, entry, map.size);
			check_file(archive, &map);
			tar_map_clear(&map);
		}
	}
	check_error(r, &e);
	tar_walk_free(w);
}

/* The archive with right checksums: without, no change to a header would get any further. */
static struct image *sealed(const uint8_t *data, size_t len)
{
	struct image *raw = sparse_image(data, len);
	size_t size = raw->size;
	uint8_t *buf = malloc(size + 1);

	assert(buf && image_read_at(raw, buf, size, 0, NULL) == 0);
	image_close(raw);
	for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
		uint8_t *block = buf + at;
		unsigned int sum = 8 * ' ';

		if (memcmp(block + 257, "ustar", 5) != 0) {
			continue;
		}
		memset(block + 148, 0, 8);
		for (size_t i = 0; i < TAR_BLOCK; i++) {
			sum += block[i];
		}
		snprintf((char *)block + 148, 8, "%06o", sum);
	}
	raw = sparse_image(buf, size);
	free(buf);
	return raw;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct format_opts opts = { .format = "tar+raw" };
	struct image *archive = sealed(data, len);
	struct image *img = NULL;
	struct err e = { 0 };
	int r;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	check_walk(archive);
	r = view_member_open(archive, "disk/x", &img, &e);
	check_error(r, &e);
	if (r == 0) {
		img->borrows_below = true;
		image_close(img);
	}
	r = format_open(archive, &opts, &img, &e);
	check_error(r, &e);
	image_close(r == 0 ? img : archive);
	return 0;
}
