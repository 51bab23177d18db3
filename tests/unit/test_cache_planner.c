/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include "cache/cache.h"
#include "cache/planner.h"
#include "cache/readahead.h"
#include "core/bytes.h"

/* A link of 10 ms and 125 MB/s. */
static struct planner measured(void)
{
	struct planner p;

	planner_init(&p);
	for (unsigned int i = 0; i < 20; i++) {
		planner_first_byte(&p, 10000);
		planner_rate(&p, MIB(1), MIB(1) / 125);
	}
	return p;
}

static void pieces_of_hints_follow_the_link(void **state)
{
	struct planner fast = measured();
	struct planner slow;

	(void)state;
	assert_in_range(planner_piece(&fast), KIB(896), MIB(1));
	assert_int_equal(planner_piece(&fast) % CACHE_GRANULE, 0);
	planner_init(&slow);
	for (unsigned int i = 0; i < 20; i++) {
		planner_first_byte(&slow, 20000);
		planner_rate(&slow, MIB(1), MIB(1) / 12);
	}
	assert_int_equal(planner_piece(&slow), KIB(256));
}

static void a_link_is_measured(void **state)
{
	struct planner p = measured();

	(void)state;
	assert_int_equal(p.rtt_us, 10000);
	assert_in_range(p.rate, 124000000, 126000000);
	assert_in_range(planner_bdp(&p), 1240000, 1260000);
	/* A first connection is slow, a later one shows what the link can do. */
	planner_init(&p);
	planner_first_byte(&p, 90000);
	planner_first_byte(&p, 30000);
	assert_int_equal(p.rtt_us, 30000);
	/* A server that slows down is believed after a while. */
	for (unsigned int i = 0; i < 200; i++) {
		planner_first_byte(&p, 60000);
	}
	assert_in_range(p.rtt_us, 55000, 60000);
	/* Too little to tell. */
	planner_rate(&p, 1000, 1);
	planner_rate(&p, MIB(1), 3);
	assert_int_equal(p.rate, 0);
}

static void beside_a_trace_guesses_are_small_until_they_are_used(void **state)
{
	struct planner p = measured();
	uint64_t full = planner_fill(&p, 0);

	(void)state;
	planner_foretold(&p);
	assert_in_range(planner_fill(&p, 0), CACHE_GRANULE, full / 8);
	planner_usage(&p, MIB(20), MIB(15));
	assert_int_equal(planner_fill(&p, 0), full);
}

static void fills_grow_with_the_link_and_shrink_with_company(void **state)
{
	struct planner p = measured();
	struct planner slow;

	(void)state;
	assert_in_range(planner_fill(&p, 0), MIB(1), MIB(4));
	assert_true(is_pow2(planner_fill(&p, 0)));
	assert_true(planner_fill(&p, 3) < planner_fill(&p, 0));
	assert_int_equal(planner_fill(&p, 31), CACHE_GRANULE);
	planner_init(&slow);
	planner_first_byte(&slow, 1000);
	planner_rate(&slow, MIB(1), 1000000);
	assert_int_equal(planner_fill(&slow, 0), CACHE_GRANULE);
	planner_first_byte(&p, 1000);
	for (unsigned int i = 0; i < 500; i++) {
		planner_first_byte(&p, 2000000);
	}
	assert_int_equal(planner_fill(&p, 0), MIB(8));
}

static void fills_shrink_when_guesses_are_not_used(void **state)
{
	struct planner p = measured();
	uint64_t fetched = 0;
	uint64_t used = 0;

	(void)state;
	for (unsigned int i = 0; i < 150; i++) {
		planner_usage(&p, fetched, 0);
		fetched += planner_fill(&p, 0) - CACHE_GRANULE;
	}
	assert_true(fetched < MIB(32));
	assert_int_equal(planner_fill(&p, 0), CACHE_GRANULE);
	/* And trust comes back. */
	for (unsigned int i = 0; i < 40; i++) {
		fetched += MIB(1);
		used += MIB(1) / 2;
		planner_usage(&p, fetched, used);
	}
	assert_true(planner_fill(&p, 0) >= MIB(1));
	assert_true(planner_trust(&p) > 0.9);
}

static void failed_guesses_say_nothing(void **state)
{
	struct planner p = measured();

	(void)state;
	planner_usage(&p, MIB(8), MIB(4));
	planner_usage(&p, MIB(2), MIB(4)); /* 6 MiB of it failed */
	assert_true(planner_trust(&p) > 0.9);
	planner_usage(&p, MIB(3), MIB(5));
	assert_true(planner_trust(&p) > 0.9);
}

static void what_a_stream_has_on_its_way_fills_the_link(void **state)
{
	struct planner p = measured();

	(void)state;
	assert_true(planner_window(&p) >= 2 * planner_bdp(&p));
	assert_true(planner_chunk(&p) * 2 <= planner_window(&p));
	assert_int_equal(planner_chunk(&p) % CACHE_GRANULE, 0);
}

static const struct readahead_limits limits = { .chunk = MIB(1), .window = MIB(16), .trust = 1 };

static void scattered_reads_are_no_stream(void **state)
{
	struct readahead ra;

	(void)state;
	readahead_init(&ra, GIB(10));
	for (uint64_t i = 0; i < 1000; i++) {
		struct readahead_plan plan =
			readahead_note(&ra, i * 7919 % 1000 * MIB(10), 4096, true, &limits);

		assert_int_equal(plan.len, 0);
		assert_false(plan.stream);
	}
}

static void a_stream_is_fetched_ahead_once_and_ever_further(void **state)
{
	struct readahead ra;
	uint64_t sent = KIB(128);
	uint64_t most = 0;

	(void)state;
	readahead_init(&ra, MIB(100) + 5);
	for (uint64_t off = 0; off < MIB(100); off += KIB(128)) {
		struct readahead_plan plan = readahead_note(&ra, off, KIB(128), true, &limits);

		assert_int_equal(plan.stream, off > 0);
		if (plan.len > 0) {
			/* Everything once, in order. */
			assert_true(plan.off == max_u64(sent, off + KIB(128)));
			sent = plan.off + plan.len;
			assert_true(sent <= off + KIB(128) + limits.window);
			most = max_u64(most, sent - off);
		}
		if (off >= MIB(2)) {
			assert_true(sent >= min_u64(off + MIB(2), MIB(100) + 5));
		}
	}
	assert_int_equal(sent, MIB(100) + 5);
	assert_true(most > MIB(15));
}

static void reads_out_of_order_are_one_stream(void **state)
{
	static const int order[] = { 0, 2, 1, 4, 3, 6, 7, 5 };
	struct readahead ra;
	uint64_t sent = 0;

	(void)state;
	readahead_init(&ra, GIB(1));
	for (uint64_t i = 0; i < 80; i++) {
		uint64_t off = (i / 8 * 8 + (uint64_t)order[i % 8]) * KIB(128);
		struct readahead_plan plan = readahead_note(&ra, off, KIB(128), true, &limits);

		sent = max_u64(sent, plan.off + plan.len);
	}
	assert_true(sent > MIB(10) + MIB(8));
}

static void sixteen_streams_do_not_disturb_each_other(void **state)
{
	uint64_t sent[READAHEAD_STREAMS] = { 0 };
	struct readahead ra;

	(void)state;
	readahead_init(&ra, GIB(100));
	for (uint64_t i = 0; i < 32; i++) {
		for (uint64_t s = 0; s < READAHEAD_STREAMS; s++) {
			struct readahead_plan plan = readahead_note(
				&ra, s * GIB(1) + i * KIB(128), KIB(128), true, &limits);

			sent[s] = max_u64(sent[s], plan.off + plan.len);
		}
	}
	for (uint64_t s = 0; s < READAHEAD_STREAMS; s++) {
		assert_true(sent[s] >= s * GIB(1) + MIB(6));
		assert_true(sent[s] <= s * GIB(1) + MIB(4) + limits.window);
	}
}

static void what_memory_refused_is_asked_for_again(void **state)
{
	struct readahead_plan plan = { 0 };
	struct readahead ra;
	uint64_t off = 0;

	(void)state;
	readahead_init(&ra, GIB(1));
	while (plan.len == 0) {
		plan = readahead_note(&ra, off, MIB(1), true, &limits);
		off += MIB(1);
	}
	readahead_cut(&ra, &plan, KIB(64));
	plan = (struct readahead_plan){ .off = plan.off, .len = 0 };
	plan = readahead_note(&ra, off, KIB(64), true, &limits);
	assert_true(plan.len > 0);
	assert_true(plan.off <= off + KIB(64));
}

static void without_trust_little_is_fetched_ahead(void **state)
{
	const struct readahead_limits careful = {
		.chunk = MIB(1),
		.window = MIB(16),
		.trust = 0.1,
	};
	struct readahead ra;
	uint64_t ahead = 0;

	(void)state;
	readahead_init(&ra, GIB(1));
	for (uint64_t off = 0; off < KIB(512); off += KIB(128)) {
		struct readahead_plan plan = readahead_note(&ra, off, KIB(128), true, &careful);

		ahead = max_u64(ahead, plan.len ? plan.off + plan.len - off : 0);
	}
	assert_true(ahead <= KIB(512));
	for (uint64_t off = KIB(512); off < MIB(8); off += KIB(128)) {
		(void)readahead_note(&ra, off, KIB(128), true, &careful);
	}
	/* A stream that goes on and on proves itself. */
	assert_int_equal(ra.streams[0].window, MIB(16));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_is_measured),
		cmocka_unit_test(pieces_of_hints_follow_the_link),
		cmocka_unit_test(beside_a_trace_guesses_are_small_until_they_are_used),
		cmocka_unit_test(fills_grow_with_the_link_and_shrink_with_company),
		cmocka_unit_test(fills_shrink_when_guesses_are_not_used),
		cmocka_unit_test(failed_guesses_say_nothing),
		cmocka_unit_test(what_a_stream_has_on_its_way_fills_the_link),
		cmocka_unit_test(scattered_reads_are_no_stream),
		cmocka_unit_test(a_stream_is_fetched_ahead_once_and_ever_further),
		cmocka_unit_test(reads_out_of_order_are_one_stream),
		cmocka_unit_test(sixteen_streams_do_not_disturb_each_other),
		cmocka_unit_test(what_memory_refused_is_asked_for_again),
		cmocka_unit_test(without_trust_little_is_fetched_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
