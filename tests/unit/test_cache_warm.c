/* SPDX-License-Identifier: Apache-2.0 */
/* Images that are served: boots are recorded and replayed. */
#include "tests/unit/warm_bed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "tests/unit/cache_dir.h"

static void a_boot_is_fetched_ahead_on_another_machine(void **state)
{
	struct bed_record rec;
	struct bed b;
	char dir[256];
	unsigned int transfers;

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 100);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (bed_reported(&b, "trace_boots") == 0) {
		usleep(1000);
	}
	bed_wait_for_replay(&b);
	assert_int_equal(bed_reported(&b, "bytes_replayed"), 100 * CACHE_GRANULE);
	assert_int_equal(b.fake->bytes, 100 * CACHE_GRANULE);
	assert_true(b.fake->transfers < 100); /* neighbours came together */
	assert_int_equal(bed_reported(&b, "bytes_wasted"), 100 * CACHE_GRANULE);
	transfers = b.fake->transfers;
	bed_boot(&b, 100);
	assert_int_equal(b.fake->transfers, transfers);
	assert_int_equal(bed_reported(&b, "waits"), 0);
	assert_int_equal(bed_reported(&b, "hits"), 100);
	assert_int_equal(bed_reported(&b, "bytes_foreseen"), 100 * CACHE_GRANULE);
	assert_int_equal(bed_reported(&b, "bytes_wasted"), 0);
	assert_int_equal(bed_reported(&b, "foretold_bytes"), bed_reported(&b, "touched_bytes"));
	bed_unmake(&b);
	free(rec.data);
}

/* A boot that reads what was foretold is no reason to fetch what lies behind it. */
static void nothing_is_guessed_from_what_was_foretold(void **state)
{
	struct cache_opts opts = { 0 };
	struct bed_record rec;
	uint64_t guessed;
	struct bed b;
	char dir[256];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 100);
	bed_dir(state, "other", dir);
	opts.dir = dir;
	b = bed_make_as(&opts, BED_ID, &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (bed_reported(&b, "trace_boots") == 0) {
		usleep(1000);
	}
	bed_wait_for_replay(&b);
	bed_read(&b, BED_SIZE - KIB(4), KIB(4)); /* what a miss tells of the link is known */
	guessed = bed_reported(&b, "bytes_prefetched");
	for (uint64_t i = 0; i < 100; i++) {
		for (uint64_t at = 0; at < CACHE_GRANULE; at += KIB(16)) {
			bed_read(&b, bed_place(i) + at, KIB(16));
		}
	}
	assert_int_equal(bed_reported(&b, "bytes_prefetched"), guessed);
	/* What was not foretold is read as ever: a stream is one. */
	for (uint64_t off = MIB(40); off < MIB(44); off += KIB(16)) {
		bed_read(&b, off, KIB(16));
	}
	assert_true(bed_reported(&b, "bytes_prefetched") > guessed);
	bed_unmake(&b);
	free(rec.data);
}

static void what_is_here_is_not_replayed(void **state)
{
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	rec = bed_record(dir, 50);
	b = bed_make(dir, &bed_trace_only);
	assert_true(cache_image_is_warm(b.img));
	bed_wait_for_replay(&b);
	assert_int_equal(bed_reported(&b, "trace_bytes"), 50 * CACHE_GRANULE);
	assert_int_equal(b.fake->transfers, 0);
	bed_unmake(&b);
	free(rec.data);
}

static void who_only_looks_is_no_boot(void **state)
{
	struct bed_record rec;
	struct bed b;
	char dir[256];
	uint8_t buf[100];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 50);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (bed_reported(&b, "trace_boots") == 0) {
		usleep(1000);
	}
	bed_wait_for_replay(&b);
	for (uint64_t i = 0; i < 50; i++) {
		assert_int_equal(image_peek_at(b.img, buf, 100, bed_place(i) + 9, NULL), 0);
		assert_true(fake_matches(buf, BED_SEED, bed_place(i) + 9, 100));
	}
	assert_int_equal(image_peek_at(b.img, buf, 100, BED_SIZE - 100, NULL), -EAGAIN);
	assert_int_equal(bed_reported(&b, "touched_bytes"), 0);
	assert_int_equal(bed_reported(&b, "hits") + bed_reported(&b, "misses"), 0);
	assert_int_equal(bed_reported(&b, "bytes_foreseen"), 0);
	assert_int_equal(b.fake->bytes, 50 * CACHE_GRANULE);
	image_interrupt(b.img);
	assert_int_equal(image_peek_at(b.img, buf, 100, bed_place(0), NULL), -ECANCELED);
	bed_unmake(&b);
	free(rec.data);
}

static void boots_are_counted_and_a_given_trace_is_one_of_them(void **state)
{
	struct cache_trace_info info;
	struct bed_record rec;
	struct bed b;
	char dir[256];
	void *data;
	size_t len;

	bed_dir(state, "golden", dir);
	free(bed_record(dir, 60).data);
	rec = bed_record(dir, 100);
	assert_int_equal(cache_trace_describe(rec.data, rec.len, &info, NULL), 0);
	assert_int_equal(info.boots, 2);
	assert_int_equal(info.bytes, 100 * CACHE_GRANULE);
	assert_int_equal(info.size, BED_SIZE);
	assert_string_equal(info.version, "etag=\"1\" size=67108864");
	free(info.version);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	bed_boot(&b, 70);
	image_close(b.img);
	assert_int_equal(cache_trace_get(b.cache, "k", &data, &len, NULL), 0);
	assert_int_equal(cache_trace_describe(data, len, &info, NULL), 0);
	assert_int_equal(info.boots, 3);
	assert_int_equal(info.bytes, 70 * CACHE_GRANULE); /* 2 or 3 of 3 */
	assert_int_equal(info.rare, 30 * CACHE_GRANULE);
	free(info.version);
	assert_int_equal(cache_trace_drop(b.cache, "k", NULL), 0);
	assert_int_equal(cache_trace_drop(b.cache, "k", NULL), -ENOENT);
	assert_int_equal(cache_trace_get(b.cache, "k", &data, &len, NULL), -ENOENT);
	cache_close(b.cache);
	free(data);
	free(rec.data);
}

static void a_damaged_or_foreign_trace_fetches_nothing(void **state)
{
	struct cache_opts opts = { .no_readahead = true };
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 50);
	bed_dir(state, "other", dir);
	opts.dir = dir;
	b = bed_make_as(&opts, "https://host/disk etag=\"2\" size=67108864", &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), -ESTALE);
	((uint8_t *)rec.data)[20] ^= 1;
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), -EBADMSG);
	assert_int_equal(cache_image_trace(b.img, "<html>", 6, NULL), -EINVAL);
	assert_false(cache_image_is_warm(b.img));
	bed_boot(&b, 3);
	assert_int_equal(b.fake->transfers, 3);
	while (bed_reported(&b, "present_bytes") < 3 * CACHE_GRANULE) {
		usleep(1000);
	}
	bed_unmake(&b);
	/* Whoever knows better may say so. */
	((uint8_t *)rec.data)[20] ^= 1;
	b = bed_make_as(&opts, "https://host/disk etag=\"2\" size=67108864", NULL);
	assert_int_equal(cache_image_trace_import(b.img, rec.data, rec.len, NULL), 0);
	bed_unmake(&b);
	b = bed_make_as(&opts, "https://host/disk etag=\"2\" size=67108864", &bed_trace_only);
	bed_wait_for_replay(&b);
	assert_int_equal(bed_reported(&b, "bytes_replayed"), 47 * CACHE_GRANULE);
	bed_unmake(&b);
	free(rec.data);
}

static void an_own_record_that_is_damaged_is_recorded_anew(void **state)
{
	struct cache_trace_info info;
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	free(bed_record(dir, 50).data);
	b = bed_make(dir, NULL);
	assert_int_equal(blobs_put(cache_image_blobs(b.img), "trace", "LZDTRACE", 8, NULL), 0);
	bed_unmake(&b);
	rec = bed_record(dir, 20);
	assert_int_equal(cache_trace_describe(rec.data, rec.len, &info, NULL), 0);
	assert_int_equal(info.boots, 1);
	assert_int_equal(info.bytes, 20 * CACHE_GRANULE);
	free(info.version);
	free(rec.data);
}

static void without_traces_nothing_is_recorded_nor_replayed(void **state)
{
	const struct cache_serve_opts serve = { .no_trace = true, .no_complete = true };
	struct bed b;
	void *data;
	size_t len;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, &serve);
	bed_boot(&b, 50);
	image_close(b.img);
	assert_int_equal(cache_trace_get(b.cache, "k", &data, &len, NULL), -ENOENT);
	cache_close(b.cache);
}

static void a_reader_is_not_behind_the_replay(void **state)
{
	struct bed_record rec;
	struct bed_reader r;
	struct bed b;
	char dir[256];
	unsigned int flying;

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 700);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &bed_trace_only);
	b.fake->gate_closed = true;
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (b.fake->now == 0) {
		usleep(1000);
	}
	usleep(50000);
	/* What is on its way is bounded, though nothing comes. */
	flying = b.fake->now;
	assert_in_range(flying, 1, 30);
	assert_in_range(bed_reported(&b, "bytes_replayed"), CACHE_GRANULE, MIB(24));
	r = (struct bed_reader){ .bed = &b, .off = bed_place(701) };
	pthread_create(&r.thread, NULL, bed_read_main, &r);
	while (b.fake->now < flying + 1) {
		usleep(1000);
	}
	b.fake->gate_closed = false;
	pthread_join(r.thread, NULL);
	bed_boot(&b, 700);
	/* A hole may have come along, but nothing came twice. A reader does not wait for the rest
	 * of its granule. */
	while (b.fake->now > 0 || bed_reported(&b, "present_bytes") < b.fake->bytes) {
		usleep(1000);
	}
	assert_true(b.fake->bytes >= 701 * CACHE_GRANULE);
	assert_int_equal(b.fake->bytes, bed_reported(&b, "present_bytes"));
	bed_unmake(&b);
	free(rec.data);
}

static void a_replay_that_fails_leaves_it_to_the_readers(void **state)
{
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 100);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &bed_trace_only);
	b.fake->fail_next = 2;
	b.fake->fail_code = -EIO;
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (b.fake->fail_next > 0) {
		usleep(1000);
	}
	bed_wait_for_replay(&b);
	assert_true(bed_reported(&b, "bytes_replayed") < 100 * CACHE_GRANULE);
	bed_boot(&b, 100);
	bed_unmake(&b);
	free(rec.data);
}

static void in_memory_the_replay_stays_near_the_reader(void **state)
{
	struct cache_opts opts = { .no_readahead = true, .max_size = MIB(8) };
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, 600);
	b = bed_make_as(&opts, BED_ID, &bed_trace_only);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	while (bed_reported(&b, "bytes_replayed") < MIB(4)) {
		usleep(1000);
	}
	usleep(20000);
	assert_in_range(bed_reported(&b, "bytes_replayed"), MIB(4), MIB(7));
	bed_boot(&b, 600);
	assert_true(bed_reported(&b, "bytes_foreseen") > MIB(8));
	assert_true(bed_completion_is(&b, "off"));
	bed_unmake(&b);
	free(rec.data);
}

static void eviction_spares_what_boots_read(void **state)
{
	uint64_t freed;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, &bed_trace_only);
	bed_read(&b, BED_SIZE - MIB(1), 4096); /* from the end on is evicted first */
	bed_unmake(&b);
	b = bed_make(dir, NULL);
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	image_close(b.img);
	assert_int_equal(cache_prune(b.cache, MIB(24), &freed, NULL), 0);
	assert_true(freed >= MIB(40));
	cache_close(b.cache);
	b = bed_make(dir, NULL);
	assert_int_equal(b.fake->transfers, 0);
	bed_read(&b, BED_SIZE - MIB(1), 4096);
	assert_int_equal(b.fake->transfers, 0);
	bed_read(&b, BED_SIZE - MIB(5), 4096);
	assert_int_equal(b.fake->transfers, 1);
	bed_unmake(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(a_boot_is_fetched_ahead_on_another_machine),
		CACHE_DIR_TEST(nothing_is_guessed_from_what_was_foretold),
		CACHE_DIR_TEST(what_is_here_is_not_replayed),
		CACHE_DIR_TEST(who_only_looks_is_no_boot),
		CACHE_DIR_TEST(boots_are_counted_and_a_given_trace_is_one_of_them),
		CACHE_DIR_TEST(a_damaged_or_foreign_trace_fetches_nothing),
		CACHE_DIR_TEST(an_own_record_that_is_damaged_is_recorded_anew),
		CACHE_DIR_TEST(without_traces_nothing_is_recorded_nor_replayed),
		CACHE_DIR_TEST(a_reader_is_not_behind_the_replay),
		CACHE_DIR_TEST(a_replay_that_fails_leaves_it_to_the_readers),
		CACHE_DIR_TEST(in_memory_the_replay_stays_near_the_reader),
		CACHE_DIR_TEST(eviction_spares_what_boots_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
