/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "formats/memo.h"

static struct memo_item *make_pinned(struct memo *m, uint64_t key)
{
	struct memo_item *item;

	assert_int_equal(memo_claim(m, key, &item), MEMO_MINE);
	memset(item->data, (int)key, 64);
	memo_publish(m, item, 64);
	return item;
}

static void make(struct memo *m, uint64_t key)
{
	memo_put(m, make_pinned(m, key));
}

static bool present(struct memo *m, uint64_t key)
{
	struct memo_item *item = memo_find(m, key);

	if (!item) {
		return false;
	}
	assert_int_equal(item->key, key);
	assert_int_equal(item->data[63], key & 0xff);
	memo_put(m, item);
	return true;
}

static void least_recently_used_block_goes_first(void **state)
{
	struct memo *m;

	(void)state;
	assert_int_equal(memo_new(64, 192, &m), 0);
	make(m, 1);
	make(m, 2);
	make(m, 3);
	assert_true(present(m, 1));
	make(m, 4);
	assert_false(present(m, 2));
	assert_true(present(m, 1));
	assert_true(present(m, 3));
	assert_true(present(m, 4));
	memo_free(m);
}

static void pinned_blocks_stay_and_the_surplus_goes(void **state)
{
	struct memo_item *held[8];
	struct memo *m;
	unsigned int left = 0;

	(void)state;
	assert_int_equal(memo_new(64, 128, &m), 0);
	for (uint64_t i = 0; i < ARRAY_SIZE(held); i++) {
		held[i] = make_pinned(m, i);
	}
	for (uint64_t i = 0; i < ARRAY_SIZE(held); i++) {
		assert_int_equal(held[i]->data[0], i);
		memo_put(m, held[i]);
	}
	for (uint64_t i = 0; i < ARRAY_SIZE(held); i++) {
		left += present(m, i);
	}
	assert_int_equal(left, 2);
	memo_free(m);
}

static void failed_block_is_tried_anew(void **state)
{
	const struct err err = { .code = -EIO, .text = "no" };
	struct memo_item *item;
	struct memo *m;

	(void)state;
	assert_int_equal(memo_new(64, 128, &m), 0);
	assert_int_equal(memo_claim(m, 5, &item), MEMO_MINE);
	assert_true(memo_has(m, 5));
	memo_fail(m, item, &err);
	assert_false(memo_has(m, 5));
	make(m, 5);
	assert_true(present(m, 5));
	memo_free(m);
}

struct crowd {
	struct memo *m;
	_Atomic unsigned int made;
	_Atomic unsigned int failed;
	bool fail;
};

static void *want_block(void *arg)
{
	struct crowd *c = arg;
	struct memo_item *item;
	struct err e = { 0 };

	switch (memo_claim(c->m, 7, &item)) {
	case MEMO_MINE:
		c->made++;
		usleep(20000);
		if (c->fail) {
			err_set(&e, -ETIMEDOUT, "it broke");
			memo_fail(c->m, item, &e);
			return NULL;
		}
		memset(item->data, 7, 64);
		memo_publish(c->m, item, 64);
		break;
	case MEMO_THEIRS:
		if (memo_wait(c->m, item, &e) < 0) {
			assert_int_equal(e.code, -ETIMEDOUT);
			assert_string_equal(e.text, "it broke");
			c->failed++;
			return NULL;
		}
		break;
	case MEMO_READY:
		break;
	case MEMO_NOMEM:
		fail();
	}
	assert_int_equal(item->data[10], 7);
	memo_put(c->m, item);
	return NULL;
}

static void run_crowd(struct crowd *c)
{
	pthread_t threads[8];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, want_block, c), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
	}
}

static void block_that_many_want_is_made_once(void **state)
{
	struct crowd c = { 0 };

	(void)state;
	assert_int_equal(memo_new(64, 128, &c.m), 0);
	run_crowd(&c);
	assert_int_equal(c.made, 1);
	memo_free(c.m);
}

static void failure_reaches_everybody_who_waits(void **state)
{
	struct crowd c = { .fail = true };

	(void)state;
	assert_int_equal(memo_new(64, 128, &c.m), 0);
	run_crowd(&c);
	assert_int_equal(c.made + c.failed, 8);
	memo_free(c.m);
}

static void what_is_forgotten_is_made_anew(void **state)
{
	struct memo_item *held;
	struct memo_item *making;
	struct memo_item *same;
	struct memo *m;

	(void)state;
	assert_int_equal(memo_new(64, 512, &m), 0);
	make(m, 1);
	held = make_pinned(m, 2);
	assert_int_equal(memo_claim(m, 3, &making), MEMO_MINE);
	assert_int_equal(memo_claim(m, 3, &same), MEMO_THEIRS);
	memo_forget(m);
	for (uint64_t key = 1; key <= 3; key++) {
		assert_false(memo_has(m, key));
		make(m, key);
	}
	/* Who was here before has what there was. */
	assert_int_equal(held->data[63], 2);
	memset(making->data, 9, 64);
	memo_publish(m, making, 64);
	assert_int_equal(memo_wait(m, same, NULL), 0);
	assert_ptr_equal(same, making);
	assert_int_equal(same->data[63], 9);
	memo_put(m, making);
	memo_put(m, same);
	memo_put(m, held);
	for (uint64_t key = 1; key <= 3; key++) {
		assert_true(present(m, key));
	}
	memo_free(m);
}

static void a_forgotten_block_may_fail(void **state)
{
	const struct err why = { .code = -EIO, .text = "no" };
	struct memo_item *making;
	struct memo_item *same;
	struct err e = { 0 };
	struct memo *m;

	(void)state;
	assert_int_equal(memo_new(64, 256, &m), 0);
	assert_int_equal(memo_claim(m, 3, &making), MEMO_MINE);
	assert_int_equal(memo_claim(m, 3, &same), MEMO_THEIRS);
	memo_forget(m);
	make(m, 3);
	memo_fail(m, making, &why);
	assert_int_equal(memo_wait(m, same, &e), -EIO);
	assert_true(present(m, 3));
	memo_free(m);
}

/* What was read before is not for those who come after. */
static void what_is_outdated_is_shared_with_nobody(void **state)
{
	struct memo_item *item;
	struct memo *m;
	uint64_t age;

	(void)state;
	assert_int_equal(memo_new(64, 256, &m), 0);
	age = memo_age(m);
	make(m, 1);
	assert_int_equal(memo_claim_of_age(m, 1, age, &item), MEMO_READY);
	memo_put(m, item);
	memo_forget(m);
	assert_int_equal(memo_claim_of_age(m, 1, age, &item), MEMO_MINE);
	assert_false(memo_has(m, 1));
	make(m, 1);
	memset(item->data, 9, 64);
	memo_publish(m, item, 64);
	memo_put(m, item);
	assert_true(present(m, 1));
	assert_int_equal(memo_claim_of_age(m, 1, age, &item), MEMO_MINE);
	memo_publish(m, item, 64);
	memo_put(m, item);
	assert_int_equal(memo_claim_of_age(m, 1, memo_age(m), &item), MEMO_READY);
	memo_put(m, item);
	memo_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(least_recently_used_block_goes_first),
		cmocka_unit_test(pinned_blocks_stay_and_the_surplus_goes),
		cmocka_unit_test(failed_block_is_tried_anew),
		cmocka_unit_test(block_that_many_want_is_made_once),
		cmocka_unit_test(failure_reaches_everybody_who_waits),
		cmocka_unit_test(what_is_forgotten_is_made_anew),
		cmocka_unit_test(a_forgotten_block_may_fail),
		cmocka_unit_test(what_is_outdated_is_shared_with_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
