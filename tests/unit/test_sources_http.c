/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "sources/source.h"
#include "tests/unit/fake_image.h"
#include "tests/unit/tiny_server.h"

struct fixture {
	struct tiny_server *server;
	struct net *net;
	char url[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->server = tiny_server_start();
	assert_int_equal(net_new(0, &f->net, NULL), 0);
	snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u/a.raw", f->server->port);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	net_free(f->net);
	tiny_server_stop(f->server);
	free(f);
	return 0;
}

static struct image *open_with(const struct fixture *f, const struct source_opts *opts)
{
	struct image *img = NULL;
	struct err e = { 0 };

	if (source_open(f->net, f->url, opts, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static uint64_t number(struct image *img, const char *key)
{
	struct report r = REPORT_INIT;
	const struct report_item *item;
	uint64_t n;

	image_report(img, &r);
	item = report_find(&r, "http", key);
	assert_non_null(item);
	n = item->number;
	report_clear(&r);
	return n;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void opening_is_one_request_whose_bytes_are_used(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	CLEANUP_FREE uint8_t *buf = malloc(65536);

	assert_int_equal(f->server->requests, 1);
	assert_int_equal(img->size, MIB(8));
	assert_int_equal(img->flags, 0);
	assert_int_equal(image_read_at(img, buf, 65536, 0, NULL), 0);
	assert_true(fake_matches(buf, 1, 0, 65536));
	assert_int_equal(f->server->requests, 1);
	assert_int_equal(image_read_at(img, buf, 10, 65531, NULL), 0);
	assert_true(fake_matches(buf, 1, 65531, 10));
	assert_int_equal(f->server->requests, 2);
	assert_int_equal(number(img, "bytes_fetched"), 65536 + 5);
	assert_int_equal(f->server->connections, 1);
}

struct reader {
	pthread_t thread;
	struct image *img;
	uint64_t off;
	int result;
	bool right;
	struct err e;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[4096];

	r->result = image_read_at(r->img, buf, sizeof(buf), r->off, &r->e);
	r->right = r->result == 0 && fake_matches(buf, 1, r->off, sizeof(buf));
	return NULL;
}

static void start_readers(struct reader *readers, size_t count, struct image *img)
{
	for (size_t i = 0; i < count; i++) {
		readers[i] = (struct reader){ .img = img, .off = KIB(128) + i * KIB(100) };
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, read_one, &readers[i]), 0);
	}
}

static void join_readers(struct reader *readers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		pthread_join(readers[i].thread, NULL);
	}
}

static void thirty_two_reads_do_not_wait_for_each_other(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct reader readers[32];

	f->server->delay_us = 300000;
	start_readers(readers, 32, img);
	join_readers(readers, 32);
	for (int i = 0; i < 32; i++) {
		assert_true(readers[i].right);
	}
	assert_int_equal(f->server->most, 32);
}

static void an_overloaded_server_gets_less_at_once(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct reader readers[16];

	f->server->delay_us = 20000;
	f->server->fail_status = 503;
	f->server->fail_next = 6;
	start_readers(readers, 16, img);
	join_readers(readers, 16);
	f->server->most = 0;
	start_readers(readers, 16, img);
	join_readers(readers, 16);
	for (int i = 0; i < 16; i++) {
		assert_true(readers[i].right);
	}
	assert_in_range(f->server->most, 1, 15);
	assert_int_equal(number(img, "retries"), 6);
}

static void a_stop_ends_what_blocks(void **state)
{
	struct fixture *f = *state;
	struct source_opts opts = { .retry_hard = true };
	CLEANUP(image_closep) struct image *img = open_with(f, &opts);
	struct reader readers[40];
	double begun;

	f->server->silent = true;
	start_readers(readers, 40, img);
	while (f->server->requests < 33) {
		usleep(1000);
	}
	begun = seconds();
	net_stop(f->net);
	join_readers(readers, 40);
	assert_true(seconds() - begun < 5);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(readers[i].result, -ECANCELED);
	}
}

static void a_silent_server_is_left_after_the_time_limit(void **state)
{
	struct fixture *f = *state;
	struct source_opts opts = { .timeout_s = 2 };
	CLEANUP(image_closep) struct image *img = open_with(f, &opts);
	struct err e = { 0 };
	double begun = seconds();
	unsigned int requests;
	uint8_t buf[16];

	f->server->silent = true;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), &e), -ETIMEDOUT);
	assert_in_range((uint64_t)(seconds() - begun), 1, 10);
	assert_non_null(strstr(e.text, f->url));
	assert_in_range(number(img, "stalls"), 1, 2);
	requests = f->server->requests;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), &e), -ETIMEDOUT);
	assert_int_equal(f->server->requests, requests + 1); /* one attempt: nobody is there */
	f->server->silent = false;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), &e), 0);
	assert_true(fake_matches(buf, 1, MIB(1), 16));
}

static void errors_with_long_bodies_are_no_progress(void **state)
{
	struct fixture *f = *state;
	struct source_opts opts = { .timeout_s = 2 };
	CLEANUP(image_closep) struct image *img = open_with(f, &opts);
	double begun = seconds();
	uint8_t buf[16];

	f->server->fail_status = 503;
	f->server->fail_next = 60;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), NULL), -ETIMEDOUT);
	assert_true(seconds() - begun < 10);
}

static void a_kept_redirect_that_leads_astray_is_resolved_anew(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	uint8_t buf[16];

	f->server->redirects[0].to = "/session1";
	f->server->redirects[0].from = "/a.raw";
	img = open_with(f, NULL);
	assert_int_equal(f->server->requests, 2);
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), NULL), 0);
	assert_int_equal(f->server->requests, 3);
	f->server->redirects[2].from = "/login";
	f->server->redirects[1].to = "/login";
	f->server->redirects[1].from = "/session1";
	f->server->redirects[0].to = "/session2";
	assert_int_equal(image_read_at(img, buf, 16, MIB(2), NULL), 0);
	assert_true(fake_matches(buf, 1, MIB(2), 16));
	assert_int_equal(number(img, "redirects"), 3);
}

static void a_hard_read_outlives_the_time_limit(void **state)
{
	struct fixture *f = *state;
	struct source_opts opts = { .timeout_s = 1, .retry_hard = true };
	CLEANUP(image_closep) struct image *img = open_with(f, &opts);
	struct reader reader;

	f->server->silent = true;
	start_readers(&reader, 1, img);
	sleep(3);
	f->server->silent = false;
	join_readers(&reader, 1);
	assert_true(reader.right);
}

static void a_changed_image_is_noticed_once_and_for_all(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct err e = { 0 };
	unsigned int requests;
	uint8_t buf[16];

	f->server->version = 2;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), &e), -ESTALE);
	requests = f->server->requests;
	f->server->version = 1;
	assert_int_equal(image_read_at(img, buf, 16, MIB(2), &e), -ESTALE);
	assert_int_equal(f->server->requests, requests);
}

static void a_server_that_stops_serving_ranges_is_an_error(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct err e = { 0 };
	uint8_t buf[16];

	f->server->ranges = false;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), &e), -EPROTO);
	assert_non_null(strstr(e.text, "ranges"));
}

struct collected {
	uint64_t next;
	bool right;
};

static int collect(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct collected *c = ctx;

	c->right = c->right && off == c->next && fake_matches(buf, 1, off, n);
	c->next = off + n;
	return 0;
}

static int refuse_second(void *ctx, uint64_t off, const void *buf, size_t n)
{
	int *calls = ctx;

	(void)off;
	(void)buf;
	(void)n;
	return (*calls)++ ? -ENOSPC : 0;
}

static void a_stream_goes_on_where_it_broke(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct collected c = { 100, true };

	f->server->cut_after = KIB(900);
	assert_int_equal(image_stream_at(img, 100, MIB(7), collect, &c, NULL), 0);
	assert_true(c.right);
	assert_int_equal(c.next, MIB(7) + 100);
	assert_int_equal(number(img, "retries"), 7);
	assert_int_equal(number(img, "bytes_fetched"), MIB(7) + 100);
}

/* As a cache on a slow disk does. */
static int collect_slowly(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct collected *c = ctx;

	if (c->next < MIB(1) && off + n >= MIB(1)) {
		usleep(2200000);
	}
	return collect(ctx, off, buf, n);
}

static void a_slow_sink_is_no_silence_of_the_server(void **state)
{
	struct fixture *f = *state;
	struct source_opts opts = { .timeout_s = 2 };
	CLEANUP(image_closep) struct image *img = open_with(f, &opts);
	struct collected c = { 0, true };
	struct reader reader;

	f->server->delay_us = 800000;
	start_readers(&reader, 1, img);
	while (f->server->requests < 2) {
		usleep(1000);
	}
	f->server->delay_us = 0;
	assert_int_equal(image_stream_at(img, 0, MIB(4), collect_slowly, &c, NULL), 0);
	join_readers(&reader, 1);
	assert_true(c.right && reader.right);
	assert_int_equal(number(img, "retries"), 0);
}

static void a_sink_stops_its_stream(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_with(f, NULL);
	struct err e = { 0 };
	int calls = 0;

	assert_int_equal(image_stream_at(img, 0, MIB(8), refuse_second, &calls, &e), -ENOSPC);
	assert_int_equal(calls, 2);
}

static void without_ranges_the_file_is_read_in_order(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	struct collected c = { 0, true };
	struct collected late = { MIB(3), true };

	f->server->ranges = false;
	img = open_with(f, NULL);
	assert_int_equal(img->flags, IMAGE_SEQUENTIAL);
	assert_int_equal(image_stream_at(img, 0, MIB(8), collect, &c, NULL), 0);
	assert_true(c.right && c.next == MIB(8));
	assert_int_equal(image_stream_at(img, MIB(3), MIB(1), collect, &late, NULL), 0);
	assert_true(late.right && late.next == MIB(4));
	assert_int_equal(f->server->requests, 3);
}

static void without_ranges_a_break_starts_over_unseen(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	struct collected c = { 0, true };
	struct err e = { 0 };

	f->server->ranges = false;
	img = open_with(f, NULL);
	f->server->cut_after = MIB(3);
	assert_int_equal(image_stream_at(img, 0, MIB(8), collect, &c, &e), -ETIMEDOUT);
	assert_true(c.right);
	assert_int_equal(c.next, MIB(3));
	assert_in_range(number(img, "retries"), 2, 20);
	c = (struct collected){ 0, true };
	assert_int_equal(image_stream_at(img, 0, MIB(3), collect, &c, &e), 0);
	assert_true(c.right);
}

static void without_ranges_a_server_may_be_away_for_a_while(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	struct collected c = { 0, true };

	f->server->ranges = false;
	img = open_with(f, NULL);
	f->server->fail_status = 503;
	f->server->fail_next = 6;
	assert_int_equal(image_stream_at(img, 0, MIB(8), collect, &c, NULL), 0);
	assert_true(c.right && c.next == MIB(8));
}

static void without_ranges_and_version_a_break_is_the_end(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	struct collected c = { 0, true };
	struct err e = { 0 };

	f->server->ranges = false;
	f->server->version = 0;
	img = open_with(f, NULL);
	assert_int_equal(img->flags, IMAGE_SEQUENTIAL | IMAGE_UNVERSIONED);
	f->server->cut_after = MIB(1);
	assert_int_equal(image_stream_at(img, 0, MIB(8), collect, &c, &e), -ESTALE);
	assert_true(c.right);
	assert_non_null(strstr(e.text, "neither ranges nor a version"));
}

/* The kernel and the cache ask again for what failed. */
static void without_ranges_and_version_nothing_is_joined_to_what_broke(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	struct collected c = { 0, true };
	struct err e = { 0 };
	unsigned int requests;

	f->server->ranges = false;
	f->server->version = 0;
	img = open_with(f, NULL);
	f->server->cut_after = MIB(1);
	assert_int_equal(image_stream_at(img, 0, MIB(8), collect, &c, NULL), -ESTALE);
	f->server->cut_after = 0;
	f->server->seed = 2;
	requests = f->server->requests;
	assert_int_equal(image_stream_at(img, MIB(1), MIB(7), collect, &c, &e), -ESTALE);
	assert_non_null(strstr(e.text, "neither ranges nor a version"));
	assert_int_equal(c.next, MIB(1));
	assert_int_equal(f->server->requests, requests);
}

static void images_without_a_version_have_ids_of_their_own(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *a = NULL;
	CLEANUP(image_closep) struct image *b = NULL;

	f->server->version = 0;
	a = open_with(f, NULL);
	b = open_with(f, NULL);
	assert_int_equal(a->flags, IMAGE_UNVERSIONED);
	assert_string_not_equal(a->id, b->id);
}

/* Opens once for the id, then again with the server in the state that @spoil makes. */
static struct image *reopen(struct fixture *f, void (*spoil)(struct tiny_server *))
{
	CLEANUP(image_closep) struct image *first = open_with(f, NULL);
	struct source_opts opts = { .expected_id = first->id, .expected_size = first->size };
	struct image *again;
	double begun = seconds();

	spoil(f->server);
	again = open_with(f, &opts);
	assert_true(seconds() - begun < 15); /* and not a minute */
	assert_string_equal(again->id, first->id);
	assert_int_equal(again->size, first->size);
	return again;
}

static void make_silent(struct tiny_server *s)
{
	s->silent = true;
}

static void make_busy(struct tiny_server *s)
{
	s->fail_status = 503;
	s->fail_next = 1000000;
}

static void a_known_version_opens_while_the_server_is_silent(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = reopen(f, make_silent);
	uint8_t buf[16];

	assert_int_equal(number(img, "unconfirmed"), 1);
	f->server->silent = false;
	assert_int_equal(image_read_at(img, buf, 16, MIB(1), NULL), 0);
	assert_true(fake_matches(buf, 1, MIB(1), 16));
	assert_int_equal(number(img, "unconfirmed"), 0);
}

static void a_version_that_proves_to_be_gone_is_stale(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = reopen(f, make_busy);
	uint8_t buf[16];

	f->server->fail_next = 0;
	f->server->version = 2;
	assert_int_equal(image_read_at(img, buf, 16, 0, NULL), -ESTALE);
}

static void an_unconfirmed_image_may_turn_out_to_have_no_ranges(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = reopen(f, make_busy);
	uint8_t buf[16];

	f->server->fail_next = 0;
	f->server->ranges = false;
	assert_int_equal(image_read_at(img, buf, 16, MIB(5), NULL), 0);
	assert_true(fake_matches(buf, 1, MIB(5), 16));
}

static void do_nothing(struct tiny_server *s)
{
	(void)s;
}

static void a_known_version_is_confirmed_with_one_byte(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = reopen(f, do_nothing);
	uint8_t buf[16];

	assert_int_equal(f->server->requests, 2);
	assert_int_equal(number(img, "bytes_fetched"), 1);
	assert_int_equal(number(img, "unconfirmed"), 0);
	assert_int_equal(img->flags, 0);
	assert_int_equal(image_read_at(img, buf, 16, 0, NULL), 0);
	assert_true(fake_matches(buf, 1, 0, 16));
}

static void a_known_version_without_ranges_is_read_in_order_again(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = NULL;
	uint8_t buf[16];

	f->server->ranges = false;
	img = reopen(f, do_nothing);
	assert_int_equal(img->flags, IMAGE_SEQUENTIAL);
	assert_int_equal(image_read_at(img, buf, 16, MIB(5), NULL), 0);
	assert_true(fake_matches(buf, 1, MIB(5), 16));
}

static void a_refusal_at_open_is_final(void **state)
{
	static const struct {
		int status;
		int code;
	} table[] = { { 401, -EACCES }, { 403, -EACCES }, { 404, -ENOENT } };
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *first = open_with(f, NULL);
	struct source_opts opts = { .expected_id = first->id, .expected_size = first->size };
	struct image *img = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		f->server->fail_status = table[i].status;
		f->server->fail_next = 1;
		assert_int_equal(source_open(f->net, f->url, &opts, &img, NULL), table[i].code);
		assert_int_equal(f->server->fail_next, 0);
	}
	assert_null(img);
}

static void a_changed_image_opens_as_what_it_is_now(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *first = open_with(f, NULL);
	struct source_opts opts = { .expected_id = first->id, .expected_size = first->size };
	CLEANUP(image_closep) struct image *now = NULL;

	f->server->version = 2;
	f->server->size = MIB(9);
	now = open_with(f, &opts);
	assert_int_equal(now->size, MIB(9));
	assert_string_not_equal(now->id, first->id);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(opening_is_one_request_whose_bytes_are_used),
		TEST(thirty_two_reads_do_not_wait_for_each_other),
		TEST(an_overloaded_server_gets_less_at_once),
		TEST(a_stop_ends_what_blocks),
		TEST(a_silent_server_is_left_after_the_time_limit),
		TEST(errors_with_long_bodies_are_no_progress),
		TEST(a_kept_redirect_that_leads_astray_is_resolved_anew),
		TEST(a_hard_read_outlives_the_time_limit),
		TEST(a_changed_image_is_noticed_once_and_for_all),
		TEST(a_server_that_stops_serving_ranges_is_an_error),
		TEST(a_stream_goes_on_where_it_broke),
		TEST(a_slow_sink_is_no_silence_of_the_server),
		TEST(a_sink_stops_its_stream),
		TEST(without_ranges_the_file_is_read_in_order),
		TEST(without_ranges_a_break_starts_over_unseen),
		TEST(without_ranges_a_server_may_be_away_for_a_while),
		TEST(without_ranges_and_version_a_break_is_the_end),
		TEST(without_ranges_and_version_nothing_is_joined_to_what_broke),
		TEST(images_without_a_version_have_ids_of_their_own),
		TEST(a_known_version_opens_while_the_server_is_silent),
		TEST(a_version_that_proves_to_be_gone_is_stale),
		TEST(an_unconfirmed_image_may_turn_out_to_have_no_ranges),
		TEST(a_known_version_is_confirmed_with_one_byte),
		TEST(a_known_version_without_ranges_is_read_in_order_again),
		TEST(a_refusal_at_open_is_final),
		TEST(a_changed_image_opens_as_what_it_is_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
