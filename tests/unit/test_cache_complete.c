/* SPDX-License-Identifier: Apache-2.0 */
/* Images that are served: they complete themselves and are verified. */
#include "tests/unit/warm_bed.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/patience.h"

static void it_completes_itself_and_needs_nobody_then(void **state)
{
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, &bed_all_of_it);
	bed_read(&b, MIB(3) + 5, MIB(1));
	bed_wait_until_done(&b);
	assert_int_equal(bed_reported(&b, "present_bytes"), BED_SIZE);
	assert_int_equal(b.fake->bytes, BED_SIZE);
	assert_true(bed_reported(&b, "bytes_completed") <= BED_SIZE - MIB(1));
	b.fake->fail_next = 1000000;
	b.fake->fail_code = -EIO;
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	bed_unmake(&b);
	b = bed_make(dir, &bed_all_of_it);
	bed_wait_until_done(&b);
	assert_int_equal(b.fake->transfers, 0);
	bed_unmake(&b);
}

/* What readers brought needs no waiting for the time at which the rest was to be fetched. */
static void what_readers_completed_is_complete(void **state)
{
	const struct cache_serve_opts serve = {
		.complete = true,
		.delay_given = true,
		.delay_s = 3600,
	};
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, &serve);
	assert_true(bed_completion_is(&b, "waiting"));
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	bed_wait_until_done(&b);
	assert_int_equal(bed_reported(&b, "bytes_completed"), 0);
	bed_unmake(&b);
	b = bed_make(dir, &serve);
	bed_wait_until_done(&b);
	bed_unmake(&b);
}

static void completion_goes_on_after_failures(void **state)
{
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, NULL);
	b.fake->fail_next = 3;
	b.fake->fail_code = -ECONNRESET;
	b.fake->fail_after = 100000;
	assert_int_equal(cache_image_serve(b.img, &bed_all_of_it, NULL), 0);
	bed_wait_until_done(&b);
	assert_int_equal(bed_reported(&b, "present_bytes"), BED_SIZE);
	bed_unmake(&b);
}

static void completion_begins_by_itself_when_a_third_was_read(void **state)
{
	const struct cache_serve_opts serve = { .delay_given = true };
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, &serve);
	for (uint64_t off = 0; off < BED_SIZE / 3 - MIB(1); off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	assert_true(bed_completion_is(&b, "idle"));
	assert_int_equal(bed_reported(&b, "bytes_completed"), 0);
	bed_read(&b, BED_SIZE / 2, MIB(2));
	bed_wait_until_done(&b);
	assert_int_equal(bed_reported(&b, "present_bytes"), BED_SIZE);
	bed_unmake(&b);
}

/* What only a guess brought says nothing about how much will be read. */
static void what_came_unread_begins_no_completion(void **state)
{
	const struct cache_serve_opts serve = { .delay_given = true };
	const uint64_t count = BED_GRANULES * 2 / 5;
	struct bed_record rec;
	struct bed b;
	char dir[256];

	bed_dir(state, "golden", dir);
	rec = bed_record(dir, count);
	bed_dir(state, "other", dir);
	b = bed_make(dir, &serve);
	assert_int_equal(cache_image_trace(b.img, rec.data, rec.len, NULL), 0);
	WAIT_WHILE(
		bed_reported(&b, "present_bytes") < count * CACHE_GRANULE, "bytes to be present");
	usleep(50000);
	assert_true(bed_completion_is(&b, "idle"));
	bed_boot(&b, count);
	/* A fetch, so that it is looked at now, and not only every half minute. */
	bed_read(&b, 1000 * CACHE_GRANULE, 1);
	bed_wait_until_done(&b);
	bed_unmake(&b);
	free(rec.data);
}

static void what_the_cache_cannot_keep_is_not_completed(void **state)
{
	struct cache_opts opts = { .no_readahead = true, .max_size = BED_SIZE - 1 };
	struct cache_opts memory = { .no_readahead = true };
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	opts.dir = dir;
	b = bed_make_as(&opts, BED_ID, &bed_all_of_it);
	assert_true(bed_completion_is(&b, "off"));
	bed_unmake(&b);
	b = bed_make_as(&memory, BED_ID, &bed_all_of_it);
	assert_true(bed_completion_is(&b, "off"));
	bed_unmake(&b);
	opts.max_size = 0;
	opts.min_free = UINT64_MAX / 2; /* a disk that is nearly full */
	b = bed_make_as(&opts, BED_ID, &bed_all_of_it);
	assert_true(bed_completion_is(&b, "off"));
	bed_unmake(&b);
}

/* Most of it is here, and in the way of the rest: it cannot be evicted for that. */
static void what_is_here_of_an_image_is_no_room_for_its_rest(void **state)
{
	struct cache_opts opts = { .no_readahead = true, .min_free = 1 };
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	opts.dir = dir;
	opts.max_size = BED_SIZE + MIB(1);
	b = bed_make_as(&opts, BED_ID, NULL);
	for (uint64_t off = 0; off < MIB(48); off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	WAIT_WHILE(bed_reported(&b, "present_bytes") < MIB(48), "bytes to be present");
	assert_int_equal(cache_image_serve(b.img, &bed_all_of_it, NULL), 0);
	assert_true(bed_completion_is(&b, "off"));
	bed_unmake(&b);
}

/* An image of @size bytes that stays in the cache of @b, all of it. */
static struct image *occupy(const struct bed *b, uint64_t size)
{
	struct fake_image *fake = fake_image_new(size, BED_SEED + 1, "what stays");
	struct image *img;

	assert_int_equal(cache_image_open(b->cache, "stays", &fake->img, &img, NULL), 0);
	cache_image_pin(img);
	for (uint64_t off = 0; off < size; off += MIB(1)) {
		cache_check_read(img, BED_SEED + 1, off, MIB(1));
	}
	WAIT_WHILE(cache_check_count(img, "present_bytes") < size, "bytes to be present");
	return img;
}

/* Each alone could be kept. */
static void completion_ends_where_what_comes_makes_go_what_came(void **state)
{
	struct cache_opts opts = { .no_readahead = true, .min_free = 1, .max_size = MIB(80) };
	struct image *stays;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	opts.dir = dir;
	b = bed_make_as(&opts, BED_ID, NULL);
	stays = occupy(&b, MIB(40));
	assert_int_equal(cache_image_serve(b.img, &bed_all_of_it, NULL), 0);
	WAIT_WHILE(!bed_completion_is(&b, "no room") && b.fake->bytes <= 4 * BED_SIZE,
		"completion to be no room");
	assert_true(b.fake->bytes <= 4 * BED_SIZE);
	/* Readers are served as before. */
	bed_read(&b, BED_SIZE - MIB(1), MIB(1));
	cache_check_read(stays, BED_SEED + 1, 0, MIB(1));
	image_close(stays);
	bed_unmake(&b);
}

static void completion_waits_while_a_reader_does(void **state)
{
	struct bed_reader r;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	b = bed_make(dir, NULL);
	b.fake->gate_closed = true;
	r = (struct bed_reader){ .bed = &b, .off = MIB(30) };
	pthread_create(&r.thread, NULL, bed_read_main, &r);
	WAIT_WHILE(b.fake->now == 0, "a transfer to be under way");
	assert_int_equal(cache_image_serve(b.img, &bed_all_of_it, NULL), 0);
	WAIT_WHILE(!bed_completion_is(&b, "running"), "completion to be running");
	usleep(200000);
	assert_int_equal(b.fake->now, 1);
	b.fake->gate_closed = false;
	pthread_join(r.thread, NULL);
	bed_wait_until_done(&b);
	bed_unmake(&b);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void completion_keeps_to_its_rate(void **state)
{
	struct cache_serve_opts serve = bed_all_of_it;
	double began = now_s();
	struct patience p;
	uint64_t got;
	double most;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	serve.rate = MIB(16);
	b = bed_make(dir, &serve);
	p = patience_begin("the first 12 MiB");
	do {
		got = bed_reported(&b, "bytes_completed");
		most = (now_s() - began) * (double)serve.rate * 1.05 + (double)serve.rate / 8;
		assert_true((double)got <= most);
		patience_sleep(&p);
	} while (got < MIB(12));
	bed_unmake(&b);
}

static void an_image_that_only_streams_is_completed(void **state)
{
	struct bed b = { .fake = fake_image_new(BED_SIZE, BED_SEED, BED_ID) };
	struct cache_opts opts = { .no_readahead = true, .min_free = 1 };
	char dir[256];

	bed_dir(state, "c", dir);
	opts.dir = dir;
	b.fake->img.flags |= IMAGE_SEQUENTIAL;
	assert_int_equal(cache_open(&opts, &b.cache, NULL), 0);
	assert_int_equal(cache_image_open(b.cache, "k", &b.fake->img, &b.img, NULL), 0);
	assert_int_equal(cache_image_serve(b.img, &bed_all_of_it, NULL), 0);
	bed_wait_until_done(&b);
	assert_int_equal(bed_reported(&b, "present_bytes"), BED_SIZE);
	assert_int_equal(b.fake->transfers, 1);
	bed_unmake(&b);
}

/* --- verifying --- */

struct check {
	_Atomic int answer;
	_Atomic unsigned int calls;
};

static int check_whole(void *ctx, struct image *whole, struct err *e)
{
	struct check *c = ctx;
	uint8_t *buf = malloc(MIB(1));

	c->calls++;
	assert_int_equal(whole->size, BED_SIZE);
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		assert_int_equal(image_read_at(whole, buf, MIB(1), off, NULL), 0);
		assert_true(fake_matches(buf, BED_SEED, off, MIB(1)));
	}
	free(buf);
	return c->answer ? err_set(e, c->answer, "it is something else") : 0;
}

static void a_complete_image_is_verified_once(void **state)
{
	struct check c = { .answer = 0 };
	struct cache_serve_opts serve = bed_all_of_it;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	serve.digest = "sha256:12";
	serve.verify = check_whole;
	serve.ctx = &c;
	for (int i = 0; i < 2; i++) {
		b = bed_make(dir, &serve);
		WAIT_WHILE(bed_reported(&b, "verified") == UINT64_MAX, "a verdict");
		assert_int_equal(bed_reported(&b, "verified"), 1);
		assert_int_equal(c.calls, 1);
		bed_unmake(&b);
	}
	serve.digest = "sha256:34";
	b = bed_make(dir, &serve);
	WAIT_WHILE(bed_reported(&b, "verified") == UINT64_MAX, "a verdict");
	assert_int_equal(c.calls, 2);
	bed_unmake(&b);
}

static void on_withdrawn(void *ctx)
{
	++*(_Atomic unsigned int *)ctx;
}

static void wrong_bytes_are_refused_and_forgotten(void **state)
{
	_Atomic unsigned int told = 0;
	struct check c = { .answer = -ENOKEY };
	struct cache_serve_opts serve = bed_all_of_it;
	struct cache_known known;
	struct bed b;
	char dir[256];
	uint8_t byte;

	bed_dir(state, "c", dir);
	serve.digest = "sha256:12";
	serve.verify = check_whole;
	serve.ctx = &c;
	b = bed_make(dir, NULL);
	image_listen(b.img, on_withdrawn, &told);
	assert_int_equal(cache_image_serve(b.img, &serve, NULL), 0);
	WAIT_WHILE(told == 0, "the listener to be told");
	assert_int_equal(bed_reported(&b, "verified"), 0);
	assert_int_equal(image_read_at(b.img, &byte, 1, 0, NULL), -EBADMSG);
	image_close(b.img);
	assert_int_equal(cache_peek(b.cache, "k", &known, NULL), -ENOENT);
	cache_close(b.cache);
}

static void read_all(const struct bed *b)
{
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		bed_read(b, off, MIB(1));
	}
}

/* Until the whole was verified so often. */
static void wait_until_checked(const struct bed *b, const struct check *c, unsigned int calls)
{
	WAIT_WHILE(c->calls < calls || bed_reported(b, "verified") == UINT64_MAX,
		"the whole to be verified");
	assert_int_equal(c->calls, calls);
}

/* What comes in the place of what was evicted may be something else. */
static void what_was_fetched_again_is_verified_again(void **state)
{
	struct check c = { .answer = 0 };
	struct cache_serve_opts serve = bed_all_of_it;
	uint64_t freed;
	struct bed b;
	char dir[256];
	uint8_t byte;
	int fd;

	bed_dir(state, "c", dir);
	serve.digest = "sha256:12";
	serve.verify = check_whole;
	serve.ctx = &c;
	b = bed_make(dir, &serve);
	wait_until_checked(&b, &c, 1);
	WAIT_WHILE(image_lend_file(b.img, &fd) == -EAGAIN, "the file to be lent");
	image_return_file(b.img, true);
	assert_int_equal(cache_prune(b.cache, MIB(24), &freed, NULL), 0);
	assert_int_equal(bed_reported(&b, "verified"), UINT64_MAX);
	assert_int_equal(image_lend_file(b.img, &fd), -EAGAIN);
	read_all(&b);
	wait_until_checked(&b, &c, 2);
	assert_int_equal(bed_reported(&b, "verified"), 1);

	assert_int_equal(cache_prune(b.cache, MIB(24), &freed, NULL), 0);
	c.answer = -ENOKEY;
	read_all(&b);
	wait_until_checked(&b, &c, 3);
	assert_int_equal(bed_reported(&b, "verified"), 0);
	assert_int_equal(image_read_at(b.img, &byte, 1, 0, NULL), -EBADMSG);
	bed_unmake(&b);
}

struct evictor {
	const char *dir;
	_Atomic bool was_here;
};

static void evict_some(const char *dir)
{
	struct cache_opts opts = { .dir = dir };
	struct cache *other;
	uint64_t freed = 0;

	assert_int_equal(cache_open(&opts, &other, NULL), 0);
	assert_int_equal(cache_prune(other, MIB(24), &freed, NULL), 0);
	assert_true(freed > 0);
	cache_close(other);
}

static int look_at_all(struct image *whole, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(MIB(1));

	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		int r = image_read_at(whole, buf, MIB(1), off, e);

		if (r < 0) {
			return r;
		}
		if (!fake_matches(buf, BED_SEED, off, MIB(1))) {
			return err_set(e, -ENOKEY, "it is something else");
		}
	}
	return 0;
}

/* All is right, and once it was seen, some of it goes. */
static int check_and_evict(void *ctx, struct image *whole, struct err *e)
{
	struct evictor *v = ctx;
	int r = look_at_all(whole, e);

	if (r == 0) {
		evict_some(v->dir);
		v->was_here = true;
	}
	return r;
}

static void what_is_evicted_meanwhile_was_not_verified(void **state)
{
	struct cache_serve_opts serve = bed_all_of_it;
	struct evictor v = { 0 };
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	v.dir = dir;
	serve.digest = "sha256:12";
	serve.verify = check_and_evict;
	serve.ctx = &v;
	b = bed_make(dir, &serve);
	WAIT_WHILE(!v.was_here, "the verifier");
	bed_unmake(&b); /* waits for the thread that verifies */
	assert_false(cache_check_verdict(dir));
}

/* As another process does that gets something else. */
static void evict_and_refetch(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true, .min_free = 1 };
	struct fake_image *fake = fake_image_new(BED_SIZE, BED_SEED + 1, BED_ID);
	CLEANUP_FREE uint8_t *buf = malloc(MIB(1));
	struct cache *other;
	struct image *img;

	evict_some(dir);
	assert_int_equal(cache_open(&opts, &other, NULL), 0);
	assert_int_equal(cache_image_open(other, "k", &fake->img, &img, NULL), 0);
	for (uint64_t off = 0; off < BED_SIZE; off += MIB(1)) {
		assert_int_equal(image_read_at(img, buf, MIB(1), off, NULL), 0);
	}
	assert_true(fake->bytes > 0);
	image_close(img);
	cache_close(other);
}

/* The first time all is right, and is something else once it was seen. */
static int check_and_refetch(void *ctx, struct image *whole, struct err *e)
{
	struct evictor *v = ctx;
	int r = look_at_all(whole, e);

	if (r == 0 && !v->was_here) {
		evict_and_refetch(v->dir);
		v->was_here = true;
	}
	return r;
}

static void what_others_fetched_meanwhile_is_verified_again(void **state)
{
	struct cache_serve_opts serve = bed_all_of_it;
	struct evictor v = { 0 };
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	v.dir = dir;
	serve.digest = "sha256:12";
	serve.verify = check_and_refetch;
	serve.ctx = &v;
	b = bed_make(dir, &serve);
	WAIT_WHILE(bed_reported(&b, "verified") == UINT64_MAX, "a verdict");
	assert_int_equal(bed_reported(&b, "verified"), 0);
	bed_unmake(&b);
}

/* The same cache for another process, to which the network brings something else, once it may. */
static struct bed make_misled(const char *dir)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true, .min_free = 1 };
	struct bed b = { .fake = fake_image_new(BED_SIZE, BED_SEED + 1, BED_ID) };

	b.fake->gate_closed = true;
	assert_int_equal(cache_open(&opts, &b.cache, NULL), 0);
	assert_int_equal(cache_image_open(b.cache, "k", &b.fake->img, &b.img, NULL), 0);
	return b;
}

/* Who fetches the same beside those who were slow does not put its bytes in the place of theirs:
 * these may have been proven meanwhile. */
static void what_was_verified_stays_when_others_fetch_it_too(void **state)
{
	struct check c = { .answer = 0 };
	struct cache_serve_opts serve = bed_all_of_it;
	struct bed_reader r;
	struct bed other;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	serve.digest = "sha256:12";
	serve.verify = check_whole;
	serve.ctx = &c;
	b = bed_make(dir, NULL);
	b.fake->gate_closed = true;
	assert_int_equal(cache_image_serve(b.img, &serve, NULL), 0);
	WAIT_WHILE(b.fake->now == 0, "a transfer to be under way");
	other = make_misled(dir);
	r = (struct bed_reader){ .bed = &other, .off = 4096 };
	pthread_create(&r.thread, NULL, bed_read_main, &r);
	WAIT_WHILE(other.fake->now == 0, "a transfer to be under way");
	b.fake->gate_closed = false;
	wait_until_checked(&b, &c, 1);
	other.fake->gate_closed = false;
	pthread_join(r.thread, NULL); /* it got what is kept, and not what it fetched */
	bed_unmake(&other);
	read_all(&b);
	wait_until_checked(&b, &c, 1);
	bed_unmake(&b);
	assert_true(cache_check_verdict(dir));
}

/* All of the image, but its last MiB, which the disk does not take, in memory only. */
static struct bed make_with_a_spill(const char *dir)
{
	struct bed b = bed_make(dir, NULL);
	struct rlimit before;
	struct rlimit less;

	for (uint64_t off = 0; off < BED_SIZE - MIB(1); off += MIB(1)) {
		bed_read(&b, off, MIB(1));
	}
	WAIT_WHILE(bed_reported(&b, "present_bytes") < BED_SIZE - MIB(1), "bytes to be present");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	less = before;
	less.rlim_cur = BED_SIZE - MIB(1);
	setrlimit(RLIMIT_FSIZE, &less);
	bed_read(&b, BED_SIZE - MIB(1), MIB(1));
	WAIT_WHILE(bed_reported(&b, "bypassed") < MIB(1) / CACHE_GRANULE,
		"what the disk does not take");
	setrlimit(RLIMIT_FSIZE, &before);
	return b;
}

/* It is verified, but what is on disk is not all of it. */
static void what_is_partly_in_memory_is_verified(void **state)
{
	struct check c = { .answer = 0 };
	struct cache_serve_opts serve = bed_all_of_it;
	struct bed b;
	char dir[256];

	bed_dir(state, "c", dir);
	serve.digest = "sha256:12";
	serve.verify = check_whole;
	serve.ctx = &c;
	b = make_with_a_spill(dir);
	assert_int_equal(cache_image_serve(b.img, &serve, NULL), 0);
	wait_until_checked(&b, &c, 1);
	assert_int_equal(bed_reported(&b, "verified"), 1);
	assert_int_equal(bed_reported(&b, "present_bytes"), BED_SIZE - MIB(1));
	bed_unmake(&b);
	assert_false(cache_check_verdict(dir));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(it_completes_itself_and_needs_nobody_then),
		CACHE_DIR_TEST(what_readers_completed_is_complete),
		CACHE_DIR_TEST(completion_goes_on_after_failures),
		CACHE_DIR_TEST(completion_begins_by_itself_when_a_third_was_read),
		CACHE_DIR_TEST(what_came_unread_begins_no_completion),
		CACHE_DIR_TEST(what_the_cache_cannot_keep_is_not_completed),
		CACHE_DIR_TEST(what_is_here_of_an_image_is_no_room_for_its_rest),
		CACHE_DIR_TEST(completion_ends_where_what_comes_makes_go_what_came),
		CACHE_DIR_TEST(completion_waits_while_a_reader_does),
		CACHE_DIR_TEST(completion_keeps_to_its_rate),
		CACHE_DIR_TEST(an_image_that_only_streams_is_completed),
		CACHE_DIR_TEST(a_complete_image_is_verified_once),
		CACHE_DIR_TEST(wrong_bytes_are_refused_and_forgotten),
		CACHE_DIR_TEST(what_was_fetched_again_is_verified_again),
		CACHE_DIR_TEST(what_is_evicted_meanwhile_was_not_verified),
		CACHE_DIR_TEST(what_others_fetched_meanwhile_is_verified_again),
		CACHE_DIR_TEST(what_was_verified_stays_when_others_fetch_it_too),
		CACHE_DIR_TEST(what_is_partly_in_memory_is_verified),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
