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
#include "tools/copy_journal.h"

static const struct copy_journal_key key = { 1, 2, 3 };

static char path[64];

static int setup(void **state)
{
	int fd;

	(void)state;
	strncpy(path, "/tmp/lazydisk-journal-XXXXXX", sizeof(path) - 1);
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* A journal with @batches batches of two units each. */
static void make(unsigned int batches)
{
	struct copy_journal *j;

	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(copy_journal_open(path, &key, NULL, &j, NULL), 0);
	for (uint64_t i = 0; i < batches; i++) {
		const struct copy_journal_entry entries[] = {
			{ (2 * i + 1) << 20, 100 + i },
			{ (2 * i) << 20, 200 + i },
		};

		assert_int_equal(copy_journal_add(j, entries, 2, NULL), 0);
	}
	copy_journal_close(j);
}

static uint64_t size_of_file(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void what_was_added_is_found(void **state)
{
	struct copy_journal_past past;

	(void)state;
	make(3);
	assert_int_equal(copy_journal_load(path, &past, NULL), 0);
	assert_memory_equal(&past.key, &key, sizeof(key));
	assert_int_equal(past.count, 6);
	assert_int_equal(past.length, size_of_file());
	assert_int_equal(copy_journal_find(&past, 0), 200);
	assert_int_equal(copy_journal_find(&past, 5 << 20), 102);
	assert_int_equal(copy_journal_find(&past, 6 << 20), 0);
	assert_int_equal(copy_journal_find(&past, 1), 0);
	copy_journal_past_clear(&past);
}

static void a_torn_batch_ends_it_and_is_written_over(void **state)
{
	struct copy_journal_past past;
	struct copy_journal *j;
	const struct copy_journal_entry more = { 9 << 20, 900 };
	uint64_t whole;

	(void)state;
	make(2);
	whole = size_of_file();
	for (uint64_t cut = 1; cut < 56; cut += 5) {
		make(2);
		assert_int_equal(truncate(path, (off_t)(whole - cut)), 0);
		assert_int_equal(copy_journal_load(path, &past, NULL), 0);
		assert_int_equal(past.count, 2);
		assert_int_equal(copy_journal_open(path, &key, &past, &j, NULL), 0);
		assert_int_equal(copy_journal_add(j, &more, 1, NULL), 0);
		copy_journal_close(j);
		copy_journal_past_clear(&past);
		assert_int_equal(copy_journal_load(path, &past, NULL), 0);
		assert_int_equal(past.count, 3);
		assert_int_equal(copy_journal_find(&past, 9 << 20), 900);
		copy_journal_past_clear(&past);
	}
}

static void a_wrong_bit_anywhere_is_noticed(void **state)
{
	struct copy_journal_past past;
	uint64_t whole;

	(void)state;
	make(1);
	whole = size_of_file();
	for (uint64_t at = 0; at < whole; at++) {
		uint8_t byte;
		int fd;

		make(1);
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		close(fd);
		if (copy_journal_load(path, &past, NULL) == 0) {
			assert_true(at >= 40);
			assert_int_equal(past.count, 0);
			copy_journal_past_clear(&past);
		}
	}
}

static void two_truths_about_a_unit_are_none(void **state)
{
	const struct copy_journal_entry entries[] = { { 0, 1 }, { 4096, 5 }, { 0, 2 } };
	struct copy_journal_past past;
	struct copy_journal *j;

	(void)state;
	make(0);
	assert_int_equal(copy_journal_open(path, &key, NULL, &j, NULL), 0);
	assert_int_equal(copy_journal_add(j, entries, ARRAY_SIZE(entries), NULL), 0);
	copy_journal_close(j);
	assert_int_equal(copy_journal_load(path, &past, NULL), 0);
	assert_int_equal(past.count, 1);
	assert_int_equal(copy_journal_find(&past, 0), 0);
	assert_int_equal(copy_journal_find(&past, 4096), 5);
	copy_journal_past_clear(&past);
}

static void what_is_no_journal_is_none(void **state)
{
	struct copy_journal_past past;
	struct copy_journal *j;
	struct err e;

	(void)state;
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(copy_journal_load(path, &past, &e), -ENOENT);
	assert_int_equal(truncate(path, 100000), 0);
	assert_int_equal(copy_journal_load(path, &past, &e), -ENOENT);
	assert_int_equal(copy_journal_open(path, &key, NULL, &j, &e), -EEXIST);
	assert_int_equal(size_of_file(), 100000);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(copy_journal_load("/nowhere/at/all", &past, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_found),
		cmocka_unit_test(a_torn_batch_ends_it_and_is_written_over),
		cmocka_unit_test(a_wrong_bit_anywhere_is_noticed),
		cmocka_unit_test(two_truths_about_a_unit_are_none),
		cmocka_unit_test(what_is_no_journal_is_none),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
