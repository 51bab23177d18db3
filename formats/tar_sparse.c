/* SPDX-License-Identifier: Apache-2.0 */
/* The maps that GNU tar writes before the data of a sparse file. */
#include "formats/tar_sparse.h"

#include <errno.h>
#include <stdbool.h>

#include "core/bytes.h"

#define OLD_PIECE      24U /* offset and length, 12 bytes each */
#define OLD_FIRST_AT   386U
#define OLD_FIRST      4U
#define OLD_MORE_AT    482U /* whether a block of the map follows */
#define OLD_SIZE_AT    483U
#define OLD_NEXT       21U
#define OLD_NEXT_MORE  504U
#define OLD_BLOCKS_MAX (TAR_MAP_MAX / OLD_NEXT)

static int broken(struct err *e)
{
	return err_set(e, -EBADMSG, "the map of a sparse file is not made of numbers");
}

/* The map ends at the first piece without a length field. */
static int old_pieces(const uint8_t *p, size_t count, struct tar_map *map, struct err *e)
{
	for (size_t i = 0; i < count && p[i * OLD_PIECE + 12]; i++) {
		uint64_t offset;
		uint64_t length;
		int r;

		if (!tar_number(p + i * OLD_PIECE, 12, &offset) ||
			!tar_number(p + i * OLD_PIECE + 12, 12, &length)) {
			return broken(e);
		}
		r = tar_map_add(map, offset, length, e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int tar_sparse_old(uint64_t at, tar_block_fn *block, void *ctx, struct tar_map *map,
	uint64_t *ret_data, struct err *e)
{
	const uint8_t *b = NULL;
	uint64_t size;
	bool more;
	int r = block(ctx, at, &b, e);

	if (r < 0) {
		return r;
	}
	if (!tar_number(b + OLD_SIZE_AT, 12, &size)) {
		return broken(e);
	}
	more = b[OLD_MORE_AT] != 0;
	r = old_pieces(b + OLD_FIRST_AT, OLD_FIRST, map, e);
	at += TAR_BLOCK;
	for (unsigned int n = 0; r == 0 && more; n++) {
		if (n == OLD_BLOCKS_MAX) {
			return err_set(e, -EBADMSG, "the map of a sparse file has no end");
		}
		r = block(ctx, at, &b, e);
		if (r == 0) {
			more = b[OLD_NEXT_MORE] != 0;
			r = old_pieces(b, OLD_NEXT, map, e);
			at += TAR_BLOCK;
		}
	}
	if (r < 0) {
		return r;
	}
	map->size = size;
	*ret_data = at;
	return 0;
}

/* Characters of the archive, from `at` up to `end`. */
struct text {
	tar_block_fn *block;
	void *ctx;
	uint64_t at;
	uint64_t end;
	const uint8_t *buf; /* the block that holds `at`, or NULL */
};

/* One line: a decimal number. */
static int text_number(struct text *t, uint64_t *ret, struct err *e)
{
	uint64_t value = 0;
	unsigned int digits = 0;

	for (;; digits++) {
		size_t in_block = t->at % TAR_BLOCK;
		uint8_t c;
		int r;

		if (t->at == t->end) {
			return broken(e);
		}
		if (!t->buf) {
			r = t->block(t->ctx, t->at - in_block, &t->buf, e);
			if (r < 0) {
				return r;
			}
		}
		c = t->buf[in_block];
		t->at++;
		if (t->at % TAR_BLOCK == 0) {
			t->buf = NULL;
		}
		if (c == '\n' && digits > 0) {
			*ret = value;
			return 0;
		}
		if (c < '0' || c > '9' || !checked_mul(value, 10, &value) ||
			!checked_add(value, (uint64_t)(c - '0'), &value)) {
			return broken(e);
		}
	}
}

int tar_sparse_text(uint64_t data, uint64_t len, tar_block_fn *block, void *ctx,
	struct tar_map *map, uint64_t *ret_data, struct err *e)
{
	struct text t = { .block = block, .ctx = ctx, .at = data, .end = data + len };
	uint64_t count = 0;
	int r = text_number(&t, &count, e);

	if (r == 0 && count > TAR_MAP_MAX) {
		return err_set(e, -EBADMSG, "a sparse file has more than %u pieces", TAR_MAP_MAX);
	}
	for (uint64_t i = 0; r == 0 && i < count; i++) {
		uint64_t offset = 0;
		uint64_t length = 0;

		r = text_number(&t, &offset, e);
		if (r == 0) {
			r = text_number(&t, &length, e);
		}
		if (r == 0) {
			r = tar_map_add(map, offset, length, e);
		}
	}
	if (r < 0) {
		return r;
	}
	*ret_data = round_up(t.at, TAR_BLOCK);
	return 0;
}
