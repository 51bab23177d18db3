/* SPDX-License-Identifier: Apache-2.0 */
/* What an overlay shows, keeps, refuses and gives back. Crashes: see test_cache_overlay_model.c. */
#include "tests/unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/overlay.h"
#include "cache/overlay_file.h"
#include "core/bytes.h"
#include "core/report.h"
#include "core/rw.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"

#define SEED 5
#define SIZE (MIB(9) + 777) /* its end is odd, and it has more than one sector of map */
#define UNIT OVERLAY_UNIT

/* DIR/o; static. */
static const char *file_in(const char *dir)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/o", dir);
	return path;
}

static int open_over(const char *path, struct image *base, struct image **ret, struct err *e)
{
	struct overlay_opts opts = { .path = path, .source = "https://host/disk" };

	return overlay_open(&opts, base, ret, e);
}

static struct image *open_it(const char *path, struct fake_image **ret_base)
{
	struct fake_image *base = fake_image_new(SIZE, SEED, "version 1");
	struct err e = { 0 };
	struct image *img;

	if (open_over(path, &base->img, &img, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	if (ret_base) {
		*ret_base = base;
	}
	return img;
}

static void expect_refused(const char *path, int code, const char *words)
{
	struct image *base = &fake_image_new(SIZE, SEED, "version 1")->img;
	struct err e = { 0 };
	struct image *img;

	assert_int_equal(open_over(path, base, &img, &e), code);
	if (!strstr(e.text, words) || !strstr(e.text, path)) {
		fprintf(stderr, "%s\n", e.text);
	}
	assert_non_null(strstr(e.text, words));
	assert_non_null(strstr(e.text, path));
	image_close(base);
}

static uint64_t reported(struct image *img, const char *key)
{
	struct report r = REPORT_INIT;
	uint64_t n;

	image_report(img, &r);
	n = report_find(&r, "overlay", key)->number;
	report_clear(&r);
	return n;
}

static uint64_t disk_used(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void write_at(struct image *img, uint64_t off, size_t len, uint8_t byte)
{
	uint8_t *buf = malloc(len);

	memset(buf, byte, len);
	assert_int_equal(image_write_at(img, buf, len, off, NULL), 0);
	free(buf);
}

/* [from, to) is @byte; or, when that is -1, what the base has. */
static void check(struct image *img, uint64_t from, uint64_t to, int byte)
{
	uint8_t *buf = malloc(to - from);

	assert_int_equal(image_read_at(img, buf, to - from, from, NULL), 0);
	if (byte < 0) {
		assert_true(fake_matches(buf, SEED, from, to - from));
	} else {
		for (uint64_t i = 0; i < to - from; i++) {
			assert_int_equal(buf[i], byte);
		}
	}
	free(buf);
}

static void what_is_written_stays_and_the_rest_is_the_base(void **state)
{
	const char *path = file_in(*state);
	struct image *img = open_it(path, NULL);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_true(image_writable(img));
	assert_true(disk_used(path) < KIB(256));
	check(img, 0, SIZE, -1);
	for (unsigned int round = 0; round < 2; round++) {
		if (round == 0) {
			write_at(img, 5, 10, 1);
			write_at(img, 3 * UNIT, 2 * UNIT, 2);
			write_at(img, 9 * UNIT - 1, UNIT + 2, 3);
			assert_int_equal(image_zero_at(img, 20 * UNIT + 7, 3 * UNIT, NULL), 0);
			write_at(img, SIZE - 1, 1, 4);
			assert_int_equal(image_zero_at(img, MIB(8) - 1, 2, NULL), 0);
		}
		check(img, 0, 5, -1);
		check(img, 5, 15, 1);
		check(img, 15, 3 * UNIT, -1);
		check(img, 3 * UNIT, 5 * UNIT, 2);
		check(img, 5 * UNIT, 9 * UNIT - 1, -1);
		check(img, 9 * UNIT - 1, 10 * UNIT + 1, 3);
		check(img, 10 * UNIT + 1, 20 * UNIT + 7, -1);
		check(img, 20 * UNIT + 7, 23 * UNIT + 7, 0);
		check(img, 23 * UNIT + 7, MIB(8) - 1, -1);
		check(img, MIB(8) - 1, MIB(8) + 1, 0);
		check(img, MIB(8) + 1, SIZE - 1, -1);
		check(img, SIZE - 1, SIZE, 4);
		if (round == 0) {
			image_close(img);
			img = open_it(path, NULL);
		}
	}
	image_close(img);
}

static void only_parts_of_units_need_the_base(void **state)
{
	struct fake_image *base;
	struct image *img = open_it(file_in(*state), &base);

	write_at(img, 7 * UNIT, 5 * UNIT, 1);
	assert_int_equal(image_zero_at(img, 30 * UNIT, 9 * UNIT, NULL), 0);
	write_at(img, SIZE / UNIT * UNIT, SIZE % UNIT, 2); /* the last one is short */
	write_at(img, 8 * UNIT + 5, 100, 3);
	write_at(img, 31 * UNIT + 5, 100, 4);
	check(img, 31 * UNIT, 31 * UNIT + 5, 0);
	assert_int_equal(base->transfers, 0);
	write_at(img, 100 * UNIT + 512, 512, 5);
	assert_int_equal(base->transfers, 1);
	assert_int_equal(base->bytes, UNIT);
	write_at(img, 100 * UNIT + 1024, 512, 6);
	assert_int_equal(image_zero_at(img, 100 * UNIT, 100, NULL), 0);
	assert_int_equal(base->transfers, 1);
	image_close(img);
}

static void a_write_that_needs_a_base_that_fails_changes_nothing(void **state)
{
	struct fake_image *base;
	struct image *img = open_it(file_in(*state), &base);
	struct err e = { 0 };

	base->fail_next = 1;
	assert_int_equal(image_write_at(img, "abc", 3, 10, &e), -EIO);
	assert_string_equal(e.text, "fake failure");
	check(img, 0, 3 * UNIT, -1);
	assert_int_equal(image_write_at(img, "abc", 3, 10, &e), 0);
	/* And when nobody can read any more, what was written can still be made durable. */
	image_interrupt(img);
	assert_int_equal(image_flush(img, NULL), 0);
	image_close(img);
	img = open_it(file_in(*state), NULL);
	check(img, 10, 11, 'a');
	check(img, 13, UNIT, -1);
	image_close(img);
}

static void space_of_what_is_zeroed_is_given_back(void **state)
{
	const char *path = file_in(*state);
	struct image *img = open_it(path, NULL);
	uint64_t before;

	write_at(img, 0, MIB(8), 1);
	assert_int_equal(image_flush(img, NULL), 0);
	before = disk_used(path);
	assert_true(before >= MIB(8));
	assert_int_equal(reported(img, "present_bytes"), MIB(8));
	assert_int_equal(image_zero_at(img, MIB(1), MIB(6), NULL), 0);
	assert_int_equal(image_flush(img, NULL), 0);
	assert_true(disk_used(path) <= before - MIB(6) + KIB(64));
	assert_int_equal(reported(img, "present_bytes"), MIB(2));
	assert_int_equal(reported(img, "zero_bytes"), MIB(6));
	assert_int_equal(reported(img, "writes"), 1);
	assert_int_equal(reported(img, "bytes_written"), MIB(8));
	assert_int_equal(reported(img, "zeroes"), 1);
	assert_int_equal(reported(img, "bytes_zeroed"), MIB(6));
	assert_int_equal(reported(img, "flushes"), 2);
	check(img, MIB(1), MIB(7), 0);
	check(img, MIB(7), MIB(8), 1);
	image_close(img);
}

/* As a process leaves it that wrote and was killed. */
static void space_that_a_crash_left_behind_is_given_back(void **state)
{
	const char *path = file_in(*state);
	struct overlay_file_shape shape;
	uint8_t *junk = calloc(1, MIB(2));
	uint64_t before;
	int fd;

	assert_int_equal(overlay_file_shape(SIZE, &shape), 0);
	image_close(open_it(path, NULL));
	before = disk_used(path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	memset(junk, 9, MIB(2));
	assert_int_equal(rw_pwrite(fd, junk, MIB(2), shape.data_off + MIB(1)), 0);
	assert_int_equal(close(fd), 0);
	free(junk);
	assert_true(disk_used(path) >= before + MIB(2));
	image_close(open_it(path, NULL));
	assert_true(disk_used(path) <= before + KIB(64));
}

static void holes_and_data_are_told_apart(void **state)
{
	struct image *img = open_it(file_in(*state), NULL);
	struct extent x;
	uint64_t bytes;

	write_at(img, 10 * UNIT, UNIT, 1);
	assert_int_equal(image_zero_at(img, 11 * UNIT, 4 * UNIT, NULL), 0);
	assert_int_equal(image_extent_at(img, 0, &x, NULL), 0);
	assert_true(!x.zero && x.length == 10 * UNIT && x.host == 0);
	assert_int_equal(image_extent_at(img, 10 * UNIT + 1, &x, NULL), 0);
	assert_true(!x.zero && x.length == UNIT - 1 && x.host == EXTENT_NO_HOST);
	assert_int_equal(image_extent_at(img, 12 * UNIT, &x, NULL), 0);
	assert_true(x.zero && x.length == 3 * UNIT);
	assert_int_equal(image_extent_at(img, 15 * UNIT, &x, NULL), 0);
	assert_true(!x.zero && x.length == SIZE - 15 * UNIT && x.host == 15 * UNIT);
	assert_int_equal(image_allocated(img, &bytes, NULL), 0);
	assert_int_equal(bytes, SIZE - 4 * UNIT);
	assert_int_equal(image_zero_at(img, 0, SIZE, NULL), 0);
	assert_int_equal(image_extent_at(img, 0, &x, NULL), 0);
	assert_true(x.zero && x.length == SIZE);
	image_close(img);
	img = open_it(file_in(*state), NULL);
	assert_int_equal(image_allocated(img, &bytes, NULL), 0);
	assert_int_equal(bytes, 0);
	write_at(img, 5, 5, 1);
	assert_int_equal(image_allocated(img, &bytes, NULL), 0);
	assert_int_equal(bytes, UNIT);
	image_close(img);
}

static void one_at_a_time(void **state)
{
	const char *path = file_in(*state);
	struct image *img = open_it(path, NULL);
	struct overlay_info info;

	expect_refused(path, -EBUSY, "in use");
	assert_int_equal(overlay_info_read(path, &info, NULL), 0);
	assert_true(info.in_use);
	overlay_info_clear(&info);
	image_close(img);
	image_close(open_it(path, NULL));
}

static void another_base_is_refused_and_both_are_named(void **state)
{
	const char *path = file_in(*state);
	struct image *img = open_it(path, NULL);
	struct image *other = &fake_image_new(SIZE, SEED, "version 2")->img;
	struct image *shorter = &fake_image_new(SIZE - 1, SEED, "version 1")->img;
	struct err e = { 0 };

	write_at(img, 0, UNIT, 1);
	image_close(img);
	assert_int_equal(open_over(path, other, &img, &e), -ESTALE);
	assert_non_null(strstr(e.text, "version 1 ("));
	assert_non_null(strstr(e.text, "version 2 ("));
	image_close(other);
	assert_int_equal(open_over(path, shorter, &img, &e), -ESTALE);
	assert_non_null(strstr(e.text, "9437961 bytes"));
	assert_non_null(strstr(e.text, "9437960 bytes"));
	image_close(shorter);
	img = open_it(path, NULL);
	check(img, 0, UNIT, 1);
	image_close(img);
}

static void long_names_show_their_ends(void **state)
{
	const char *path = file_in(*state);
	char one[700];
	char two[700];
	struct image *a;
	struct image *b;
	struct image *img;
	struct err e = { 0 };

	memset(one, 'x', sizeof(one));
	memcpy(one + sizeof(one) - 7, " etag=1", 8 - 1);
	one[sizeof(one) - 1] = '\0';
	memcpy(two, one, sizeof(one));
	two[sizeof(two) - 2] = '2';
	one[sizeof(one) - 2] = '1';
	a = &fake_image_new(SIZE, SEED, one)->img;
	b = &fake_image_new(SIZE, SEED, two)->img;
	assert_int_equal(open_over(path, a, &img, NULL), 0);
	image_close(img);
	assert_int_equal(open_over(path, b, &img, &e), -ESTALE);
	assert_non_null(strstr(e.text, "1 (9437961"));
	assert_non_null(strstr(e.text, "2 (9437961"));
	image_close(b);
}

static void a_base_without_a_version_gets_temporary_overlays_only(void **state)
{
	struct fake_image *base = fake_image_new(SIZE, SEED, "x");
	struct overlay_opts temporary = { .dir = *state };
	struct err e = { 0 };
	struct image *img;
	const struct dirent *d;
	DIR *dir;

	base->img.flags = IMAGE_UNVERSIONED;
	assert_int_equal(open_over(file_in(*state), &base->img, &img, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "https://host/disk has no version"));
	assert_int_equal(access(file_in(*state), F_OK), -1);
	assert_int_equal(overlay_open(&temporary, &base->img, &img, NULL), 0);
	write_at(img, 100, UNIT, 1);
	assert_int_equal(image_flush(img, NULL), 0);
	check(img, 100, 100 + UNIT, 1);
	check(img, 0, 100, -1);
	dir = opendir(*state);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		assert_int_equal(d->d_name[0], '.');
	}
	closedir(dir);
	image_close(img);
}

static void a_base_whose_size_is_not_known_yet_gets_none(void **state)
{
	struct fake_image *base = fake_image_new(SIZE, SEED, "x");
	struct overlay_opts temporary = { .dir = *state, .source = "https://host/disk.gz" };
	struct err e = { 0 };
	struct image *img;

	base->img.flags = IMAGE_SIZE_PROVISIONAL;
	assert_int_equal(overlay_open(&temporary, &base->img, &img, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "https://host/disk.gz is shows only at its end"));
	image_close(&base->img);
}

static void poke(const char *path, uint64_t off, const void *bytes, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(rw_pwrite(fd, bytes, len, off), 0);
	close(fd);
}

static void flip(const char *path, uint64_t off)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(rw_pread(fd, &byte, 1, off), 0);
	byte ^= 0x10;
	assert_int_equal(rw_pwrite(fd, &byte, 1, off), 0);
	close(fd);
}

static void damage_is_named_wherever_it_is(void **state)
{
	static const uint8_t zeros[OVERLAY_FILE_SECTOR];
	static const uint8_t later = 2;
	const char *path = file_in(*state);
	struct overlay_file_shape s;
	struct image *img = open_it(path, NULL);
	struct overlay_info info;
	struct err e = { 0 };

	write_at(img, 0, MIB(1), 1);
	image_close(img);
	assert_int_equal(overlay_file_shape(SIZE, &s), 0);

	flip(path, 40);
	expect_refused(path, -EBADMSG, "checksum of its header");
	flip(path, 40);
	flip(path, 5000);
	expect_refused(path, -EBADMSG, "checksum of its header");
	flip(path, 5000);
	poke(path, 8, &later, 1);
	expect_refused(path, -ENOTSUP, "version 2");
	poke(path, 8, "\1", 1);
	for (uint64_t off = 0; off < OVERLAY_FILE_PAGE; off += 500) {
		flip(path, s.root_off + off);
		expect_refused(path, -EBADMSG, "of its roots");
		flip(path, s.root_off + off);
		flip(path, s.map_off + off);
		expect_refused(path, -EBADMSG, "of its map");
		assert_int_equal(overlay_info_read(path, &info, &e), -EBADMSG);
		flip(path, s.map_off + off);
	}
	img = open_it(path, NULL);
	check(img, 0, MIB(1), 1);
	image_close(img);

	assert_int_equal(truncate(path, (off_t)s.end + 1), 0);
	expect_refused(path, -EBADMSG, "should have");
	assert_int_equal(truncate(path, (off_t)s.end), 0);
	poke(path, s.map_off, zeros, sizeof(zeros)); /* as a lost block would be */
	expect_refused(path, -EBADMSG, "sector 0 of its map");
	assert_int_equal(truncate(path, 100000), 0);
	expect_refused(path, -EBADMSG, "100000 bytes");
	assert_int_equal(truncate(path, 50), 0);
	expect_refused(path, -EBADMSG, "all but 50 bytes");
}

static void a_map_of_another_overlay_is_damage(void **state)
{
	const char *path = file_in(*state);
	char other[256];
	struct overlay_file_shape s;
	uint8_t sector[OVERLAY_FILE_SECTOR];
	struct image *img;
	int fd;

	snprintf(other, sizeof(other), "%s/other", (const char *)*state);
	assert_int_equal(overlay_file_shape(SIZE, &s), 0);
	for (int i = 0; i < 2; i++) {
		img = open_it(i ? other : path, NULL);
		write_at(img, 0, UNIT, 1);
		image_close(img);
	}
	fd = open(other, O_RDONLY | O_CLOEXEC);
	assert_int_equal(rw_pread(fd, sector, sizeof(sector), s.map_off), 0);
	close(fd);
	poke(path, s.map_off, sector, sizeof(sector));
	expect_refused(path, -EBADMSG, "sector 0 of its map");
}

static void other_files_are_left_alone(void **state)
{
	const char *path = file_in(*state);
	uint8_t *bytes = calloc(1, 100000);
	uint8_t *after = malloc(100000);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	expect_refused(path, -EINVAL, "it is empty: remove it");
	assert_int_equal(rw_pwrite(fd, bytes, 100000, 0), 0);
	expect_refused(path, -EINVAL, "no overlay");
	memset(bytes, 7, 100000);
	assert_int_equal(rw_pwrite(fd, bytes, 100000, 0), 0);
	expect_refused(path, -EINVAL, "left alone");
	assert_int_equal(rw_pread(fd, after, 100000, 0), 0);
	assert_memory_equal(bytes, after, 100000);
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused(path, -EINVAL, "not a regular file");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_refused(path, -EISDIR, "Is a directory");
	assert_int_equal(rmdir(path), 0);
	free(bytes);
	free(after);
}

static void what_cannot_be_made_is_told(void **state)
{
	struct image *base = &fake_image_new(SIZE, SEED, "version 1")->img;
	struct overlay_opts existing = { .path = file_in(*state), .existing = true };
	struct err e = { 0 };
	struct image *img;

	(void)state;
	assert_int_equal(open_over("/nowhere/at/all", base, &img, &e), -ENOENT);
	assert_non_null(strstr(e.text, "create the overlay /nowhere/at/all"));
	assert_int_equal(overlay_open(&existing, base, &img, &e), -ENOENT);
	assert_int_equal(access(existing.path, F_OK), -1);
	image_close(base);
}

static void the_file_tells_what_it_is(void **state)
{
	const char *path = file_in(*state);
	struct image *img = open_it(path, NULL);
	struct overlay_info info;

	write_at(img, UNIT, 3 * UNIT, 1);
	assert_int_equal(image_zero_at(img, MIB(2), MIB(1), NULL), 0);
	image_close(img);
	assert_int_equal(overlay_info_read(path, &info, NULL), 0);
	assert_string_equal(info.id, "version 1");
	assert_string_equal(info.source, "https://host/disk");
	assert_int_equal(info.size, SIZE);
	assert_int_equal(info.present, 3 * UNIT);
	assert_int_equal(info.zero, MIB(1));
	assert_int_equal(info.disk_used, disk_used(path));
	assert_int_equal(strlen(info.uuid), 36);
	assert_int_equal(info.uuid[14], '4');
	assert_true(info.created > 1600000000);
	assert_false(info.in_use);
	overlay_info_clear(&info);
}

/* Enough of the disk that the map takes more than one batch to save. */
static void a_disk_of_terabytes_costs_what_is_used_of_it(void **state)
{
	const char *path = file_in(*state);
	uint64_t size = GIB(8192);
	struct overlay_opts opts = { .path = path };
	struct image *img;
	struct extent x;
	uint8_t byte = 3;

	for (unsigned int round = 0; round < 2; round++) {
		struct fake_image *base = fake_image_new(size, SEED, "huge");
		int r = overlay_open(&opts, &base->img, &img, NULL);

		if (r == -EFBIG) {
			image_close(&base->img);
			skip();
		}
		assert_int_equal(r, 0);
		if (round == 0) {
			write_at(img, size - UNIT, UNIT, 1);
			assert_int_equal(image_flush(img, NULL), 0);
			assert_true(disk_used(path) < MIB(1));
			for (uint64_t i = 0; i < 600; i++) {
				write_at(img, i * GIB(8), 1, 2);
			}
			assert_int_equal(image_zero_at(img, GIB(4000), GIB(40), NULL), 0);
		}
		check(img, size - UNIT, size, 1);
		assert_int_equal(image_read_at(img, &byte, 1, GIB(8) * 599, NULL), 0);
		assert_int_equal(byte, 2);
		assert_int_equal(image_extent_at(img, GIB(4000), &x, NULL), 0);
		assert_true(x.zero);
		assert_int_equal(image_read_at(img, &byte, 1, GIB(4040) - 1, NULL), 0);
		assert_int_equal(byte, 0);
		image_close(img);
	}
}

#define THREADS 4U
#define SHARED  (64 * UNIT)
#define PIECE   256U

struct writer {
	struct image *img;
	unsigned int number;
	_Atomic bool *stop;
	pthread_t thread;
};

/* Each has every fourth piece of all units, so that all of them meet in each unit. */
static void *write_pieces(void *arg)
{
	struct writer *w = arg;
	unsigned int seed = w->number;
	uint8_t piece[PIECE];

	memset(piece, (int)w->number + 1, sizeof(piece));
	for (uint64_t i = 0; i < SHARED / PIECE / THREADS; i++) {
		/* in an order of its own: 257 and the count have no common divisor */
		uint64_t k = (i * 257 + seed * 31) % (SHARED / PIECE / THREADS);

		if (image_write_at(w->img, piece, PIECE, (k * THREADS + w->number) * PIECE, NULL) <
			0) {
			abort();
		}
	}
	return NULL;
}

static void *flush_and_read(void *arg)
{
	struct writer *w = arg;
	uint8_t *buf = malloc(SHARED);
	uint64_t bytes;

	while (!*w->stop) {
		if (image_flush(w->img, NULL) < 0 ||
			image_read_at(w->img, buf, SHARED, 0, NULL) < 0 ||
			image_allocated(w->img, &bytes, NULL) < 0) {
			abort();
		}
		usleep(200);
	}
	free(buf);
	return NULL;
}

static void neighbours_in_a_unit_do_not_lose_what_they_write(void **state)
{
	for (unsigned int round = 0; round < 8; round++) {
		struct image *img = open_it(file_in(*state), NULL);
		_Atomic bool stop = false;
		struct writer writers[THREADS + 1];

		for (unsigned int i = 0; i <= THREADS; i++) {
			writers[i] = (struct writer){ .img = img, .number = i, .stop = &stop };
			pthread_create(&writers[i].thread, NULL,
				i < THREADS ? write_pieces : flush_and_read, &writers[i]);
		}
		for (unsigned int i = 0; i < THREADS; i++) {
			pthread_join(writers[i].thread, NULL);
		}
		stop = true;
		pthread_join(writers[THREADS].thread, NULL);
		for (uint64_t i = 0; i < SHARED / PIECE; i++) {
			check(img, i * PIECE, (i + 1) * PIECE, (int)(i % THREADS) + 1);
		}
		check(img, SHARED, SHARED + UNIT, -1);
		image_close(img);
		assert_int_equal(unlink(file_in(*state)), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(what_is_written_stays_and_the_rest_is_the_base),
		CACHE_DIR_TEST(only_parts_of_units_need_the_base),
		CACHE_DIR_TEST(a_write_that_needs_a_base_that_fails_changes_nothing),
		CACHE_DIR_TEST(space_of_what_is_zeroed_is_given_back),
		CACHE_DIR_TEST(space_that_a_crash_left_behind_is_given_back),
		CACHE_DIR_TEST(holes_and_data_are_told_apart),
		CACHE_DIR_TEST(one_at_a_time),
		CACHE_DIR_TEST(another_base_is_refused_and_both_are_named),
		CACHE_DIR_TEST(long_names_show_their_ends),
		CACHE_DIR_TEST(a_base_without_a_version_gets_temporary_overlays_only),
		CACHE_DIR_TEST(a_base_whose_size_is_not_known_yet_gets_none),
		CACHE_DIR_TEST(damage_is_named_wherever_it_is),
		CACHE_DIR_TEST(a_map_of_another_overlay_is_damage),
		CACHE_DIR_TEST(other_files_are_left_alone),
		CACHE_DIR_TEST(what_cannot_be_made_is_told),
		CACHE_DIR_TEST(the_file_tells_what_it_is),
		CACHE_DIR_TEST(a_disk_of_terabytes_costs_what_is_used_of_it),
		CACHE_DIR_TEST(neighbours_in_a_unit_do_not_lose_what_they_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
