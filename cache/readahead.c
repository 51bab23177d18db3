/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: which one a read belongs to, and how far ahead it may run. */
#include "cache/readahead.h"

#include "core/bytes.h"

/* A stream may have so many times what it read ahead of it. */
#define GROWTH 2
/* Reads this near to where they were expected make a stream at once; others need one more. */
#define NEAR KIB(64)
/* So many hits (a near one counts twice), and a stream is believed whatever other guesses came to.
 */
#define PROVEN_HITS 16.0

void readahead_init(struct readahead *ra, uint64_t size)
{
	*ra = (struct readahead){ .size = size };
}

static bool belongs(const struct readahead_stream *s, uint64_t off)
{
	return s->used && off + READAHEAD_BACK >= s->next && off <= s->next + READAHEAD_AHEAD;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* The stream that expected a read nearest to @off, or NULL. */
static struct readahead_stream *find(struct readahead *ra, uint64_t off)
{
	struct readahead_stream *best = NULL;

	for (unsigned int i = 0; i < READAHEAD_STREAMS; i++) {
		struct readahead_stream *s = &ra->streams[i];

		if (belongs(s, off) &&
			(!best || distance(s->next, off) < distance(best->next, off))) {
			best = s;
		}
	}
	return best;
}

static void begin(struct readahead *ra, uint64_t off, uint64_t len)
{
	struct readahead_stream *oldest = &ra->streams[0];

	for (unsigned int i = 1; i < READAHEAD_STREAMS; i++) {
		if (ra->streams[i].used < oldest->used) {
			oldest = &ra->streams[i];
		}
	}
	*oldest = (struct readahead_stream){
		.start = off,
		.next = off + len,
		.bytes = len,
		.sent = off + len,
		.used = ra->reads,
	};
}

static double max_double(double a, double b)
{
	return a > b ? a : b;
}

static double min_double(double a, double b)
{
	return a < b ? a : b;
}

static void grow(struct readahead_stream *s, bool stalled, const struct readahead_limits *l)
{
	uint64_t span = max_u64(s->next - s->start, 1);
	double density = s->bytes < span ? (double)s->bytes / (double)span : 1;
	double proven = (double)s->hits / PROVEN_HITS;
	double trust = max_double(l->trust, min_double(proven, 1));
	double earned = (double)s->bytes * GROWTH * density * trust;
	uint64_t most = earned < (double)l->window ? (uint64_t)earned : l->window;

	most = max_u64(most, l->lone);
	if (stalled || s->window == 0) {
		s->window = max_u64(s->window, most);
	}
	s->window = min_u64(s->window, l->window);
}

struct readahead_plan readahead_note(struct readahead *ra, uint64_t off, uint64_t len, bool stalled,
	const struct readahead_limits *limits)
{
	struct readahead_plan plan = { 0 };
	struct readahead_stream *s;
	uint64_t end;

	ra->reads++;
	s = find(ra, off);
	if (!s) {
		begin(ra, off, len);
		return plan;
	}
	s->hits += distance(s->next, off) <= NEAR ? 2 : 1;
	s->used = ra->reads;
	s->bytes += len;
	s->start = min_u64(s->start, off);
	s->next = max_u64(s->next, off + len);
	s->sent = max_u64(s->sent, s->next);
	if (s->hits < 2) {
		return plan;
	}
	plan.stream = true;
	plan.slot = (unsigned int)(s - ra->streams);
	grow(s, stalled, limits);
	end = min_u64(s->next + s->window, ra->size);
	if (end > s->sent &&
		(end - s->sent >= min_u64(limits->chunk, s->window / 2) || end == ra->size)) {
		plan.off = s->sent;
		plan.len = end - s->sent;
		s->sent = end;
	}
	return plan;
}

void readahead_cut(struct readahead *ra, const struct readahead_plan *plan, uint64_t done)
{
	struct readahead_stream *s = &ra->streams[plan->slot];

	if (s->sent == plan->off + plan->len) {
		s->sent = max_u64(plan->off + done, s->next);
	}
}
