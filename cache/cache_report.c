/* SPDX-License-Identifier: Apache-2.0 */
/* What an image of the cache says of itself: see cache.h. */
#include "cache/cache_image.h"
#include "core/report.h"

void cache_image_tell(struct image *img, struct report *r)
{
	struct cache_image *ci = (struct cache_image *)img;
	struct flight_counts *fc = &ci->flight.counts;
	uint64_t ahead = atomic_load(&fc->prefetched);
	uint64_t used = atomic_load(&fc->used);
	uint64_t replayed = atomic_load(&fc->replayed);
	uint64_t rtt_us;
	uint64_t rate;

	pthread_mutex_lock(&ci->flight.lock);
	rtt_us = ci->flight.planner.rtt_us;
	rate = ci->flight.planner.rate;
	pthread_mutex_unlock(&ci->flight.lock);
	report_text(r, "mode", ci->object->mode);
	report_u64(r, "present_bytes", ci->object->ops->present_bytes(ci->object));
	report_u64(r, "hits", atomic_load(&ci->counts.hits));
	report_u64(r, "misses", atomic_load(&ci->counts.misses));
	report_u64(r, "joined", atomic_load(&ci->counts.joined));
	report_u64(r, "fills", atomic_load(&fc->fills));
	report_u64(r, "waits", atomic_load(&ci->counts.waits));
	report_u64(r, "wait_ms", atomic_load(&ci->counts.wait_ns) / 1000000);
	report_u64(r, "bytes_demanded", atomic_load(&fc->demanded));
	report_u64(r, "bytes_prefetched", ahead + replayed + atomic_load(&fc->hinted));
	report_u64(r, "bytes_wasted",
		ahead - min_u64(ahead, used) +
			(replayed - min_u64(replayed, atomic_load(&fc->foreseen))));
	report_u64(r, "torn", atomic_load(&ci->object->torn));
	report_u64(r, "bypassed", atomic_load(&ci->object->bypassed));
	report_u64(r, "lent", lender_has_lent(&ci->lender));
	report_u64(r, "rtt_us", rtt_us);
	report_u64(r, "bytes_per_s", rate);
	if (ci->units) {
		units_report(ci->units, r);
	}
	if (ci->warm) {
		warm_report(ci->warm, r);
	}
}
