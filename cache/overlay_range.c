/* SPDX-License-Identifier: Apache-2.0 */
/* A list: there are never more holders than threads that write. */
#include "cache/overlay_range.h"

#include <stdbool.h>

#include "core/cleanup.h"

void overlay_ranges_init(struct overlay_ranges *rs)
{
	pthread_mutex_init(&rs->lock, NULL);
	pthread_cond_init(&rs->less, NULL);
	rs->held = NULL;
}

void overlay_ranges_fini(struct overlay_ranges *rs)
{
	pthread_cond_destroy(&rs->less);
	pthread_mutex_destroy(&rs->lock);
}

static bool is_free(const struct overlay_ranges *rs, uint64_t first, uint64_t last)
{
	for (const struct overlay_range *r = rs->held; r; r = r->next) {
		if (r->first <= last && first <= r->last) {
			return false;
		}
	}
	return true;
}

void overlay_range_take(
	struct overlay_ranges *rs, struct overlay_range *r, uint64_t first, uint64_t last)
{
	LOCK_SCOPE(&rs->lock);

	while (!is_free(rs, first, last)) {
		pthread_cond_wait(&rs->less, &rs->lock);
	}
	*r = (struct overlay_range){ first, last, rs->held };
	rs->held = r;
}

void overlay_range_give(struct overlay_ranges *rs, struct overlay_range *r)
{
	struct overlay_range **p = &rs->held;
	LOCK_SCOPE(&rs->lock);

	while (*p != r) {
		p = &(*p)->next;
	}
	*p = r->next;
	pthread_cond_broadcast(&rs->less);
}
