/* SPDX-License-Identifier: Apache-2.0 */
/* What an image withdraws, the kernel hands out no more. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/rw.h"
#include "tests/unit/mount_test.h"

#define PAGE 4096U
/* How long a hopeless case is waited for, at least. */
#define PATIENCE_MS 200000U

static void start(unsigned int more)
{
	const struct mount_plan plan = { .more = more };

	mount_test_start(&plan);
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

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Through the kernel's pages: by how much the bytes at @off differ from those of the disk, all by
 * the same; or an error. */
static int difference(int fd, uint64_t off)
{
	uint8_t page[PAGE];
	int r = rw_pread(fd, page, PAGE, off);
	uint8_t by = page[0] ^ mount_fixture_byte(off);

	if (r < 0) {
		return r;
	}
	for (unsigned int i = 0; i < PAGE; i++) {
		page[i] ^= by;
	}
	assert_true(mount_fixture_matches(page, off, PAGE));
	return by;
}

/* Volumes by bit; returns when the images have said so. */
static void withdraw(unsigned int which)
{
	mount_test.steer->withdraw = which;
	for (unsigned int i = 0; i < PATIENCE_MS && mount_test.steer->withdraw; i++) {
		usleep(1000);
	}
	assert_int_equal(mount_test.steer->withdraw, 0);
}

/* It may take a moment. */
static void wait_for(int fd, uint64_t off, int want)
{
	for (unsigned int i = 0; i < PATIENCE_MS && difference(fd, off) != want; i++) {
		usleep(1000);
	}
	assert_int_equal(difference(fd, off), want);
}

static void what_was_withdrawn_is_read_anew(void **state)
{
	int fd;

	(void)state;
	start(0);
	fd = open_file(mount_test.disk);
	assert_int_equal(difference(fd, 0), 0);
	mount_test.steer->flip = 1;
	withdraw(1);
	wait_for(fd, 0, 1);
	mount_test.steer->read_code = -EBADMSG;
	withdraw(1);
	wait_for(fd, 0, -EIO);
	mount_test.steer->read_code = 0;
	assert_int_equal(difference(fd, 0), 1);
	close(fd);
	/* Pages outlive the one who had them read. */
	mount_test.steer->flip = 2;
	withdraw(1);
	fd = open_file(mount_test.disk);
	wait_for(fd, 0, 2);
	close(fd);
	stop();
}

static void each_file_has_its_own_pages(void **state)
{
	char path[128];
	int fds[3];

	(void)state;
	start(ARRAY_SIZE(fds));
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		snprintf(path, sizeof(path), "%s/v%04u.raw", mount_test.mnt, i);
		fds[i] = open_file(path);
		assert_int_equal(difference(fds[i], 0), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		mount_test.steer->flip = (uint8_t)(i + 1);
		withdraw(2U << i);
		wait_for(fds[i], 0, (int)i + 1);
		for (unsigned int k = 0; k < ARRAY_SIZE(fds); k++) {
			assert_int_equal(difference(fds[k], 0), k <= i ? k + 1 : 0);
		}
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		close(fds[i]);
	}
	/* The kernel may know none of them, or not any more. */
	withdraw(15);
	stop();
}

/* Else the pages would be filled again with what some layer has kept. */
static void layers_forget_before_the_kernel_does(void **state)
{
	int fd;

	(void)state;
	mount_test.steer->keeps = true;
	start(0);
	fd = open_file(mount_test.disk);
	assert_int_equal(difference(fd, 0), 0);
	mount_test.steer->flip = 1;
	withdraw(1);
	wait_for(fd, 0, 1);
	close(fd);
	stop();
}

/* What a layer kept of its first reads, when it was opened, may have been withdrawn before the
 * mount listens. */
static void what_was_withdrawn_before_the_mount_is_forgotten(void **state)
{
	int fd;

	(void)state;
	mount_test.steer->keeps = true;
	mount_test.steer->flip = 1;
	mount_test.steer->withdraw = 1;
	start(0);
	fd = open_file(mount_test.disk);
	wait_for(fd, 0, 1);
	close(fd);
	stop();
}

struct reader {
	pthread_t thread;
	const char *path; /* NULL: mount_test.disk */
	uint64_t off;
	int result;
};

static void *read_page(void *arg)
{
	struct reader *r = arg;
	int fd = open_file(r->path ? r->path : mount_test.disk);

	r->result = difference(fd, r->off);
	close(fd);
	return NULL;
}

/* A reader whose bytes are on their way, and not there yet. */
static void begin_read(struct reader *r)
{
	mount_test.steer->gate_from = r->off;
	mount_test.steer->gate_closed = true;
	assert_int_equal(pthread_create(&r->thread, NULL, read_page, r), 0);
	for (unsigned int i = 0; i < PATIENCE_MS && mount_test.steer->waiting == 0; i++) {
		usleep(1000);
	}
	assert_true(mount_test.steer->waiting > 0);
}

static void an_answer_from_before_does_not_stay(void **state)
{
	struct reader late = { .off = MIB(8) };
	int fd;

	(void)state;
	start(0);
	fd = open_file(mount_test.disk);
	assert_int_equal(difference(fd, 0), 0);
	begin_read(&late);
	mount_test.steer->flip = 1;
	withdraw(1);
	/* The pages before the one that is awaited go first, and nobody is held up. */
	wait_for(fd, 0, 1);
	assert_int_equal(difference(fd, MIB(4)), 1);
	mount_test.steer->gate_closed = false;
	pthread_join(late.thread, NULL);
	assert_true(late.result == 0 || late.result == 1);
	wait_for(fd, MIB(8), 1);
	close(fd);
	stop();
}

/* The kernel waits for the read, beyond SIGKILL; we wait for neither. */
static void the_mount_ends_while_pages_wait_for_a_read(void **state)
{
	struct reader stuck = { .off = MIB(8) };
	int fd;

	(void)state;
	start(0);
	fd = open_file(mount_test.disk);
	assert_int_equal(difference(fd, 0), 0);
	begin_read(&stuck);
	mount_test.steer->flip = 1;
	withdraw(1);
	wait_for(fd, 0, 1);
	close(fd);
	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 120), 4);
	pthread_join(stuck.thread, NULL);
	assert_true(stuck.result < 0);
	assert_false(mount_fixture_mounted(mount_test.mnt));
	assert_non_null(strstr(mount_fixture_log(&mount_test), "still waiting for its image"));
}

/* The connection stays, for what was written: the read is answered, not cut off. */
static void reads_of_writable_files_come_back_at_the_end(void **state)
{
	const struct mount_plan plan = { .writable = true };
	struct reader stuck = { .off = 65536 };
	char path[128];
	int fd;

	(void)state;
	assert_int_equal(mount_fixture_start(&mount_test, &plan), 0);
	snprintf(path, sizeof(path), "%s/work.raw", mount_test.mnt);
	stuck.path = path;
	fd = open_file(path);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	assert_int_equal(difference(fd, 0), 0);
	begin_read(&stuck);
	mount_test.steer->flip = 1;
	withdraw(2);
	wait_for(fd, 0, 1);
	close(fd);
	stop();
	pthread_join(stuck.thread, NULL);
	/* By the daemon, or on a slow machine by the kernel when the connection is given up. */
	assert_true(stuck.result == -EIO || stuck.result == -ECONNABORTED);
}

static void *read_on(void *arg)
{
	struct reader *r = arg;
	int fd = open_file(mount_test.disk);

	for (unsigned int i = 0; i < 300 && r->result == 0; i++) {
		r->result = difference(fd, (r->off + i * MIB(1)) % MIB(16) / PAGE * PAGE);
	}
	close(fd);
	return NULL;
}

static void a_storm_harms_nobody(void **state)
{
	struct reader readers[8] = { 0 };

	(void)state;
	start(0);
	mount_test.steer->storm = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].off = i * MIB(1) / 2;
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].result, 0);
	}
	stop(); /* while it goes on */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			what_was_withdrawn_is_read_anew, mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(
			each_file_has_its_own_pages, mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(
			layers_forget_before_the_kernel_does, mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(what_was_withdrawn_before_the_mount_is_forgotten,
			mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(
			an_answer_from_before_does_not_stay, mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(the_mount_ends_while_pages_wait_for_a_read,
			mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(reads_of_writable_files_come_back_at_the_end,
			mount_test_begin, mount_test_end),
		cmocka_unit_test_setup_teardown(
			a_storm_harms_nobody, mount_test_begin, mount_test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
