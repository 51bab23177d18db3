/* SPDX-License-Identifier: Apache-2.0 */
/* A heap of tables and units, the first in the image below at its top. */
#include "tools/copy_agenda.h"

#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"

#define PIECES (COPY_UNIT / COPY_PIECE)
/* Pieces in a row are one unit when each lies so little behind the one before. */
#define NEAR MIB(1)
/* Of clusters of 64 KiB, 512 TiB. Images of more hold nothing but the same zeros again and again.
 */
#define TABLES_MAX (1U << 20)

enum kind {
	TABLE,
	ZEROS,
	DATA,
};

struct item {
	uint64_t host;
	uint64_t off;
	uint64_t len;
	enum kind kind;
	bool beside; /* as in struct copy_unit */
};

struct copy_agenda {
	struct image *img;
	struct item *heap; /* heap[i] is not behind heap[2 * i + 1] and heap[2 * i + 2] */
	size_t count;
	size_t room;
};

/* A block of COPY_UNIT, or what the image has of it. */
struct block {
	uint64_t off;
	uint64_t len;
	uint64_t hosts[PIECES]; /* of the first data in each piece; EXTENT_NO_HOST: zeros */
	bool data;
	bool beside;
};

/* --- the heap --- */

static bool before(const struct item *a, const struct item *b)
{
	if (a->host != b->host) {
		return a->host < b->host;
	}
	return a->kind != b->kind ? a->kind < b->kind : a->off < b->off;
}

static void swap(struct item *a, struct item *b)
{
	struct item old = *a;

	*a = *b;
	*b = old;
}

static int push(struct copy_agenda *a, const struct item *item, struct err *e)
{
	size_t i = a->count;

	if (a->count == a->room) {
		size_t room = a->room ? 2 * a->room : 64;
		struct item *heap = reallocarray(a->heap, room, sizeof(*heap));

		if (!heap) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		a->heap = heap;
		a->room = room;
	}
	a->heap[a->count++] = *item;
	while (i > 0 && before(&a->heap[i], &a->heap[(i - 1) / 2])) {
		swap(&a->heap[i], &a->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	return 0;
}

static struct item pop(struct copy_agenda *a)
{
	struct item top = a->heap[0];
	size_t i = 0;

	a->heap[0] = a->heap[--a->count];
	for (;;) {
		size_t least = i;

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < a->count; child++) {
			least = before(&a->heap[child], &a->heap[least]) ? child : least;
		}
		if (least == i) {
			return top;
		}
		swap(&a->heap[i], &a->heap[least]);
		i = least;
	}
}

/* --- from extents to units --- */

/* Notes where the pieces of @b lie that begin in [off, end), which is data of one kind. */
static void place_pieces(struct block *b, uint64_t off, uint64_t end, const struct extent *x)
{
	while (off < end) {
		uint64_t *host = &b->hosts[(off - b->off) / COPY_PIECE];

		if (*host == EXTENT_NO_HOST) {
			*host = x->host + (x->compressed ? 0 : off - x->offset);
		}
		off = round_down(off, COPY_PIECE) + COPY_PIECE;
	}
	b->data = true;
}

/* What another image holds (a backing file) can be read any time: now, at @place. */
static void settle_host(struct extent *x, uint64_t place)
{
	if (x->depth > 0 || x->host == EXTENT_NO_HOST) {
		x->host = place;
		x->compressed = true; /* all of it there */
	}
}

/* Fills in @b, which is at @b->off, from extents; @x is the last one that was looked at. Where
 * compressed data lie is only said of the first of them. */
static int look_at(
	struct copy_agenda *a, struct block *b, uint64_t place, struct extent *x, struct err *e)
{
	uint64_t end = b->off + b->len;
	uint64_t off = b->off;

	b->data = b->beside = false;
	for (size_t i = 0; i < PIECES; i++) {
		b->hosts[i] = EXTENT_NO_HOST;
	}
	while (off < end) {
		uint64_t stop = end;

		if (off >= x->offset + x->length || (!x->zero && x->compressed)) {
			int r = image_extent_at(a->img, off, x, e);

			if (r < 0) {
				return r;
			}
		}
		if (!x->zero) {
			b->beside = b->beside || x->depth > 0;
			settle_host(x, place);
			stop = x->compressed
				       ? min_u64(end, round_down(off, COPY_PIECE) + COPY_PIECE)
				       : end;
		}
		stop = min_u64(stop, x->offset + x->length);
		if (!x->zero) {
			place_pieces(b, off, stop, x);
		}
		off = stop;
	}
	return 0;
}

/* The pieces of @b in as few units as there are places where they lie. Zeros go with the data
 * beside them. */
static int push_block(struct copy_agenda *a, const struct block *b, struct err *e)
{
	struct item unit = {
		.off = b->off, .host = EXTENT_NO_HOST, .kind = DATA, .beside = b->beside
	};
	uint64_t last = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i * COPY_PIECE < b->len; i++) {
		uint64_t host = b->hosts[i];

		if (host == EXTENT_NO_HOST) {
			continue;
		}
		if (unit.host == EXTENT_NO_HOST) {
			unit.host = host;
		} else if (host < unit.host || host > last + NEAR) {
			unit.len = b->off + i * COPY_PIECE - unit.off;
			r = push(a, &unit, e);
			unit.off += unit.len;
			unit.host = host;
		}
		last = host;
	}
	unit.len = b->off + b->len - unit.off;
	return r < 0 ? r : push(a, &unit, e);
}

static int push_zeros(
	struct copy_agenda *a, uint64_t off, uint64_t end, uint64_t host, struct err *e)
{
	struct item zeros = { .host = host, .off = off, .len = end - off, .kind = ZEROS };

	return off < end ? push(a, &zeros, e) : 0;
}

/* What the extents of [off, end) make. They are looked at from @place on. */
static int push_range(
	struct copy_agenda *a, uint64_t off, uint64_t end, uint64_t place, struct err *e)
{
	struct extent x = { 0 };
	uint64_t zeros = off;

	while (off < end) {
		struct block b = { .off = off, .len = min_u64(COPY_UNIT, end - off) };
		uint64_t hole =
			x.zero ? min_u64(round_down(x.offset + x.length, COPY_UNIT), end) : 0;
		int r;

		if (hole > off) {
			off = hole;
			continue;
		}
		r = look_at(a, &b, place, &x, e);

		if (r == 0 && b.data) {
			r = push_zeros(a, zeros, off, place, e);
			r = r < 0 ? r : push_block(a, &b, e);
			zeros = off + b.len;
		}
		if (r < 0) {
			return r;
		}
		off += b.len;
	}
	return push_zeros(a, zeros, end, place, e);
}

/* --- all --- */

bool copy_agenda_suits(const struct image *img)
{
	return img->ops->table_at && img->below && img->below->flags & IMAGE_FORWARD;
}

/* One item a table, of whole blocks: a small table has those behind it for company. */
static int push_tables(struct copy_agenda *a, struct err *e)
{
	uint64_t off = 0;

	while (off < a->img->size) {
		struct item table = { .off = off, .kind = TABLE };
		uint64_t end;
		int r = image_table_at(a->img, off, &table.host, &end, e);

		if (r == 0) {
			end = min_u64(round_up(end, COPY_UNIT), a->img->size);
			table.host = table.host == EXTENT_NO_HOST ? 0 : table.host;
			table.len = end - off;
			r = a->count < TABLES_MAX ? push(a, &table, e) : 1;
		}
		if (r != 0) {
			return r;
		}
		off = end;
	}
	return 0;
}

int copy_agenda_new(struct image *img, struct copy_agenda **ret, struct err *e)
{
	struct copy_agenda *a = calloc(1, sizeof(*a));
	int r;

	if (!a) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	a->img = img;
	r = push_tables(a, e);
	if (r != 0) {
		copy_agenda_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

bool copy_agenda_peek(const struct copy_agenda *a, uint64_t *ret_host)
{
	if (a->count == 0) {
		return false;
	}
	*ret_host = a->heap[0].host;
	return true;
}

int copy_agenda_next(struct copy_agenda *a, struct copy_unit *ret, struct err *e)
{
	struct item item = pop(a);

	if (item.kind == TABLE) {
		return push_range(a, item.off, item.off + item.len, item.host, e);
	}
	*ret = (struct copy_unit){
		.off = item.off,
		.len = item.len,
		.host = item.host,
		.zero = item.kind == ZEROS,
		.beside = item.beside,
	};
	return 1;
}

void copy_agenda_free(struct copy_agenda *a)
{
	if (a) {
		free(a->heap);
		free(a);
	}
}
