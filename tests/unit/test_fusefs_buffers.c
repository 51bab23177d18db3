/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for answers: aligned, reused, bounded. */
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "fusefs/buffers.h"

#define ALL (BUFFERS_BUDGET / BUFFERS_SIZE)

static void a_buffer_is_aligned_large_enough_and_used_again(void **state)
{
	static const size_t sizes[] = { 1, 4095, 4096, BUFFERS_SIZE, BUFFERS_SIZE + 1 };
	struct buffers *b = buffers_new();
	struct buffer buf;
	const uint8_t *first;

	(void)state;
	assert_non_null(b);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_true(buffers_get(b, sizes[i], &buf));
		assert_int_equal((uintptr_t)buf.mem % 4096, 0);
		memset(buf.mem, 0xee, sizes[i]);
		buffers_put(b, &buf);
	}
	assert_true(buffers_get(b, 10, &buf));
	first = buf.mem;
	buffers_put(b, &buf);
	assert_true(buffers_get(b, BUFFERS_SIZE, &buf));
	assert_ptr_equal(buf.mem, first);
	buffers_put(b, &buf);
	buffers_free(b);
}

struct waiter {
	struct buffers *b;
	size_t size;
	_Atomic bool got;
};

static void *wait_for_one(void *arg)
{
	struct waiter *w = arg;
	struct buffer buf;

	if (buffers_get(w->b, w->size, &buf)) {
		memset(buf.mem, 1, w->size);
		w->got = true;
		buffers_put(w->b, &buf);
	}
	return NULL;
}

/* With all of the budget taken, @size bytes are had only when something is given back. */
static void expect_wait(struct buffers *b, size_t size)
{
	struct waiter w = { .b = b, .size = size };
	struct buffer bufs[ALL];
	pthread_t t;

	for (size_t i = 0; i < ALL; i++) {
		assert_true(buffers_get(b, BUFFERS_SIZE, &bufs[i]));
	}
	assert_int_equal(pthread_create(&t, NULL, wait_for_one, &w), 0);
	usleep(50000);
	assert_false(w.got);
	for (size_t i = 0; i < ALL; i++) {
		assert_true(size <= BUFFERS_SIZE || !w.got);
		buffers_put(b, &bufs[i]);
	}
	pthread_join(t, NULL);
	assert_true(w.got);
}

static void who_exceeds_the_budget_waits_for_others(void **state)
{
	struct buffers *b = buffers_new();

	(void)state;
	assert_non_null(b);
	expect_wait(b, BUFFERS_SMALL + 1);
	expect_wait(b, BUFFERS_SIZE);
	expect_wait(b, BUFFERS_BUDGET + 1);
	buffers_free(b);
}

static void small_ones_never_wait(void **state)
{
	struct buffers *b = buffers_new();
	struct buffer bufs[ALL];
	struct buffer small;

	(void)state;
	assert_non_null(b);
	for (size_t i = 0; i < ALL; i++) {
		assert_true(buffers_get(b, BUFFERS_SIZE, &bufs[i]));
	}
	assert_true(buffers_get(b, BUFFERS_SMALL, &small));
	memset(small.mem, 1, BUFFERS_SMALL);
	buffers_put(b, &small);
	for (size_t i = 0; i < ALL; i++) {
		buffers_put(b, &bufs[i]);
	}
	buffers_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_is_aligned_large_enough_and_used_again),
		cmocka_unit_test(small_ones_never_wait),
		cmocka_unit_test(who_exceeds_the_budget_waits_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
