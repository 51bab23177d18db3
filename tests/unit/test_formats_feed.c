/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/feed.h"
#include "tests/unit/fake_image.h"

#define SEED 5

static struct feed *open_feed(struct fake_image *fake, uint64_t off, uint64_t end)
{
	struct feed *f = NULL;

	assert_int_equal(feed_open(&fake->img, off, end, &f, NULL), 0);
	return f;
}

static void bytes_come_in_order_and_end_where_they_should(void **state)
{
	struct fake_image *fake = fake_image_new(MIB(3), SEED, NULL);
	uint64_t end = MIB(2) + 77;
	struct feed *f = open_feed(fake, 1001, end);
	uint64_t at = 1001;
	const uint8_t *p;
	size_t n;

	(void)state;
	for (;;) {
		assert_int_equal(feed_offset(f), at);
		assert_int_equal(feed_left(f), end - at);
		assert_int_equal(feed_peek(f, &p, &n, NULL), 0);
		if (n == 0) {
			break;
		}
		n = n > 9999 ? 9999 : n;
		assert_true(fake_matches(p, SEED, at, n));
		feed_take(f, n);
		at += n;
	}
	assert_int_equal(at, end);
	assert_int_equal(fake->bytes, end - 1001);
	feed_close(f);
	image_close(&fake->img);
}

static void needed_bytes_are_in_one_piece(void **state)
{
	struct fake_image *fake = fake_image_new(MIB(1), SEED, NULL);
	struct feed *f = open_feed(fake, 0, MIB(1));
	struct err e = { 0 };
	const uint8_t *p;

	(void)state;
	assert_int_equal(feed_need(f, 10, &p, NULL), 0);
	feed_take(f, 3);
	assert_int_equal(feed_need(f, FEED_PIECE, &p, NULL), 0);
	assert_true(fake_matches(p, SEED, 3, FEED_PIECE));
	feed_take(f, FEED_PIECE);
	assert_int_equal(feed_skip(f, MIB(1) - 3 - FEED_PIECE - 5, NULL), 0);
	assert_int_equal(feed_need(f, 6, &p, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "offset 1048576"));
	assert_int_equal(feed_need(f, 5, &p, NULL), 0);
	assert_true(fake_matches(p, SEED, MIB(1) - 5, 5));
	feed_close(f);
	image_close(&fake->img);
}

static void skipped_bytes_are_not_read(void **state)
{
	struct fake_image *fake = fake_image_new(GIB(1), SEED, NULL);
	struct feed *f = open_feed(fake, 0, GIB(1));
	const uint8_t *p;

	(void)state;
	assert_int_equal(feed_need(f, 1, &p, NULL), 0);
	feed_take(f, 1);
	assert_int_equal(feed_skip(f, 99, NULL), 0);
	assert_int_equal(feed_need(f, 1, &p, NULL), 0);
	assert_true(fake_matches(p, SEED, 100, 1));
	assert_int_equal(feed_skip(f, MIB(900), NULL), 0);
	assert_int_equal(feed_offset(f), MIB(900) + 100);
	assert_int_equal(feed_need(f, 1, &p, NULL), 0);
	assert_true(fake_matches(p, SEED, MIB(900) + 100, 1));
	assert_int_equal(fake->bytes, 2 * FEED_PIECE);
	assert_int_equal(feed_skip(f, MIB(900), NULL), -EBADMSG);
	feed_close(f);
	image_close(&fake->img);
}

static void failure_below_is_passed_on_and_may_be_repeated(void **state)
{
	struct fake_image *fake = fake_image_new(MIB(1), SEED, NULL);
	struct feed *f = open_feed(fake, 0, MIB(1));
	const uint8_t *p;
	size_t n;

	(void)state;
	fake->fail_code = -ETIMEDOUT;
	fake->fail_next = 1;
	assert_int_equal(feed_peek(f, &p, &n, NULL), -ETIMEDOUT);
	assert_int_equal(feed_peek(f, &p, &n, NULL), 0);
	assert_true(fake_matches(p, SEED, 0, n));
	feed_close(f);
	image_close(&fake->img);
}

/* An image that only counts what it is told will be read. */
struct hinted {
	struct image img;
	uint64_t from;
	uint64_t to; /* hints are one run from `from` */
	uint64_t read;
	uint64_t most; /* hinted ahead of what was read */
};

static int hinted_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct hinted *h = (struct hinted *)img;

	(void)e;
	memset(buf, 1, len);
	h->read = off + len;
	return 0;
}

static void hinted_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct hinted *h = (struct hinted *)img;

	if (h->to == 0) {
		h->from = off;
		h->to = off;
	}
	assert_int_equal(off, h->to);
	h->to = off + len;
	h->most = max_u64(h->most, h->to - h->read);
}

static void hints_run_ahead_without_gaps_and_not_past_the_end(void **state)
{
	static const struct image_ops ops = {
		.name = "hinted", .read_at = hinted_read_at, .prefetch = hinted_prefetch
	};
	struct hinted h = { .read = 5 };
	struct feed *f = NULL;
	const uint8_t *p;
	size_t n = 1;

	(void)state;
	assert_int_equal(image_init(&h.img, &ops, NULL, MIB(64), "h"), 0);
	assert_int_equal(feed_open(&h.img, 5, MIB(40), &f, NULL), 0);
	while (n > 0) {
		assert_int_equal(feed_peek(f, &p, &n, NULL), 0);
		feed_take(f, n);
	}
	assert_int_equal(h.from, 5);
	assert_int_equal(h.to, MIB(40));
	assert_int_equal(h.read, MIB(40));
	assert_int_equal(h.most, FEED_AHEAD);
	feed_close(f);
	image_fini(&h.img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_in_order_and_end_where_they_should),
		cmocka_unit_test(needed_bytes_are_in_one_piece),
		cmocka_unit_test(skipped_bytes_are_not_read),
		cmocka_unit_test(failure_below_is_passed_on_and_may_be_repeated),
		cmocka_unit_test(hints_run_ahead_without_gaps_and_not_past_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
