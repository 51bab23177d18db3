/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "formats/claims.h"

#define UNIT 4096U
/* Of the two units. */
#define MOST (2 * CLAIMS_PER_UNIT + CLAIMS_SPARE)

/* Two downloads of the same two units; they differ in one byte of the second. */
#define DAMAGE (UNIT + 1000U)

struct bed {
	struct claims claims;
	uint8_t right[2 * UNIT];
	uint8_t wrong[2 * UNIT];
};

static int set_up(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	for (size_t i = 0; i < sizeof(b->right); i++) {
		b->right[i] = (uint8_t)(i * 7 + i / 256);
	}
	memcpy(b->wrong, b->right, sizeof(b->right));
	b->wrong[DAMAGE] ^= 1;
	assert_int_equal(claims_init(&b->claims, 2), 0);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bed *b = *state;

	claims_clear(&b->claims);
	free(b);
	return 0;
}

static struct witness begin(struct bed *b, size_t unit)
{
	struct witness w = { 0 };

	assert_int_equal(witness_init(&w, &b->claims, unit, unit * UNIT), 0);
	return w;
}

/* A cursor that hands over what @data has of the unit up to @pos, and ends there. */
static void leave(struct bed *b, const uint8_t *data, size_t unit, uint64_t pos)
{
	struct witness w = begin(b, unit);

	witness_see(&w, data + w.pos, pos - w.pos);
	witness_hand(&w);
	witness_clear(&w);
}

/* How many claims there are of @unit; the furthest is *ret. */
static size_t list(struct bed *b, size_t unit, struct claim *ret)
{
	struct claim *claims = NULL;
	size_t n = 0;

	assert_int_equal(claims_list(&b->claims, unit, &claims, &n), 0);
	for (size_t i = 1; i < n; i++) {
		assert_true(claims[i - 1].pos <= claims[i].pos);
	}
	if (n > 0) {
		*ret = claims[n - 1];
	}
	free(claims);
	return n;
}

static void an_end_that_was_right_leaves_nothing_open(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness w = begin(b, 0);

	assert_true(claims_open(&b->claims, 0));
	witness_see(&w, b->right, UNIT);
	witness_hand(&w);
	assert_int_equal(list(b, 0, &last), 1);
	assert_int_equal(last.pos, UNIT);
	witness_prove(&w);
	witness_clear(&w);
	assert_false(claims_open(&b->claims, 0));
	assert_true(claims_open(&b->claims, 1));
}

static void what_is_only_passed_over_is_no_claim(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness w = begin(b, 1);

	witness_see(&w, b->right + UNIT, 100);
	witness_hand(&w);
	witness_see(&w, b->right + UNIT + 100, 500);
	witness_clear(&w);
	assert_int_equal(list(b, 1, &last), 1);
	assert_int_equal(last.pos, UNIT + 100);
}

static void who_comes_by_takes_claims_over(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness w;

	leave(b, b->right, 1, UNIT + 3000);
	leave(b, b->right, 1, UNIT + 2000);
	leave(b, b->right, 1, UNIT + 2000);
	assert_int_equal(list(b, 1, &last), 2);
	leave(b, b->right, 1, UNIT + 3500);
	assert_int_equal(list(b, 1, &last), 1);
	assert_int_equal(last.pos, UNIT + 3500);

	/* also where it hands over nothing itself; what it does not prove stays */
	w = begin(b, 1);
	witness_see(&w, b->right + UNIT, UNIT);
	witness_clear(&w);
	assert_int_equal(list(b, 1, &last), 1);
	assert_int_equal(last.pos, UNIT + 3500);
	w = begin(b, 1);
	witness_see(&w, b->right + UNIT, UNIT);
	witness_prove(&w);
	witness_clear(&w);
	assert_false(claims_open(&b->claims, 1));
}

static void other_bytes_stay_a_claim(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness w;

	leave(b, b->wrong, 1, DAMAGE + 1);
	w = begin(b, 1);
	witness_see(&w, b->right + UNIT, UNIT);
	witness_hand(&w);
	witness_prove(&w);
	witness_clear(&w);
	assert_true(claims_open(&b->claims, 1));
	assert_int_equal(list(b, 1, &last), 1);
	assert_int_equal(last.pos, DAMAGE + 1);

	w = begin(b, 1);
	witness_see(&w, b->right + UNIT, DAMAGE + 1 - UNIT);
	assert_true(witness_sum(&w) != last.sum);
	witness_clear(&w);
	w = begin(b, 1);
	witness_see(&w, b->wrong + UNIT, DAMAGE + 1 - UNIT);
	assert_true(witness_sum(&w) == last.sum);
	witness_clear(&w);
}

static void who_is_still_there_keeps_its_claim(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness waits = begin(b, 0);
	struct witness w = begin(b, 0);

	witness_see(&waits, b->right, 1000);
	witness_hand(&waits);
	witness_see(&w, b->right, UNIT);
	witness_prove(&w);
	witness_clear(&w);
	assert_true(claims_open(&b->claims, 0));
	witness_see(&waits, b->right + 1000, 1000);
	witness_hand(&waits);
	assert_int_equal(list(b, 0, &last), 1);
	assert_int_equal(last.pos, 2000);
	witness_clear(&waits);
	assert_int_equal(list(b, 0, &last), 1);
}

static void who_rests_leaves_its_claim_to_who_comes_by(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness rests = begin(b, 0);
	struct witness w;

	witness_see(&rests, b->right, 1000);
	witness_hand(&rests);
	witness_park(&rests);
	assert_int_equal(list(b, 0, &last), 1);
	assert_int_equal(last.pos, 1000);
	witness_resume(&rests);
	witness_see(&rests, b->right + 1000, 1000);
	witness_hand(&rests);
	assert_int_equal(list(b, 0, &last), 1);
	assert_int_equal(last.pos, 2000);

	witness_park(&rests);
	w = begin(b, 0);
	witness_see(&w, b->right, UNIT);
	witness_prove(&w);
	witness_clear(&w);
	assert_false(claims_open(&b->claims, 0));
	witness_resume(&rests);
	witness_see(&rests, b->right + 2000, 1);
	witness_hand(&rests);
	assert_int_equal(list(b, 0, &last), 1);
	assert_int_equal(last.pos, 2001);
	witness_clear(&rests);
}

/* Backwards, so that nobody comes by what others left. */
static void claims_are_bounded_and_their_loss_is_known(void **state)
{
	struct bed *b = *state;
	struct claim last = { 0 };
	struct witness w;

	for (size_t i = 0; i < MOST; i++) {
		leave(b, b->right, 0, UNIT - 1 - i);
	}
	assert_int_equal(list(b, 0, &last), MOST);
	assert_false(claims_lost(&b->claims));

	w = begin(b, 0);
	witness_see(&w, b->right, 1);
	witness_hand(&w);
	assert_true(claims_lost(&b->claims));
	/* It still sees the end, or takes over what says as much. */
	witness_see(&w, b->right + 1, UNIT - 2);
	assert_false(claims_lost(&b->claims));
	assert_int_equal(list(b, 0, &last), 1);
	witness_clear(&w);

	for (size_t i = 0; i < MOST; i++) {
		leave(b, b->right, 0, UNIT - 2 - i);
	}
	assert_true(claims_lost(&b->claims));
	leave(b, b->right, 0, UNIT);
	assert_true(claims_lost(&b->claims));
	assert_int_equal(list(b, 0, &last), 1);
}

struct reader {
	struct bed *bed;
	unsigned int seed;
};

static void *read_somewhere(void *ctx)
{
	struct reader *r = ctx;

	for (unsigned int i = 0; i < 300; i++) {
		struct witness w;
		uint64_t end;

		r->seed = r->seed * 1103515245 + 12345;
		end = 1 + (r->seed >> 8) % UNIT;
		w = begin(r->bed, 0);
		while (w.pos < end) {
			witness_see(
				&w, r->bed->right + w.pos, end - w.pos > 300 ? 300 : end - w.pos);
			witness_hand(&w);
		}
		if (end == UNIT) {
			witness_prove(&w);
		}
		witness_clear(&w);
	}
	return NULL;
}

static void many_readers_agree(void **state)
{
	struct bed *b = *state;
	struct reader readers[4];
	pthread_t threads[4];
	struct claim *claims = NULL;
	struct witness w;
	size_t n = 0;

	for (unsigned int i = 0; i < 4; i++) {
		readers[i] = (struct reader){ b, i };
		assert_int_equal(pthread_create(&threads[i], NULL, read_somewhere, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_false(claims_lost(&b->claims));
	assert_int_equal(claims_list(&b->claims, 0, &claims, &n), 0);
	w = begin(b, 0);
	for (size_t i = 0; i < n; i++) {
		witness_see(&w, b->right + w.pos, claims[i].pos - w.pos);
		assert_true(witness_sum(&w) == claims[i].sum);
	}
	witness_see(&w, b->right + w.pos, UNIT - w.pos);
	witness_prove(&w);
	witness_clear(&w);
	free(claims);
	assert_false(claims_open(&b->claims, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			an_end_that_was_right_leaves_nothing_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_is_only_passed_over_is_no_claim, set_up, tear_down),
		cmocka_unit_test_setup_teardown(who_comes_by_takes_claims_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_bytes_stay_a_claim, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			who_is_still_there_keeps_its_claim, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			who_rests_leaves_its_claim_to_who_comes_by, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			claims_are_bounded_and_their_loss_is_known, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_readers_agree, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
