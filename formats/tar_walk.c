/* SPDX-License-Identifier: Apache-2.0 */
/* From header to header, by jumps. */
#include "formats/tar_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/tar_header.h"
#include "formats/tar_pax.h"
#include "formats/tar_sparse.h"

/* One reading of so much holds the headers of a directory and of the file in it. */
#define WINDOW 8192U
/* Headers about one entry. */
#define EXTENSIONS_MAX 32U

struct tar_walk {
	struct image *img;
	uint64_t at; /* of the next header */
	unsigned int headers;
	unsigned int reads;
	uint8_t window[WINDOW];
	uint64_t window_at;
	size_t window_len;
	struct tar_entry entry;

	/* of the entry that is being read */
	struct tar_header header;
	char *long_name; /* of a GNU extension header, or NULL */
	char *long_link;
	struct tar_pax pax;
};

int tar_walk_new(struct image *img, uint64_t at, struct tar_walk **ret, struct err *e)
{
	struct tar_walk *w = calloc(1, sizeof(*w));

	if (!w) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->img = img;
	w->at = at;
	*ret = w;
	return 0;
}

/* Forgets what was said about the last entry. */
static void reset(struct tar_walk *w)
{
	free(w->long_name);
	free(w->long_link);
	w->long_name = NULL;
	w->long_link = NULL;
	tar_pax_clear(&w->pax);
	tar_map_clear(&w->entry.map);
}

void tar_walk_free(struct tar_walk *w)
{
	if (w) {
		reset(w);
		free(w);
	}
}

void tar_walk_freep(struct tar_walk **w)
{
	tar_walk_free(*w);
}

uint64_t tar_walk_at(const struct tar_walk *w)
{
	return w->at;
}

unsigned int tar_walk_reads(const struct tar_walk *w)
{
	return w->reads;
}

struct tar_map tar_walk_take_map(struct tar_walk *w)
{
	struct tar_map map = w->entry.map;

	w->entry.map = (struct tar_map){ 0 };
	return map;
}

/* The size as far as it is known: that of a provisional image may lie behind the real end. */
static uint64_t known_size(struct tar_walk *w)
{
	uint64_t size = w->img->size;

	image_final_size(w->img, &size);
	return min_u64(size, w->img->size);
}

/* Reads as much of [off, off + WINDOW) as there is, at least the first block. */
static int fill(struct tar_walk *w, uint64_t off, struct err *e)
{
	uint64_t size = known_size(w);
	size_t len = min_u64(WINDOW, size - off);
	int r = image_read_at(w->img, w->window, len, off, e);

	w->reads++;
	if (r < 0 && (w->img->flags & IMAGE_SIZE_PROVISIONAL)) {
		/* The real end may have come to light by that. */
		size = known_size(w);
		len = size > off ? min_u64(len, size - off) : 0;
		len = len < TAR_BLOCK ? len : TAR_BLOCK;
		r = image_read_at(w->img, w->window, len, off, e);
	}
	w->window_len = 0;
	if (r < 0) {
		return r;
	}
	w->window_at = off;
	w->window_len = len;
	return 0;
}

/* 1: *ret is the block at @off. 0: the archive ends at @off. */
static int block_or_end(struct tar_walk *w, uint64_t off, const uint8_t **ret, struct err *e)
{
	int r;

	if (off < w->window_at || !range_within(off - w->window_at, TAR_BLOCK, w->window_len)) {
		if (off >= known_size(w)) {
			return 0;
		}
		r = fill(w, off, e);
		if (r < 0) {
			return r;
		}
		if (w->window_len == 0) {
			return 0;
		}
	}
	if (!range_within(off - w->window_at, TAR_BLOCK, w->window_len)) {
		return err_set(e, -EBADMSG, "the tar archive ends within a block, at %" PRIu64,
			known_size(w));
	}
	*ret = w->window + (off - w->window_at);
	return 1;
}

static int block_at(void *ctx, uint64_t off, const uint8_t **ret, struct err *e)
{
	int r = block_or_end(ctx, off, ret, e);

	if (r == 0) {
		return err_set(e, -EBADMSG, "the tar archive ends too early, at %" PRIu64, off);
	}
	return r < 0 ? r : 0;
}

/* An archive ends with two blocks of zeros, or just ends; a single such block is passed over, as
 * most readers do. 1: w->header is the header at w->at. */
static int next_header(struct tar_walk *w, struct err *e)
{
	const uint8_t *b = NULL;
	int r = block_or_end(w, w->at, &b, e);

	if (r == 1 && is_zero(b, TAR_BLOCK)) {
		r = block_or_end(w, w->at + TAR_BLOCK, &b, e);
		if (r == 1 && is_zero(b, TAR_BLOCK)) {
			return 0;
		}
		w->at += TAR_BLOCK;
	}
	if (r <= 0) {
		return r;
	}
	if (++w->headers > TAR_HEADERS_MAX) {
		return err_set(
			e, -EBADMSG, "the tar archive has more than %u headers", TAR_HEADERS_MAX);
	}
	r = tar_header_parse(b, &w->header, e);
	return r < 0 ? err_wrap(e, r, "at %" PRIu64, w->at) : 1;
}

/* Moves behind @size bytes at @data, which must be there. */
static int jump(struct tar_walk *w, uint64_t data, uint64_t size, struct err *e)
{
	if (!range_within(data, size, known_size(w)) || size > INT64_MAX || data > INT64_MAX) {
		return err_set(e, -EBADMSG,
			"the tar archive ends at %" PRIu64 ", within the entry at %" PRIu64
			" (%.100s) of %" PRIu64 " bytes",
			known_size(w), w->at, w->header.name, size);
	}
	w->at = data + round_up(size, TAR_BLOCK);
	return 0;
}

/* The data of an extension header, NUL-terminated. */
static int read_extension(struct tar_walk *w, size_t most, char **ret, struct err *e)
{
	uint64_t data = w->at + TAR_BLOCK;
	uint64_t size = w->header.size;
	CLEANUP_FREE char *buf = NULL;
	int r;

	if (size > most) {
		return err_set(e, -EBADMSG,
			"the tar archive has an extension header of %" PRIu64 " bytes, at %" PRIu64,
			size, w->at);
	}
	r = jump(w, data, size, e);
	if (r < 0) {
		return r;
	}
	buf = calloc(1, size + 1);
	if (!buf) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (data >= w->window_at && range_within(data - w->window_at, size, w->window_len)) {
		memcpy(buf, w->window + (data - w->window_at), size);
	} else {
		r = image_read_at(w->img, buf, size, data, e);
	}
	if (r == 0) {
		*ret = TAKE_PTR(buf);
	}
	return r;
}

static int read_name(struct tar_walk *w, char **name, struct err *e)
{
	char *text = NULL;
	int r = read_extension(w, TAR_NAME_MAX, &text, e);

	if (r == 0) {
		free(*name);
		*name = text;
	}
	return r;
}

static int read_pax(struct tar_walk *w, struct err *e)
{
	uint64_t len = w->header.size;
	bool global = w->header.type == TAR_TYPE_PAX_GLOBAL;
	CLEANUP_FREE char *buf = NULL;
	int r = read_extension(w, TAR_PAX_MAX, &buf, e);

	if (r < 0) {
		return r;
	}
	return global ? tar_pax_check_global(buf, len, e) : tar_pax_parse(buf, len, &w->pax, e);
}

/* 1: it was an extension header, which is read. 0: it is an entry's own. */
static int read_if_extension(struct tar_walk *w, struct err *e)
{
	int r;

	switch (w->header.type) {
	case TAR_TYPE_PAX:
	case TAR_TYPE_PAX_GLOBAL:
		r = read_pax(w, e);
		break;
	case TAR_TYPE_GNU_NAME:
		r = read_name(w, &w->long_name, e);
		break;
	case TAR_TYPE_GNU_LINK:
		r = read_name(w, &w->long_link, e);
		break;
	default:
		return 0;
	}
	return r < 0 ? r : 1;
}

static enum tar_kind kind_of(const struct tar_header *h, const char *name)
{
	size_t n = strlen(name);

	switch (h->type) {
	case TAR_TYPE_FILE:
	case TAR_TYPE_FILE_V7:
	case TAR_TYPE_CONTIGUOUS:
	case TAR_TYPE_GNU_SPARSE:
		return n > 0 && name[n - 1] == '/' ? TAR_DIR : TAR_FILE;
	case TAR_TYPE_DIR:
		return TAR_DIR;
	case TAR_TYPE_SYMLINK:
		return TAR_SYMLINK;
	case TAR_TYPE_HARDLINK:
		return TAR_HARDLINK;
	default:
		return TAR_OTHER;
	}
}

/* What the archive stores of the entry; links, devices and directories have no data, whatever their
 * size says. */
static uint64_t stored_size(const struct tar_walk *w, enum tar_kind kind)
{
	char t = w->header.type;

	if (kind == TAR_DIR || (t >= TAR_TYPE_HARDLINK && t <= TAR_TYPE_FIFO)) {
		return 0;
	}
	return w->pax.has_size ? w->pax.size : w->header.size;
}

/* Where the pieces of the file are; @data: where what is stored of it begins. */
static int place(struct tar_walk *w, uint64_t data, uint64_t stored, struct err *e)
{
	struct tar_map *map = &w->entry.map;
	uint64_t first = data;
	int r;

	if (w->header.type == TAR_TYPE_GNU_SPARSE) {
		return tar_map_place(map, data, stored, map->size, e);
	}
	if (w->pax.major > 1 || (w->pax.major == 1 && w->pax.minor > 0)) {
		return err_set(e, -ENOTSUP,
			"sparse files of version %" PRIu64 ".%" PRIu64
			" in a tar archive are not supported",
			w->pax.major, w->pax.minor);
	}
	if (w->pax.major == 1) {
		r = tar_sparse_text(data, stored, block_at, w, map, &first, e);
		if (r == 0 && first - data > stored) {
			r = err_set(e, -EBADMSG, "the map of a sparse file ends too early");
		}
		return r < 0 ? r
			     : tar_map_place(
				       map, first, stored - (first - data), w->pax.real_size, e);
	}
	if (w->pax.has_map || (w->pax.has_real_size && stored == 0)) {
		*map = w->pax.map;
		w->pax.map = (struct tar_map){ 0 };
		return tar_map_place(map, data, stored, w->pax.real_size, e);
	}
	r = tar_map_add(map, 0, stored, e);
	return r < 0 ? r : tar_map_place(map, data, stored, stored, e);
}

static const char *first_of(const char *a, const char *b, const char *c)
{
	return a ? a : b ? b : c;
}

/* The entry whose own header is at w->at, all extensions being known. */
static int finish(struct tar_walk *w, struct err *e)
{
	struct tar_entry *entry = &w->entry;
	const char *name = first_of(w->pax.path, w->long_name, w->header.name);
	uint64_t data = w->at + TAR_BLOCK;
	uint64_t stored;
	int r = 0;

	entry->name = w->pax.sparse_name ? w->pax.sparse_name : name;
	entry->kind = kind_of(&w->header, entry->name);
	entry->link = "";
	if (entry->kind == TAR_SYMLINK || entry->kind == TAR_HARDLINK) {
		entry->link = first_of(w->pax.link, w->long_link, w->header.link);
	}
	stored = stored_size(w, entry->kind);
	if (w->header.type == TAR_TYPE_GNU_SPARSE) {
		r = tar_sparse_old(w->at, block_at, w, &entry->map, &data, e);
	}
	if (r == 0) {
		r = jump(w, data, stored, e);
	}
	if (r == 0 && entry->kind == TAR_FILE) {
		r = place(w, data, stored, e);
	}
	return r < 0 ? err_wrap(e, r, "entry '%.200s' at %" PRIu64, entry->name, entry->header) : 1;
}

int tar_walk_next(struct tar_walk *w, const struct tar_entry **ret, struct err *e)
{
	unsigned int extensions = 0;
	int r;

	reset(w);
	for (;;) {
		r = next_header(w, e);
		if (r == 0 && extensions > 0) {
			return err_set(e, -EBADMSG,
				"the tar archive ends between the headers of an entry");
		}
		if (r <= 0) {
			return r;
		}
		if (extensions == 0) {
			w->entry.header = w->at;
		}
		r = read_if_extension(w, e);
		if (r <= 0) {
			break;
		}
		if (++extensions > EXTENSIONS_MAX) {
			return err_set(e, -EBADMSG,
				"the tar archive has more than %u extension headers in a row, at "
				"%" PRIu64,
				EXTENSIONS_MAX, w->entry.header);
		}
	}
	if (r == 0) {
		r = finish(w, e);
	}
	if (r == 1) {
		*ret = &w->entry;
	}
	return r;
}
