/* SPDX-License-Identifier: Apache-2.0 */
/* Estimates of the link, and the sizes that follow from them. */
#include "cache/planner.h"

#include "cache/cache.h"
#include "core/bytes.h"

/* What is assumed of a link before it was measured. */
#define GUESS_RTT_US 20000U
#define GUESS_RATE   50000000U
/* Shorter or smaller samples say more about buffers than about the link. */
#define RATE_MIN_BYTES 131072U
#define RATE_MIN_US    500U
/* A stream's fill and window are worth at least so much time of the link: requests cost something,
 * and readers and disks stumble. More would only make others wait. */
#define CHUNK_US  4000U
#define WINDOW_US 80000U
#define PIECE_US  8000U
/* The share of speculative bytes that must be used for speculation at full size. */
#define FULL_USE 0.25
/* The same of what is guessed beside a trace: boots that were recorded had no need of it. */
#define BESIDE_USE (FULL_USE / 4)
/* Bytes after which an observation of use counts half. */
#define USE_HALF_LIFE ((double)(8 << 20))

void planner_init(struct planner *p)
{
	*p = (struct planner){
		.ahead_fetched = 2 << 20,
		.ahead_used = 1 << 20,
	};
}

/* The smallest of late counts most: queues and slow servers only ever add to it. */
void planner_first_byte(struct planner *p, uint64_t us)
{
	us = max_u64(us, 1);
	if (p->rtt_us == 0 || us < p->rtt_us) {
		p->rtt_us = us;
	} else {
		p->rtt_us += (us - p->rtt_us) / 32;
	}
}

void planner_rate(struct planner *p, uint64_t bytes, uint64_t us)
{
	uint64_t sample;

	if (bytes < RATE_MIN_BYTES || us < RATE_MIN_US) {
		return;
	}
	sample = bytes * 1000000 / us;
	if (p->rate == 0) {
		p->rate = sample;
	} else if (sample > p->rate) {
		p->rate += (sample - p->rate) / 2;
	} else {
		p->rate -= (p->rate - sample) / 16;
	}
}

void planner_usage(struct planner *p, uint64_t fetched, uint64_t used)
{
	/* A total shrinks when a fetch fails: nothing is learned from that. */
	double more = fetched > p->seen_fetched ? (double)(fetched - p->seen_fetched) : 0;
	double better = used > p->seen_used ? (double)(used - p->seen_used) : 0;
	double keep = USE_HALF_LIFE / (USE_HALF_LIFE + more);

	p->ahead_fetched = p->ahead_fetched * keep + more;
	p->ahead_used = p->ahead_used * keep + better;
	p->seen_fetched = fetched;
	p->seen_used = used;
}

void planner_foretold(struct planner *p)
{
	p->ahead_used = p->ahead_fetched * BESIDE_USE;
}

uint64_t planner_bdp(const struct planner *p)
{
	uint64_t rtt = p->rtt_us ? p->rtt_us : GUESS_RTT_US;
	uint64_t rate = p->rate ? p->rate : GUESS_RATE;

	return min_u64(rtt, 10000000) * min_u64(rate, UINT64_C(100000000000)) / 1000000;
}

uint64_t planner_duration(const struct planner *p, uint64_t bytes)
{
	uint64_t rtt = p->rtt_us ? p->rtt_us : GUESS_RTT_US;
	uint64_t rate = p->rate ? p->rate : GUESS_RATE;

	return min_u64(rtt, 10000000) + min_u64(bytes, GIB(1)) * 1000000 / max_u64(rate, 1);
}

static uint64_t clamp(uint64_t n, uint64_t least, uint64_t most)
{
	return min_u64(max_u64(n, least), most);
}

double planner_trust(const struct planner *p)
{
	double use = p->ahead_used / (p->ahead_fetched + 1) / FULL_USE;

	return use < 1 ? use : 1;
}

uint64_t planner_fill(const struct planner *p, unsigned int others)
{
	double trust = planner_trust(p);
	double size = 2 * (double)planner_bdp(p) / (others + 1) * trust * trust;

	uint64_t fill = CACHE_GRANULE;

	while (fill < MIB(8) && (double)fill * 1.5 < size) {
		fill *= 2;
	}
	return fill;
}

uint64_t planner_carries(const struct planner *p, uint64_t us)
{
	return min_u64(p->rate ? p->rate : GUESS_RATE, UINT64_C(100000000000)) * us / 1000000;
}

uint64_t planner_chunk(const struct planner *p)
{
	uint64_t size = max_u64(planner_bdp(p) / 2, planner_carries(p, CHUNK_US));

	return round_down(clamp(size, KIB(256), MIB(4)), CACHE_GRANULE);
}

uint64_t planner_piece(const struct planner *p)
{
	uint64_t size = max_u64(planner_bdp(p) / 4, planner_carries(p, PIECE_US));

	return round_down(clamp(size, KIB(256), MIB(1)), CACHE_GRANULE);
}

uint64_t planner_window(const struct planner *p)
{
	return clamp(max_u64(3 * planner_bdp(p), planner_carries(p, WINDOW_US)), MIB(2), MIB(64));
}
