/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/listener.h"
#include "core/report.h"
#include "tests/unit/fake_image.h"

static void range_outside_the_image_is_refused(void **state)
{
	struct image *img = &fake_image_new(1000, 1, NULL)->img;
	struct err e = { 0 };
	uint8_t buf[16];

	(void)state;
	assert_int_equal(image_read_at(img, buf, 2, 999, &e), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_non_null(strstr(e.text, "999+2"));
	assert_int_equal(image_read_at(img, buf, 1, UINT64_MAX, NULL), -EINVAL);
	assert_int_equal(image_read_at(img, buf, 0, 1000, &e), 0);
	assert_int_equal(image_read_at(img, buf, 16, 984, &e), 0);
	assert_true(fake_matches(buf, 1, 984, 16));
	image_close(img);
}

static void who_only_looks_fetches_nothing(void **state)
{
	struct fake_image *fake = fake_image_new(1000, 1, NULL);
	uint8_t buf[16];

	(void)state;
	assert_int_equal(image_peek_at(&fake->img, buf, 2, 999, NULL), -EINVAL);
	assert_int_equal(image_peek_at(&fake->img, buf, 0, 1000, NULL), 0);
	assert_int_equal(image_peek_at(&fake->img, buf, 16, 0, NULL), -EAGAIN);
	assert_int_equal(fake->transfers, 0);
	image_close(&fake->img);
}

static int collect(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *next = ctx;

	assert_int_equal(off, *next);
	assert_true(fake_matches(buf, 2, off, n));
	*next += n;
	return 0;
}

static void stream_is_in_order_and_complete(void **state)
{
	struct image *img = &fake_image_new(MIB(3) + 7, 2, NULL)->img;
	uint64_t next = 5;

	(void)state;
	assert_int_equal(image_stream_at(img, 5, MIB(3), collect, &next, NULL), 0);
	assert_int_equal(next, MIB(3) + 5);
	image_close(img);
}

static void image_without_extents_is_all_data(void **state)
{
	struct image *img = &fake_image_new(1000, 1, NULL)->img;
	struct extent x;

	(void)state;
	assert_int_equal(image_extent_at(img, 300, &x, NULL), 0);
	assert_int_equal(x.offset, 300);
	assert_int_equal(x.length, 700);
	assert_false(x.zero);
	assert_int_equal(image_extent_at(img, 1000, &x, NULL), -EINVAL);
	image_close(img);
}

static void read_only_image_refuses_writes(void **state)
{
	struct image *img = &fake_image_new(1000, 1, NULL)->img;

	(void)state;
	assert_int_equal(image_write_at(img, "x", 1, 0, NULL), -EROFS);
	assert_int_equal(image_zero_at(img, 0, 1, NULL), -EROFS);
	assert_int_equal(image_flush(img, NULL), 0);
	image_close(img);
}

static void error_texts_are_wrapped_and_cut(void **state)
{
	struct err e = { 0 };
	char longest[2 * ERR_TEXT_MAX];

	(void)state;
	assert_int_equal(err_sys(&e, ENOENT, "open %s", "x"), -ENOENT);
	assert_string_equal(e.text, "open x: No such file or directory");
	assert_int_equal(err_wrap(&e, e.code, "layer %d", 3), -ENOENT);
	assert_string_equal(e.text, "layer 3: open x: No such file or directory");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	err_set(&e, -EIO, "%s", longest);
	err_wrap(&e, -EIO, "%s", longest);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_int_equal(err_set(NULL, -EIO, "nobody listens"), -EIO);
}

static void interrupt_reaches_every_layer(void **state)
{
	struct fake_image *low = fake_image_new(1000, 1, NULL);
	struct fake_image *top = fake_image_new(1000, 1, NULL);
	uint8_t buf[16];

	(void)state;
	top->img.below = &low->img;
	low->gate_closed = true;
	image_interrupt(&top->img);
	assert_int_equal(image_read_at(&low->img, buf, sizeof(buf), 0, NULL), -ECANCELED);
	assert_int_equal(image_read_at(&top->img, buf, sizeof(buf), 0, NULL), -ECANCELED);
	image_close(&top->img);
}

static void report_is_found_by_layer_and_key(void **state)
{
	struct image *img = &fake_image_new(1000, 1, NULL)->img;
	struct report r = REPORT_INIT;

	(void)state;
	image_report(img, &r);
	assert_int_equal(report_find(&r, "fake", "size")->number, 1000);
	assert_null(report_find(&r, "other", "size"));
	report_clear(&r);
	image_close(img);
}

static void units_are_as_the_layer_says(void **state)
{
	struct image *img = &fake_image_units(MIB(1), 1, 1000, 300)->img;
	struct image *plain = &fake_image_new(1000, 1, NULL)->img;
	uint64_t off;
	uint64_t len;

	(void)state;
	assert_int_equal(image_unit_at(img, 699, &off, &len, NULL), 0);
	assert_int_equal(off, 0);
	assert_int_equal(len, 700);
	assert_int_equal(image_unit_at(img, 700, &off, &len, NULL), 0);
	assert_int_equal(off, 700);
	assert_int_equal(len, 1000);
	assert_int_equal(image_unit_at(img, MIB(1), &off, &len, NULL), -EINVAL);
	assert_int_equal(image_unit_at(plain, 5, &off, &len, NULL), 0);
	assert_int_equal(len, 0);
	plain->flags |= IMAGE_SEQUENTIAL;
	assert_int_equal(image_unit_at(plain, 5, &off, &len, NULL), 0);
	assert_int_equal(off, 0);
	assert_int_equal(len, 1000);
	image_close(img);
	image_close(plain);
}

static int count(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *total = ctx;

	(void)off;
	(void)buf;
	*total += n;
	return 0;
}

static void provisional_size_becomes_final_at_the_end(void **state)
{
	struct image *img = &fake_image_provisional(1000, 1500, 1, 400)->img;
	uint8_t buf[1000];
	uint64_t size = 7;
	uint64_t total = 0;
	struct err e;

	(void)state;
	assert_int_equal(image_final_size(img, &size), -EAGAIN);
	assert_int_equal(size, 7);
	assert_int_equal(image_read_at(img, buf, 999, 0, &e), 0);
	assert_int_equal(image_read_at(img, buf, 1000, 0, &e), -EIO);
	assert_int_equal(image_stream_at(img, 400, 600, count, &total, &e), 0);
	assert_int_equal(total, 1100);
	assert_int_equal(image_final_size(img, &size), 0);
	assert_int_equal(size, 1500);
	assert_int_equal(image_past_end(img, 1500, &e), -EIO);
	assert_non_null(strstr(e.text, "1500"));
	image_close(img);
}

static void lent_image_survives(void **state)
{
	_Atomic bool closed = false;
	struct fake_image *low = fake_image_new(1000, 1, NULL);
	struct fake_image *high = fake_image_new(1000, 2, NULL);

	(void)state;
	low->closed = &closed;
	high->img.below = &low->img;
	high->img.borrows_below = true;
	image_close(&high->img);
	assert_false(closed);
	image_close(&low->img);
	assert_true(closed);
}

/* A layer that can withdraw, and keeps something of the layers below. */
struct doubtful {
	struct image img;
	struct listener listener;
	unsigned int forgot; /* the how manieth */
	unsigned int *order;
};

static void doubtful_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	listener_set(&((struct doubtful *)img)->listener, fn, ctx);
}

static void doubtful_forget(struct image *img)
{
	struct doubtful *d = (struct doubtful *)img;

	d->forgot = ++*d->order;
}

static void doubtful_destroy(struct image *img)
{
	struct doubtful *d = (struct doubtful *)img;

	listener_fini(&d->listener);
	image_fini(img);
}

static void count_up(void *ctx)
{
	++*(unsigned int *)ctx;
}

/* While the image was being opened, say. */
static void who_listens_late_is_told_at_once(void **state)
{
	struct fake_image *low = fake_image_new(1000, 1, NULL);
	struct fake_image *high = fake_image_new(1000, 1, NULL);
	unsigned int told = 0;
	unsigned int again = 0;

	(void)state;
	high->img.below = &low->img;
	listener_tell(&low->listener);
	image_listen(&high->img, NULL, NULL);
	image_listen(&high->img, count_up, &told);
	assert_int_equal(told, 1);
	listener_tell(&high->listener);
	assert_int_equal(told, 2);
	image_listen(&high->img, NULL, NULL);
	image_listen(&high->img, count_up, &again);
	assert_int_equal(told, 2);
	assert_int_equal(again, 2); /* once by each layer */
	image_listen(&high->img, NULL, NULL);
	image_close(&high->img);
}

static void any_layer_can_withdraw(void **state)
{
	static const struct image_ops ops = {
		.name = "doubtful",
		.listen = doubtful_listen,
		.forget = doubtful_forget,
		.destroy = doubtful_destroy,
	};
	struct image *lowest = &fake_image_new(1000, 1, NULL)->img;
	struct doubtful low;
	struct doubtful high;
	unsigned int order = 0;
	unsigned int told = 0;

	(void)state;
	low.order = &order;
	high.order = &order;
	listener_init(&low.listener);
	listener_init(&high.listener);
	assert_int_equal(image_init(&low.img, &ops, lowest, 1000, "low"), 0);
	assert_int_equal(image_init(&high.img, &ops, &low.img, 1000, "high"), 0);
	image_listen(&high.img, count_up, &told);
	assert_int_equal(told, 0);
	listener_tell(&low.listener);
	assert_int_equal(told, 1);
	listener_tell(&high.listener);
	assert_int_equal(told, 2);
	image_forget(&high.img);
	assert_int_equal(low.forgot, 1);
	assert_int_equal(high.forgot, 2);
	image_listen(&high.img, NULL, NULL);
	listener_tell(&low.listener);
	listener_tell(&high.listener);
	assert_int_equal(told, 2);
	image_close(&high.img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(range_outside_the_image_is_refused),
		cmocka_unit_test(who_only_looks_fetches_nothing),
		cmocka_unit_test(stream_is_in_order_and_complete),
		cmocka_unit_test(image_without_extents_is_all_data),
		cmocka_unit_test(read_only_image_refuses_writes),
		cmocka_unit_test(error_texts_are_wrapped_and_cut),
		cmocka_unit_test(interrupt_reaches_every_layer),
		cmocka_unit_test(report_is_found_by_layer_and_key),
		cmocka_unit_test(units_are_as_the_layer_says),
		cmocka_unit_test(provisional_size_becomes_final_at_the_end),
		cmocka_unit_test(lent_image_survives),
		cmocka_unit_test(any_layer_can_withdraw),
		cmocka_unit_test(who_listens_late_is_told_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
