/* SPDX-License-Identifier: Apache-2.0 */
/* What readers and writers of a mount get: through the kernel, from a child that serves it. */
#include "tests/unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/rw.h"
#include "tests/unit/mount_test.h"

#define PAGE 4096U

/* MNT/NAME; static. */
static const char *in_mount(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", mount_test.mnt, name);
	return path;
}

static int open_disk(int flags)
{
	int fd = open(mount_test.disk, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void stop(void)
{
	int r;

	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	r = mount_fixture_wait(&mount_test, 60);
	if (r != 0) {
		print_error("%s", mount_fixture_log(&mount_test));
	}
	assert_int_equal(r, 0);
	assert_false(mount_fixture_mounted(mount_test.mnt));
}

static void check_read(int fd, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	assert_int_equal(rw_pread(fd, buf, len, off), 0);
	assert_true(mount_fixture_matches(buf, off, len));
	free(buf);
}

static void the_directory_lists_images_and_hides_its_own(void **state)
{
	unsigned int seen = 0;
	const struct dirent *d;
	struct stat st;
	DIR *dir;

	(void)state;
	mount_test_start_plain();
	dir = opendir(mount_test.mnt);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		assert_true(strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
			    strcmp(d->d_name, "disk.raw") == 0);
		seen++;
	}
	closedir(dir);
	assert_int_equal(seen, 3);
	assert_int_equal(stat(in_mount(".lazydisk/status"), &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(stat(in_mount("nothing"), &st), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(stat(in_mount(".lazydisk/nothing"), &st), -1);
	assert_int_equal(errno, ENOENT);
	stop();
}

static void thousands_of_images_are_all_listed_and_found(void **state)
{
	const struct mount_plan plan = { .more = 3000 };
	static bool seen[3000];
	unsigned int count = 0;
	const struct dirent *d;
	struct stat st;
	DIR *dir;

	(void)state;
	mount_test_start(&plan);
	dir = opendir(mount_test.mnt);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == 'v') {
			unsigned long n = strtoul(d->d_name + 1, NULL, 10);

			assert_true(n < 3000 && !seen[n]);
			seen[n] = true;
			count++;
		}
	}
	closedir(dir);
	assert_int_equal(count, 3000);
	assert_int_equal(stat(in_mount("v2999.raw"), &st), 0);
	assert_int_equal(st.st_size, PAGE);
	stop();
}

static void attributes_tell_size_owner_and_what_is_allocated(void **state)
{
	uint64_t data = 0;
	struct stat again;
	struct stat st;

	(void)state;
	for (uint64_t off = 0; off < DISK_SIZE; off += PAGE) {
		data += mount_fixture_hole(off) ? 0 : min_u64(PAGE, DISK_SIZE - off);
	}
	mount_test_start_plain();
	assert_int_equal(stat(mount_test.disk, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_size, DISK_SIZE);
	assert_int_equal(st.st_blocks, div_round_up(data, 512));
	assert_int_equal(st.st_uid, getuid());
	assert_int_equal(st.st_gid, getgid());
	usleep(20000);
	assert_int_equal(stat(mount_test.disk, &again), 0);
	assert_int_equal(again.st_mtim.tv_sec, st.st_mtim.tv_sec);
	assert_int_equal(again.st_mtim.tv_nsec, st.st_mtim.tv_nsec);
	stop();
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void an_unknown_allocation_delays_once_and_shows_when_it_is_known(void **state)
{
	struct stat st;
	double began;
	int fd;

	(void)state;
	mount_test.steer->count_closed = true;
	mount_test_start_plain();
	began = seconds();
	fd = open_disk(O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, div_round_up(DISK_SIZE, 512));
	assert_true(seconds() - began < 10);
	began = seconds();
	check_read(fd, 0, MIB(1));
	usleep(1100000);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks, div_round_up(DISK_SIZE, 512));
	assert_true(seconds() - began < 2);
	mount_test.steer->count_closed = false;
	for (int i = 0; i < 500 && st.st_blocks == (blkcnt_t)div_round_up(DISK_SIZE, 512); i++) {
		usleep(10000);
		assert_int_equal(fstat(fd, &st), 0);
	}
	assert_true(st.st_blocks < (blkcnt_t)(DISK_SIZE / 512));
	close(fd);
	stop();
}

static void statfs_counts_what_is_there_and_nothing_free(void **state)
{
	struct statvfs st;

	(void)state;
	mount_test_start_plain();
	assert_int_equal(statvfs(mount_test.mnt, &st), 0);
	assert_int_equal(st.f_blocks * st.f_frsize, round_up(DISK_SIZE, PAGE));
	assert_int_equal(st.f_bavail, 0);
	assert_int_equal(st.f_files, 1);
	assert_true(st.f_flag & ST_RDONLY);
	stop();
}

static void every_byte_is_the_image_s(void **state)
{
	static const struct {
		uint64_t off;
		size_t len;
	} odd[] = { { DISK_SIZE - 1, 1 }, { 1, 1 }, { 4095, 2 }, { 65535, 131073 },
		{ MIB(6) - 1, MIB(3) + 3 }, { DISK_SIZE - 1001, 1001 }, { 0, DISK_SIZE } };
	char byte;
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open_disk(O_RDONLY);
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		check_read(fd, odd[i].off, odd[i].len);
	}
	assert_int_equal(pread(fd, &byte, 1, DISK_SIZE), 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)1 << 62), 0);
	close(fd);
	stop();
}

static void direct_reads_are_right_too_up_to_the_odd_end(void **state)
{
	uint8_t *buf = NULL;
	uint64_t off = 0;
	ssize_t n;
	int fd;

	(void)state;
	mount_test_start_plain();
	assert_int_equal(posix_memalign((void **)&buf, PAGE, MIB(3)), 0);
	fd = open_disk(O_RDONLY | O_DIRECT);
	while ((n = pread(fd, buf, MIB(3), (off_t)off)) > 0) {
		assert_true(mount_fixture_matches(buf, off, (size_t)n));
		off += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(off, DISK_SIZE);
	free(buf);
	close(fd);
	stop();
}

static void seeking_shows_the_holes_and_hides_no_data(void **state)
{
	bool hole = mount_fixture_hole(0);
	uint64_t off = 0;
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open_disk(O_RDONLY);
	while (off < DISK_SIZE) {
		uint64_t next = off;
		off_t got = lseek(fd, (off_t)off, hole ? SEEK_DATA : SEEK_HOLE);

		while (next < DISK_SIZE && mount_fixture_hole(next) == hole) {
			next += PAGE;
		}
		assert_int_equal(got, min_u64(next, DISK_SIZE));
		off = next;
		hole = !hole;
	}
	assert_int_equal(lseek(fd, DISK_SIZE, SEEK_DATA), -1);
	assert_int_equal(errno, ENXIO);
	assert_int_equal(lseek(fd, 0, SEEK_END), DISK_SIZE);
	close(fd);
	stop();
}

static void attributes_of_lazydisk_can_be_read(void **state)
{
	char text[128];
	ssize_t n;

	(void)state;
	mount_test_start_plain();
	n = listxattr(mount_test.disk, text, sizeof(text));
	assert_int_equal(n, sizeof("user.lazydisk.url") + sizeof("user.lazydisk.format"));
	assert_memory_equal(text, "user.lazydisk.url\0user.lazydisk.format", (size_t)n);
	assert_int_equal(listxattr(mount_test.disk, NULL, 0), n);
	n = getxattr(mount_test.disk, "user.lazydisk.url", text, sizeof(text));
	assert_int_equal(n, strlen("https://example.org/disk.qcow2"));
	assert_memory_equal(text, "https://example.org/disk.qcow2", (size_t)n);
	assert_int_equal(getxattr(mount_test.disk, "user.lazydisk.url", text, 5), -1);
	assert_int_equal(errno, ERANGE);
	assert_int_equal(getxattr(mount_test.disk, "user.lazydisk.none", text, 5), -1);
	assert_int_equal(errno, ENODATA);
	assert_int_equal(getxattr(mount_test.disk, "user.other", text, 5), -1);
	assert_int_equal(errno, ENODATA);
	n = getxattr(mount_test.mnt, "user.lazydisk.pid", text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_int_equal(strtol(text, NULL, 10), mount_test.pid);
	stop();
}

/* Reads in pieces of @piece to the end, as `cat` and Python do with a file of size 0. */
static size_t slurp(int fd, char *buf, size_t room, size_t piece)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, buf + used, min_u64(piece, room - used))) > 0) {
		used += (size_t)n;
	}
	assert_int_equal(n, 0);
	buf[used] = '\0';
	return used;
}

static void the_status_is_made_anew_at_each_open(void **state)
{
	static char text[300000];
	const char *path;
	int second;
	int first;

	(void)state;
	mount_test_start_plain();
	path = in_mount(".lazydisk/status");
	first = open(path, O_RDONLY | O_CLOEXEC);
	second = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(first >= 0 && second >= 0);
	assert_true(slurp(second, text, sizeof(text) - 1, 8192) > 200000);
	assert_non_null(strstr(text, "\"opened\":2"));
	assert_string_equal(text + strlen(text) - 4, "7\"}\n");
	assert_true(slurp(first, text, sizeof(text) - 1, 131072) > 200000);
	assert_non_null(strstr(text, "\"opened\":1"));
	close(first);
	close(second);
	assert_int_equal(open(path, O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	stop();
}

static void errors_of_the_image_are_eio_for_readers_and_words_in_the_log(void **state)
{
	char byte;
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open_disk(O_RDONLY);
	mount_test.steer->read_code = -EBADMSG;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pread(fd, &byte, 1, MIB(8)), -1);
		assert_int_equal(errno, EIO);
	}
	mount_test.steer->read_code = 0;
	assert_int_equal(pread(fd, &byte, 1, MIB(8)), 1);
	assert_int_equal((uint8_t)byte, mount_fixture_byte(MIB(8)));
	close(fd);
	stop();
	assert_non_null(
		strstr(mount_fixture_log(&mount_test), "lazydisk: error: disk.raw: read of "));
	assert_non_null(strstr(mount_fixture_log(&mount_test), " at 8388608: made to fail\n"));
	assert_null(strstr(strstr(mount_fixture_log(&mount_test), "made to fail") + 1, "made to"));
}

static void a_changed_remote_is_estale_for_direct_readers(void **state)
{
	uint8_t *buf = NULL;
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open_disk(O_RDONLY | O_DIRECT);
	assert_int_equal(posix_memalign((void **)&buf, PAGE, PAGE), 0);
	mount_test.steer->read_code = -ESTALE;
	assert_int_equal(pread(fd, buf, PAGE, 0), -1);
	assert_int_equal(errno, ESTALE);
	free(buf);
	close(fd);
	stop();
}

static void nothing_can_be_written_to_read_only_images(void **state)
{
	const struct mount_plan beside_writable = { .writable = true };

	(void)state;
	mount_test_start_plain();
	assert_int_equal(open(mount_test.disk, O_RDWR | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(open(in_mount("new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(unlink(mount_test.disk), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(truncate(mount_test.disk, 0), -1);
	assert_int_equal(errno, EROFS);
	stop();
	mount_test_start(&beside_writable);
	assert_int_equal(open(mount_test.disk, O_RDWR | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(truncate(mount_test.disk, 0), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(unlink(mount_test.disk), -1);
	stop();
}

static int open_work(void)
{
	int fd = open(in_mount("work.raw"), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void a_writable_image_is_written_zeroed_and_flushed(void **state)
{
	const struct mount_plan plan = { .writable = true };
	uint8_t buf[PAGE * 3];
	struct stat before;
	struct stat after;
	int fd;

	(void)state;
	mount_test_start(&plan);
	fd = open_work();
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(pwrite(fd, "hello", 5, 10001), 5);
	assert_int_equal(fstat(fd, &after), 0);
	assert_memory_not_equal(&after.st_mtim, &before.st_mtim, sizeof(after.st_mtim));
	assert_int_equal(mount_test.steer->flushes, 0);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(mount_test.steer->flushes, 1);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(rw_pread(fd, buf, 7, 10000), 0);
	assert_int_equal(buf[0], mount_fixture_byte(10000));
	assert_memory_equal(buf + 1, "hello", 5);
	assert_int_equal(buf[6], mount_fixture_byte(10006));
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE * 3 - 1, PAGE), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE, PAGE * 12, 10), 0);
	assert_int_equal(rw_pread(fd, buf, PAGE + 2, PAGE * 3 - 2), 0);
	assert_int_equal(buf[0], mount_fixture_byte(PAGE * 3 - 2));
	assert_true(is_zero(buf + 1, PAGE));
	assert_int_equal(buf[PAGE + 1], mount_fixture_byte(PAGE * 4 - 1));
	assert_int_equal(rw_pread(fd, buf, 11, PAGE * 12), 0);
	assert_true(is_zero(buf, 10));
	assert_int_equal(buf[10], mount_fixture_byte(PAGE * 12 + 10));
	close(fd);
	stop();
	assert_int_equal(mount_test.steer->flushes, 2);
}

static void a_write_that_is_to_be_durable_is_flushed(void **state)
{
	const struct mount_plan plan = { .writable = true };
	struct iovec piece = { (char[]){ "hello" }, 5 };
	int fd;

	(void)state;
	mount_test_start(&plan);
	fd = open(in_mount("work.raw"), O_WRONLY | O_DSYNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "hello", 5, 10001), 5);
	assert_int_equal(mount_test.steer->flushes, 1);
	close(fd);
	fd = open_work();
	assert_int_equal(pwrite(fd, "hello", 5, 10001), 5);
	assert_int_equal(mount_test.steer->flushes, 1);
	assert_int_equal(pwritev2(fd, &piece, 1, 20001, RWF_DSYNC), 5);
	assert_int_equal(mount_test.steer->flushes, 2);
	close(fd);
	stop();
}

static void a_disk_does_not_grow_shrink_or_change_hands(void **state)
{
	const struct mount_plan plan = { .writable = true };
	struct stat st;
	int fd;

	(void)state;
	mount_test_start(&plan);
	fd = open_work();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(st.st_size, 100000);
	assert_int_equal(pwrite(fd, "xy", 2, 99999), 1);
	assert_int_equal(pwrite(fd, "x", 1, 100000), -1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(ftruncate(fd, 99999), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 100000), 0);
	assert_int_equal(open(in_mount("work.raw"), O_RDWR | O_TRUNC | O_CLOEXEC), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fchmod(fd, 0600), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(futimens(fd, NULL), 0);
	assert_int_equal(fallocate(fd, 0, 0, 10), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE, 99999, 2), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 100000);
	close(fd);
	stop();
}

#define MOUNTED(t) cmocka_unit_test_setup_teardown(t, mount_test_begin, mount_test_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MOUNTED(the_directory_lists_images_and_hides_its_own),
		MOUNTED(thousands_of_images_are_all_listed_and_found),
		MOUNTED(attributes_tell_size_owner_and_what_is_allocated),
		MOUNTED(an_unknown_allocation_delays_once_and_shows_when_it_is_known),
		MOUNTED(statfs_counts_what_is_there_and_nothing_free),
		MOUNTED(every_byte_is_the_image_s),
		MOUNTED(direct_reads_are_right_too_up_to_the_odd_end),
		MOUNTED(seeking_shows_the_holes_and_hides_no_data),
		MOUNTED(attributes_of_lazydisk_can_be_read),
		MOUNTED(the_status_is_made_anew_at_each_open),
		MOUNTED(errors_of_the_image_are_eio_for_readers_and_words_in_the_log),
		MOUNTED(a_changed_remote_is_estale_for_direct_readers),
		MOUNTED(nothing_can_be_written_to_read_only_images),
		MOUNTED(a_writable_image_is_written_zeroed_and_flushed),
		MOUNTED(a_write_that_is_to_be_durable_is_flushed),
		MOUNTED(a_disk_does_not_grow_shrink_or_change_hands),
	};

	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		printf("1..0 # SKIP /dev/fuse is missing or closed to us\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
