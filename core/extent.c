/* SPDX-License-Identifier: Apache-2.0 */
/* Pure arithmetic on extents. */
#include "core/extent.h"

#include <assert.h>

#include "core/bytes.h"

void extent_clip(struct extent *x, uint64_t off, uint64_t len)
{
	uint64_t start = max_u64(x->offset, off);
	uint64_t end = min_u64(x->offset + x->length, off + len);

	assert(start < end);
	if (x->host != EXTENT_NO_HOST && !x->compressed) {
		x->host += start - x->offset;
	}
	x->offset = start;
	x->length = end - start;
}

static bool host_continues(const struct extent *a, const struct extent *b)
{
	if (a->host == EXTENT_NO_HOST || b->host == EXTENT_NO_HOST) {
		return a->host == b->host;
	}
	return a->compressed || b->host == a->host + a->length;
}

bool extent_merge(struct extent *a, const struct extent *b)
{
	if (b->offset != a->offset + a->length || a->zero != b->zero ||
		a->allocated != b->allocated || a->compressed != b->compressed ||
		a->hole_below != b->hole_below || a->depth != b->depth || !host_continues(a, b)) {
		return false;
	}
	a->length += b->length;
	return true;
}
