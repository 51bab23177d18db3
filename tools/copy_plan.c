/* SPDX-License-Identifier: Apache-2.0 */
/* Extents into units. An aligned block of COPY_UNIT bytes is one data unit as soon as anything in
 * it may be data (its zeros are found when it is read); blocks without data join into zero units.
 */
#include "tools/copy_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

/* How much denser than the data a compressed unit is taken to be at most. */
#define PACKED_MOST 4U

int copy_plan_append(struct copy_plan *plan, const struct copy_unit *unit, struct err *e)
{
	if (plan->count == plan->room) {
		size_t room = plan->room ? 2 * plan->room : 64;
		struct copy_unit *units = reallocarray(plan->units, room, sizeof(*units));

		if (!units) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		plan->units = units;
		plan->room = room;
	}
	plan->units[plan->count++] = *unit;
	*(unit->zero ? &plan->zero_bytes : &plan->data_bytes) += unit->len;
	return 0;
}

static int append(struct copy_plan *plan, const struct copy_unit *unit, struct err *e)
{
	int r = copy_plan_append(plan, unit, e);

	plan->zeros += r == 0 && unit->zero;
	return r;
}

static int append_zeros(struct copy_plan *plan, uint64_t off, uint64_t end, struct err *e)
{
	struct copy_unit unit = { .off = off, .len = end - off, .zero = true };

	return off < end ? append(plan, &unit, e) : 0;
}

/* The blocks in [off, end), which lie in one extent of data, but that the first may begin before
 * it. */
static int append_data(
	struct copy_plan *plan, uint64_t off, uint64_t end, const struct extent *x, struct err *e)
{
	while (off < end) {
		uint64_t ahead = off > x->offset ? off - x->offset : 0;
		struct copy_unit unit = { .off = off, .len = min_u64(end - off, COPY_UNIT) };
		int r;

		unit.fetch = (uint32_t)(x->compressed ? unit.len / PACKED_MOST : unit.len);

		/* n bytes of compressed data come from somewhere within n bytes of the file. */
		unit.host = x->host == EXTENT_NO_HOST ? off : x->host + (x->compressed ? 0 : ahead);
		r = append(plan, &unit, e);
		if (r < 0) {
			return r;
		}
		off += unit.len;
	}
	return 0;
}

/* Compressed data end where those begin that come next in the file, more or less. The units of one
 * extent share what it takes. */
static void weigh(struct copy_plan *plan)
{
	size_t end;

	for (size_t first = plan->zeros; first < plan->count; first = end) {
		uint64_t host = plan->units[first].host;
		uint64_t share;

		end = first + 1;
		while (end < plan->count && plan->units[end].host == host) {
			end++;
		}
		share = end < plan->count ? (plan->units[end].host - host) / (end - first) : 0;
		for (size_t i = first; i < end; i++) {
			struct copy_unit *unit = &plan->units[i];

			unit->fetch = (uint32_t)min_u64(unit->len, max_u64(unit->fetch, share));
		}
	}
}

/* Zeros before data; data as it lies below, then as it lies here. */
static int by_place(const void *a, const void *b)
{
	const struct copy_unit *u = a;
	const struct copy_unit *v = b;

	if (u->zero != v->zero) {
		return u->zero ? -1 : 1;
	}
	if (!u->zero && u->host != v->host) {
		return u->host < v->host ? -1 : 1;
	}
	return u->off < v->off ? -1 : u->off > v->off;
}

static int walk(struct image *img, struct copy_plan *plan, struct err *e)
{
	uint64_t planned = 0; /* everything before it: a multiple of COPY_UNIT, or the end */
	uint64_t off = 0;

	while (off < img->size) {
		uint64_t block = round_down(off, COPY_UNIT);
		struct extent x;
		uint64_t end;
		int r = image_extent_at(img, off, &x, e);

		if (r < 0) {
			return r;
		}
		off = x.offset + x.length;
		if (x.zero) {
			continue;
		}
		end = min_u64(round_up(off, COPY_UNIT), img->size);
		r = append_zeros(plan, planned, block, e);
		if (r == 0) {
			r = append_data(plan, block, end, &x, e);
		}
		if (r < 0) {
			return r;
		}
		planned = end;
		off = end;
	}
	return append_zeros(plan, planned, img->size, e);
}

int copy_plan_make(struct image *img, struct copy_plan *ret, struct err *e)
{
	struct copy_plan plan = { 0 };
	int r = walk(img, &plan, e);

	if (r < 0) {
		copy_plan_clear(&plan);
		return r;
	}
	if (plan.count > 0) {
		qsort(plan.units, plan.count, sizeof(*plan.units), by_place);
	}
	weigh(&plan);
	*ret = plan;
	return 0;
}

int copy_plan_make_blocks(uint64_t size, struct copy_plan *ret, struct err *e)
{
	const struct extent all = { .length = size, .allocated = true };
	struct copy_plan plan = { 0 };
	int r = append_data(&plan, 0, size, &all, e);

	if (r < 0) {
		copy_plan_clear(&plan);
		return r;
	}
	*ret = plan;
	return 0;
}

int copy_plan_add_tail(struct copy_plan *plan, uint64_t from, uint64_t to, struct err *e)
{
	size_t data = plan->count - plan->zeros;
	struct copy_unit *first;
	struct copy_unit tail;
	int r = append_zeros(plan, from, to, e);

	if (r == 0 && from < to && data > 0) {
		first = &plan->units[plan->count - 1 - data];
		tail = plan->units[plan->count - 1];
		memmove(first + 1, first, data * sizeof(*first));
		*first = tail;
	}
	return r;
}

void copy_plan_clear(struct copy_plan *plan)
{
	free(plan->units);
	*plan = (struct copy_plan){ 0 };
}
