/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/workq.h"

static const unsigned int no_limits[WORKQ_PRIORITIES];

struct job {
	struct work work;
	int number;
};

static _Atomic bool gate;
static _Atomic int order[16];
static _Atomic int done;
static _Atomic int now;
static _Atomic int most;

static void note(struct work *w)
{
	order[done++] = ((struct job *)w)->number;
}

static void wait_for_gate(struct work *w)
{
	int n = ++now;

	(void)w;
	if (n > most) {
		most = n;
	}
	while (!gate) {
		usleep(100);
	}
	now--;
	done++;
}

static int reset(void **state)
{
	(void)state;
	gate = false;
	done = now = most = 0;
	return 0;
}

static void urgent_jobs_run_first(void **state)
{
	struct job blocker = { { wait_for_gate, 0, 0, 0 }, 0 };
	struct job a = { { note, 2, 0, 0 }, 1 };
	struct job b = { { note, 2, 0, 0 }, 2 };
	struct job c = { { note, 1, 0, 0 }, 3 };
	struct job d = { { note, 2, 0, 0 }, 4 };
	struct job gone = { { note, 0, 0, 0 }, 5 };
	struct workq *q;

	(void)state;
	assert_int_equal(workq_new("t", 1, no_limits, &q, NULL), 0);
	workq_push(q, &blocker.work);
	while (!now) {
		usleep(100);
	}
	workq_push(q, &a.work);
	workq_push(q, &b.work);
	workq_push(q, &c.work);
	workq_push(q, &d.work);
	workq_push(q, &gone.work);
	assert_true(workq_cancel(q, &gone.work));
	assert_false(workq_cancel(q, &gone.work));
	workq_promote(q, &d.work, 0);
	gate = true;
	workq_free(q);
	assert_int_equal(done, 5);
	assert_int_equal(order[1], 4);
	assert_int_equal(order[2], 3);
	assert_int_equal(order[3], 1);
	assert_int_equal(order[4], 2);
}

static void background_jobs_leave_threads_free(void **state)
{
	const unsigned int limits[WORKQ_PRIORITIES] = { 0, 0, 2, 1 };
	struct work low[4];
	struct work high = { wait_for_gate, 0, 0, 0 };
	struct workq *q;

	(void)state;
	assert_int_equal(workq_new("t", 4, limits, &q, NULL), 0);
	for (int i = 0; i < 4; i++) {
		low[i] = (struct work){ wait_for_gate, i < 3 ? 2 : 3, 0, 0 };
		workq_push(q, &low[i]);
	}
	while (now < 2) {
		usleep(100);
	}
	usleep(20000);
	assert_int_equal(now, 2);
	workq_push(q, &high);
	while (now < 3) {
		usleep(100);
	}
	gate = true;
	workq_free(q);
	assert_int_equal(done, 5);
	assert_int_equal(most, 3);
}

static void a_burst_starts_as_many_threads_as_jobs(void **state)
{
	struct work w[8];
	struct workq *q;

	(void)state;
	assert_int_equal(workq_new("t", 8, no_limits, &q, NULL), 0);
	usleep(5000);
	for (int i = 0; i < 8; i++) {
		w[i] = (struct work){ wait_for_gate, 0, 0, 0 };
		workq_push(q, &w[i]);
	}
	while (now < 8) {
		usleep(100);
	}
	gate = true;
	workq_free(q);
	assert_int_equal(done, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(urgent_jobs_run_first, reset),
		cmocka_unit_test_setup(background_jobs_leave_threads_free, reset),
		cmocka_unit_test_setup(a_burst_starts_as_many_threads_as_jobs, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
