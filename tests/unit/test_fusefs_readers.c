/* SPDX-License-Identifier: Apache-2.0 */
/* Many readers of a mount at once: right bytes, nobody in another's way, bounded memory. */
#include "tests/unit/test.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/rw.h"
#include "tests/unit/mount_test.h"

#define PAGE 4096U

/* Sanitizers keep shadows of the memory that is measured. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

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

struct reader {
	pthread_t thread;
	unsigned int seed;
	bool right;
};

static void *read_around(void *arg)
{
	struct reader *r = arg;
	int fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	static const size_t most = 200000;
	uint8_t *buf = malloc(most);

	r->right = fd >= 0 && buf;
	for (int i = 0; i < 60 && r->right; i++) {
		uint64_t off = (uint64_t)rand_r(&r->seed) % DISK_SIZE;
		size_t len = min_u64((uint64_t)rand_r(&r->seed) % most, DISK_SIZE - off);

		if (i % 10 == 0) {
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		}
		r->right = rw_pread(fd, buf, len, off) == 0 && mount_fixture_matches(buf, off, len);
	}
	free(buf);
	if (fd >= 0) {
		close(fd);
	}
	return NULL;
}

static void many_readers_at_once_read_right(void **state)
{
	struct reader readers[24];

	(void)state;
	mount_test_start_plain();
	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].seed = i;
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, read_around, &readers[i]), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].right);
	}
	stop();
}

static void *read_one_page(void *arg)
{
	const uint64_t *off = arg;
	int fd = open(mount_test.disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = NULL;
	bool right = fd >= 0 && posix_memalign((void **)&buf, PAGE, PAGE) == 0 &&
		     pread(fd, buf, PAGE, (off_t)*off) == PAGE &&
		     mount_fixture_matches(buf, *off, PAGE);

	free(buf);
	if (fd >= 0) {
		close(fd);
	}
	return right ? arg : NULL;
}

static void a_read_that_waits_holds_up_nobody_else(void **state)
{
	static uint64_t offs[50];
	pthread_t threads[ARRAY_SIZE(offs)];
	void *right;
	int fd;

	(void)state;
	mount_test.steer->gate_from = MIB(8);
	mount_test.steer->gate_closed = true;
	mount_test_start_plain();
	for (unsigned int i = 0; i < ARRAY_SIZE(offs); i++) {
		offs[i] = MIB(8) + i * (uint64_t)PAGE;
		assert_int_equal(pthread_create(&threads[i], NULL, read_one_page, &offs[i]), 0);
	}
	while (mount_test.steer->waiting < ARRAY_SIZE(offs)) {
		usleep(1000);
	}
	fd = open_disk(O_RDONLY);
	check_read(fd, 0, MIB(4));
	close(fd);
	mount_test.steer->gate_closed = false;
	for (unsigned int i = 0; i < ARRAY_SIZE(offs); i++) {
		pthread_join(threads[i], &right);
		assert_non_null(right);
	}
	stop();
}

static void *read_a_mebibyte(void *arg)
{
	const uint64_t *off = arg;
	int fd = open(mount_test.disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = NULL;
	bool right = fd >= 0 && posix_memalign((void **)&buf, PAGE, MIB(1)) == 0 &&
		     pread(fd, buf, MIB(1), (off_t)*off) == MIB(1) &&
		     mount_fixture_matches(buf, *off, MIB(1));

	free(buf);
	if (fd >= 0) {
		close(fd);
	}
	return right ? arg : NULL;
}

static void large_reads_that_wait_leave_memory_for_small_ones(void **state)
{
	static uint64_t off = MIB(8);
	pthread_t threads[48];
	uint64_t page = PAGE * 5ULL;
	void *right;

	(void)state;
	mount_test.steer->gate_from = MIB(8);
	mount_test.steer->gate_closed = true;
	mount_test_start_plain();
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, read_a_mebibyte, &off), 0);
	}
	while (mount_test.steer->waiting < 32) {
		usleep(1000);
	}
	assert_ptr_equal(read_one_page(&page), &page);
	mount_test.steer->gate_closed = false;
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &right);
		assert_non_null(right);
	}
	stop();
}

/* VmHWM of the child, in KiB. */
static unsigned long peak_memory(void)
{
	char path[64];
	char *text = NULL;
	const char *line;
	size_t len;
	unsigned long kib;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)mount_test.pid);
	assert_int_equal(rw_read_file(path, 65536, &text, &len, NULL), 0);
	line = strstr(text, "VmHWM:");
	assert_non_null(line);
	kib = strtoul(line + 6, NULL, 10);
	free(text);
	return kib;
}

static void *read_big(void *arg)
{
	int fd = open(mount_test.disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = NULL;
	uintptr_t right = fd >= 0 && posix_memalign((void **)&buf, PAGE, MIB(1)) == 0;

	for (uint64_t off = 0; right && off < MIB(16); off += MIB(1)) {
		right = pread(fd, buf, MIB(1), (off_t)off) == MIB(1) &&
			mount_fixture_matches(buf, off, MIB(1));
	}
	free(buf);
	if (fd >= 0) {
		close(fd);
	}
	return right ? arg : NULL;
}

static void big_reads_at_once_take_bounded_memory(void **state)
{
	unsigned long before;
	pthread_t threads[64];
	void *right;

	(void)state;
	/* What is allocated and not touched counts only where somebody fills it (MALLOC_PERTURB_):
	 * the room for a large request, of as many workers as there happen to be. */
	mallopt(M_PERTURB, 0);
	mount_test_start_plain();
	before = peak_memory();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, read_big, &mount_test), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &right);
		assert_non_null(right);
	}
	print_message("# peak: %lu KiB above %lu\n", peak_memory() - before, before);
	assert_true(SANITIZED || peak_memory() - before < 48 * 1024);
	stop();
}

#define MOUNTED(t) cmocka_unit_test_setup_teardown(t, mount_test_begin, mount_test_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MOUNTED(many_readers_at_once_read_right),
		MOUNTED(a_read_that_waits_holds_up_nobody_else),
		MOUNTED(large_reads_that_wait_leave_memory_for_small_ones),
		MOUNTED(big_reads_at_once_take_bounded_memory),
	};

	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		printf("1..0 # SKIP /dev/fuse is missing or closed to us\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
