/* SPDX-License-Identifier: Apache-2.0 */
/* One range that grows while what is added continues it. */
#include "formats/hints.h"

#include "core/bytes.h"

/* Places in the file closer together than this are fetched together. */
#define GAP 131072U

void hints_flush(struct hints *h)
{
	if (h->end > h->start) {
		image_prefetch(h->img, h->start, h->end - h->start);
	}
	h->start = 0;
	h->end = 0;
}

void hints_add(struct hints *h, uint64_t start, uint64_t len)
{
	if (h->end == 0 || start < h->start || start > h->end + GAP) {
		hints_flush(h);
		h->start = start;
	}
	h->end = max_u64(h->end, start + len);
}
