/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "sources/source.h"
#include "tests/unit/fake_image.h"

struct fixture {
	char dir[64];
	char path[96];
	int fd;
};

static void write_bytes(int fd, uint64_t off, size_t len)
{
	CLEANUP_FREE uint8_t *buf = malloc(len);

	for (size_t i = 0; i < len; i++) {
		buf[i] = fake_byte(3, off + i);
	}
	assert_int_equal(rw_pwrite(fd, buf, len, off), 0);
}

/* 1 MiB: data, a hole from 64 KiB to 512 KiB, data, a hole in the last 256 KiB. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/lazydisk-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/a b.raw", f->dir);
	f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, MIB(1)), 0);
	write_bytes(f->fd, 0, KIB(64));
	write_bytes(f->fd, KIB(512), KIB(256));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct image *open_it(const char *spec)
{
	struct image *img = NULL;
	struct err e = { 0 };

	if (source_open(NULL, spec, NULL, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return img;
}

static void a_file_reads_as_it_is(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_it(f->path);
	CLEANUP_FREE uint8_t *buf = malloc(MIB(1));
	struct err e = { 0 };

	assert_int_equal(img->size, MIB(1));
	assert_true(img->flags & IMAGE_LOCAL);
	assert_int_equal(image_read_at(img, buf, MIB(1), 0, &e), 0);
	assert_true(fake_matches(buf, 3, 0, KIB(64)));
	assert_true(is_zero(buf + KIB(64), KIB(448)));
	assert_true(fake_matches(buf + KIB(512), 3, KIB(512), KIB(256)));
	assert_true(is_zero(buf + KIB(768), KIB(256)));
}

static void a_file_url_is_the_same_file(void **state)
{
	struct fixture *f = *state;
	char url[160];
	CLEANUP(image_closep) struct image *img = NULL;
	CLEANUP(image_closep) struct image *plain = open_it(f->path);

	snprintf(url, sizeof(url), "file://localhost%s/a%%20b.raw", f->dir);
	img = open_it(url);
	assert_string_equal(img->id, plain->id);
}

static void check_extent(struct image *img, uint64_t off, uint64_t end, bool zero)
{
	struct extent x;
	struct err e = { 0 };

	assert_int_equal(image_extent_at(img, off, &x, &e), 0);
	assert_int_equal(x.offset, off);
	assert_int_equal(x.offset + x.length, end);
	assert_int_equal(x.zero, zero);
	assert_int_equal(x.allocated, !zero);
	assert_true(x.host == (zero ? EXTENT_NO_HOST : off));
}

static void holes_of_the_file_are_zero_extents(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_it(f->path);
	uint64_t allocated = 0;

	check_extent(img, 0, KIB(64), false);
	check_extent(img, 100, KIB(64), false);
	check_extent(img, KIB(64), KIB(512), true);
	check_extent(img, KIB(512), KIB(768), false);
	check_extent(img, KIB(1000), MIB(1), true);
	assert_int_equal(image_allocated(img, &allocated, NULL), 0);
	assert_in_range(allocated, KIB(320), KIB(400));
}

static void a_file_that_shrinks_is_stale(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_it(f->path);
	struct err e = { 0 };
	uint8_t buf[16];

	assert_int_equal(ftruncate(f->fd, KIB(4)), 0);
	assert_int_equal(image_read_at(img, buf, 16, KIB(600), &e), -ESTALE);
	assert_non_null(strstr(e.text, "shrank"));
	assert_non_null(strstr(e.text, f->path));
}

static void a_file_that_is_written_to_is_stale(void **state)
{
	struct fixture *f = *state;
	CLEANUP(image_closep) struct image *img = open_it(f->path);
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 1000, 0 } };
	struct err e = { 0 };
	uint8_t buf[16];
	struct image *again;

	write_bytes(f->fd, 8, 8);
	assert_int_equal(futimens(f->fd, times), 0);
	assert_int_equal(image_read_at(img, buf, 16, 0, &e), -ESTALE);
	again = open_it(f->path);
	assert_string_not_equal(again->id, img->id);
	image_close(again);
}

static void what_is_no_image_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct image *img = NULL;
	struct err e = { 0 };
	char fifo[128];

	assert_int_equal(source_open(NULL, f->dir, NULL, &img, &e), -EINVAL);
	assert_non_null(strstr(e.text, "directory"));
	assert_int_equal(source_open(NULL, "/nonexistent/x", NULL, &img, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/x"));
	snprintf(fifo, sizeof(fifo), "%s/fifo", f->dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(source_open(NULL, fifo, NULL, &img, &e), -EINVAL);
	unlink(fifo);
	assert_int_equal(source_open(NULL, "file://host/x", NULL, &img, &e), -EINVAL);
	assert_int_equal(source_open(NULL, "file:///x%0", NULL, &img, &e), -EINVAL);
	assert_null(img);
}

static void the_key_of_a_file_is_its_absolute_path(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *key = NULL;
	CLEANUP_FREE char *dotted = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/../%s/a b.raw", f->dir, strrchr(f->dir, '/') + 1);
	assert_int_equal(source_key(f->path, &key, NULL), 0);
	assert_int_equal(source_key(path, &dotted, NULL), 0);
	assert_string_equal(key, dotted);
	assert_memory_equal(key, "file:///tmp/", 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_reads_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_url_is_the_same_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			holes_of_the_file_are_zero_extents, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_shrinks_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_is_written_to_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_no_image_is_refused_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_key_of_a_file_is_its_absolute_path, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
