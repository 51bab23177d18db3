/* SPDX-License-Identifier: Apache-2.0 */
/* Holes, allocation and the reporting of errors of one volume, without a mount. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "fusefs/volume.h"
#include "tests/unit/fake_image.h"

#define PAGE 4096U

/* An image whose extents are given; what lies behind the last one is an error. */
struct patchy {
	struct image img;
	const struct extent *extents;
	size_t count;
	uint64_t allocated;
	int allocated_code;
	_Atomic bool gate_closed; /* allocated waits */
	_Atomic unsigned int asked;
	int read_code;
	const char *read_text;
};

static int patchy_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct patchy *p = (struct patchy *)img;

	(void)off;
	if (p->read_code) {
		return err_set(e, p->read_code, "%s", p->read_text);
	}
	memset(buf, 0x11, len);
	return 0;
}

static int patchy_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct patchy *p = (struct patchy *)img;

	p->asked++;
	for (size_t i = 0; i < p->count; i++) {
		const struct extent *x = &p->extents[i];

		if (off >= x->offset && off - x->offset < x->length) {
			*ret = *x;
			return 0;
		}
	}
	return err_set(
		e, -EBADMSG, "the table of extents is torn at %llu", (unsigned long long)off);
}

static int patchy_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct patchy *p = (struct patchy *)img;

	while (p->gate_closed) {
		usleep(1000);
	}
	if (p->allocated_code) {
		return err_set(e, p->allocated_code, "no table");
	}
	*ret = p->allocated;
	return 0;
}

static void patchy_destroy(struct image *img)
{
	image_fini(img);
}

static const struct image_ops patchy_ops = {
	.name = "patchy",
	.read_at = patchy_read_at,
	.extent_at = patchy_extent_at,
	.allocated = patchy_allocated,
	.destroy = patchy_destroy,
};

static void open_patchy(struct patchy *p, struct volume *vol, uint64_t size)
{
	struct fusefs_volume v = { .name = "disk.raw", .image = &p->img };

	assert_int_equal(image_init(&p->img, &patchy_ops, NULL, size, "patchy"), 0);
	assert_int_equal(volume_init(vol, &v), 0);
}

static void close_patchy(struct patchy *p, struct volume *vol)
{
	volume_clear(vol);
	image_close(&p->img);
}

#define DATA(o, l)                                                                                 \
	{                                                                                          \
		.offset = (o), .length = (l), .allocated = true                                    \
	}
#define ZERO(o, l)                                                                                 \
	{                                                                                          \
		.offset = (o), .length = (l), .zero = true                                         \
	}

/* Two data extents in a row, a zero extent of two parts (one stored, one not), data up to the end
 * but for a page. */
static const struct extent mixed[] = {
	DATA(0, PAGE),
	DATA(PAGE, PAGE),
	{ .offset = PAGE * 2ULL, .length = PAGE, .zero = true, .allocated = true },
	ZERO(PAGE * 3ULL, PAGE),
	DATA(PAGE * 4ULL, PAGE),
	ZERO(PAGE * 5ULL, PAGE),
};

struct seek_case {
	uint64_t from;
	int whence;
	int code; /* or 0, and `at` */
	uint64_t at;
};

static void seeking_finds_where_data_and_holes_begin(void **state)
{
	static const struct seek_case cases[] = {
		{ 0, SEEK_DATA, 0, 0 },
		{ 0, SEEK_HOLE, 0, PAGE * 2 },
		{ 5000, SEEK_DATA, 0, 5000 },
		{ PAGE * 2, SEEK_DATA, 0, PAGE * 4 },
		{ PAGE * 2 + 1, SEEK_DATA, 0, PAGE * 4 },
		{ PAGE * 2 + 1, SEEK_HOLE, 0, PAGE * 2 + 1 },
		{ PAGE * 4 - 1, SEEK_DATA, 0, PAGE * 4 },
		{ PAGE * 4, SEEK_HOLE, 0, PAGE * 5 },
		{ PAGE * 5, SEEK_DATA, -ENXIO, 0 },
		{ PAGE * 5 + 7, SEEK_HOLE, 0, PAGE * 5 + 7 },
		{ PAGE * 6, SEEK_DATA, -ENXIO, 0 },
		{ PAGE * 6, SEEK_HOLE, -ENXIO, 0 },
		{ UINT64_MAX, SEEK_DATA, -ENXIO, 0 },
		{ 0, SEEK_SET, -EINVAL, 0 },
	};
	struct patchy p = { .extents = mixed, .count = ARRAY_SIZE(mixed) };
	struct volume vol;

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t at = 0;

		assert_int_equal(volume_seek(&vol, cases[i].from, cases[i].whence, NULL, NULL, &at),
			cases[i].code);
		assert_int_equal(at, cases[i].at);
	}
	close_patchy(&p, &vol);
}

static void the_end_is_a_hole_behind_data(void **state)
{
	static const struct extent all[] = { DATA(0, 1000) };
	struct patchy p = { .extents = all, .count = 1 };
	struct volume vol;
	uint64_t at = 0;

	(void)state;
	open_patchy(&p, &vol, 1000);
	assert_int_equal(volume_seek(&vol, 3, SEEK_HOLE, NULL, NULL, &at), 0);
	assert_int_equal(at, 1000);
	close_patchy(&p, &vol);
}

static void a_search_that_meets_an_error_fails_and_does_not_hide_data(void **state)
{
	static const struct extent torn[] = { ZERO(0, PAGE), ZERO(PAGE, PAGE) };
	struct patchy p = { .extents = torn, .count = 2 };
	struct volume vol;
	uint64_t at = 77;

	(void)state;
	open_patchy(&p, &vol, PAGE * 4ULL);
	assert_int_equal(volume_seek(&vol, 0, SEEK_DATA, NULL, NULL, &at), -EIO);
	assert_int_equal(volume_seek(&vol, PAGE * 2ULL, SEEK_HOLE, NULL, NULL, &at), -EIO);
	assert_int_equal(at, 77);
	close_patchy(&p, &vol);
}

static bool after_two(void *ctx)
{
	return ++*(unsigned int *)ctx == 2;
}

static void a_search_can_be_interrupted(void **state)
{
	struct patchy p = { .extents = mixed, .count = ARRAY_SIZE(mixed) };
	struct volume vol;
	unsigned int calls = 0;
	uint64_t at = 0;

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	assert_int_equal(volume_seek(&vol, 0, SEEK_HOLE, after_two, &calls, &at), -EINTR);
	assert_int_equal(p.asked, 2);
	close_patchy(&p, &vol);
}

static void *count_it(void *vol)
{
	volume_count(vol);
	return NULL;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void waiting_for_the_allocation_ends_and_is_not_repeated(void **state)
{
	struct patchy p = { .allocated = PAGE, .gate_closed = true };
	struct volume vol;
	double start;
	pthread_t t;
	bool final;

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	assert_int_equal(pthread_create(&t, NULL, count_it, &vol), 0);
	start = seconds();
	assert_int_equal(volume_allocated(&vol, &final), PAGE * 6);
	assert_false(final);
	assert_true(seconds() - start >= 1.9);
	assert_true(seconds() - start < 10);
	start = seconds();
	assert_int_equal(volume_allocated(&vol, &final), PAGE * 6);
	assert_true(seconds() - start < 1);
	p.gate_closed = false;
	pthread_join(t, NULL);
	assert_int_equal(volume_allocated(&vol, &final), PAGE);
	assert_true(final);
	close_patchy(&p, &vol);
}

static void who_waits_for_the_allocation_gets_it_when_it_is_known(void **state)
{
	struct patchy p = { .allocated = PAGE };
	struct volume vol;
	pthread_t t;
	bool final = false;

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	assert_int_equal(pthread_create(&t, NULL, count_it, &vol), 0);
	assert_int_equal(volume_allocated(&vol, &final), PAGE);
	assert_true(final);
	pthread_join(t, NULL);
	close_patchy(&p, &vol);
}

static void an_allocation_that_cannot_be_had_is_the_size(void **state)
{
	struct patchy p = { .allocated_code = -EBADMSG };
	struct volume vol;
	bool final = false;

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	volume_count(&vol);
	assert_int_equal(volume_allocated(&vol, &final), PAGE * 6);
	assert_true(final);
	p.allocated_code = 0;
	p.allocated = UINT64_MAX;
	volume_count(&vol);
	assert_int_equal(volume_allocated(&vol, &final), PAGE * 6);
	close_patchy(&p, &vol);
}

static void readers_see_errors_that_block_layers_know(void **state)
{
	static const int as_io[] = { -EBADMSG, -ENOKEY, -EPROTO, -ETIMEDOUT, -ECONNRESET, -EACCES,
		-ENOENT, -ENXIO, -EKEYREJECTED, -EINVAL, -EIO };
	static const int kept[] = { -ESTALE, -ENOSPC, -EDQUOT, -EROFS, -EINTR, -ENOMEM,
		-EOPNOTSUPP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(as_io); i++) {
		assert_int_equal(volume_errno(as_io[i]), -EIO);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		assert_int_equal(volume_errno(kept[i]), kept[i]);
	}
}

/* What went to stderr while @fn ran, on several lines. */
static void caught(void (*fn)(struct volume *vol, struct patchy *p), struct volume *vol,
	struct patchy *p, char *ret, size_t room)
{
	FILE *f = tmpfile();
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	size_t n;

	assert_non_null(f);
	fflush(stderr);
	assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
	fn(vol, p);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	rewind(f);
	n = fread(ret, 1, room - 1, f);
	ret[n] = '\0';
	fclose(f);
}

static void fail_the_same_way(struct volume *vol, struct patchy *p)
{
	char buf[16];

	p->read_code = -ETIMEDOUT;
	p->read_text = "GET x: no answer within 30 s";
	for (uint64_t i = 0; i < 50; i++) {
		assert_int_equal(volume_read(vol, buf, sizeof(buf), 4096 + i), -EIO);
	}
}

static void fail_in_new_ways(struct volume *vol, struct patchy *p)
{
	static char text[32];
	char buf[16];

	p->read_text = text;
	for (unsigned int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "failure number %u", i);
		assert_int_equal(volume_read(vol, buf, sizeof(buf), 0), -EIO);
	}
}

static unsigned int lines_of(const char *text)
{
	unsigned int n = 0;

	for (; *text; text++) {
		n += *text == '\n';
	}
	return n;
}

static void an_error_is_reported_once_with_name_offset_and_text(void **state)
{
	struct patchy p = { 0 };
	struct volume vol;
	char text[8192];

	(void)state;
	open_patchy(&p, &vol, PAGE * 6ULL);
	caught(fail_the_same_way, &vol, &p, text, sizeof(text));
	assert_string_equal(text, "lazydisk: error: disk.raw: read of 16 bytes at 4096: GET x: no "
				  "answer within 30 s\n");
	caught(fail_in_new_ways, &vol, &p, text, sizeof(text));
	assert_non_null(strstr(text, "failure number 0 (49 more errors before it)\n"));
	assert_int_equal(lines_of(text), 4);
	vol.window -= 31;
	caught(fail_the_same_way, &vol, &p, text, sizeof(text));
	assert_non_null(strstr(text, "no answer within 30 s (46 more errors before it)\n"));
	assert_int_equal(lines_of(text), 1);
	close_patchy(&p, &vol);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seeking_finds_where_data_and_holes_begin),
		cmocka_unit_test(the_end_is_a_hole_behind_data),
		cmocka_unit_test(a_search_that_meets_an_error_fails_and_does_not_hide_data),
		cmocka_unit_test(a_search_can_be_interrupted),
		cmocka_unit_test(who_waits_for_the_allocation_gets_it_when_it_is_known),
		cmocka_unit_test(waiting_for_the_allocation_ends_and_is_not_repeated),
		cmocka_unit_test(an_allocation_that_cannot_be_had_is_the_size),
		cmocka_unit_test(readers_see_errors_that_block_layers_know),
		cmocka_unit_test(an_error_is_reported_once_with_name_offset_and_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
