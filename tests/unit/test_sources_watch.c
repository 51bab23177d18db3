/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs that are verified when all of them is here. */
#include "tests/unit/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/report.h"
#include "sources/blob_facts.h"
#include "sources/oci_digest.h"
#include "sources/source.h"
#include "tests/unit/fake_image.h"
#include "tests/unit/patience.h"

#define SIZE MIB(3)

/* What a cache would say of itself. */
struct cache {
	struct image img;
	struct image *kept; /* what is below the blob: who looks fetches nothing */
	_Atomic uint64_t present;
	_Atomic uint64_t reads;
	_Atomic uint64_t prefetches;
	_Atomic bool broken;
	_Atomic bool torn; /* until somebody fetches it again */
};

static int cache_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	((struct cache *)img)->reads++;
	return image_read_at(img->below, buf, len, off, e);
}

static int cache_peek_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct cache *c = (struct cache *)img;

	if (c->broken) {
		return err_set(e, -EIO, "broken");
	}
	if (c->torn && off > 0) {
		return err_set(e, -EAGAIN, "not here");
	}
	return image_read_at(c->kept, buf, len, off, e);
}

static void cache_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct cache *c = (struct cache *)img;

	assert_true(off > 0 && len > 0);
	c->torn = false;
	c->prefetches++;
}

static void cache_report(struct image *img, struct report *r)
{
	report_u64(r, "present_bytes", ((struct cache *)img)->present);
}

static void cache_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops cache_ops = {
	.name = "cache",
	.read_at = cache_read_at,
	.peek_at = cache_peek_at,
	.prefetch = cache_prefetch,
	.report = cache_report,
	.destroy = cache_destroy,
};

/* One record, written by the thread that watches and read by the test, as struct blobs allows. */
struct record {
	struct blobs blobs;
	pthread_mutex_t lock;
	char text[200];
	size_t len;
	bool there;
};

static int record_get(struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	struct record *r = (struct record *)b;

	(void)name;
	(void)e;
	pthread_mutex_lock(&r->lock);
	bool there = r->there;
	if (there) {
		*ret = malloc(r->len + 1);
		memcpy(*ret, r->text, r->len);
		*ret_len = r->len;
	}
	pthread_mutex_unlock(&r->lock);
	return there ? 0 : -ENOENT;
}

static int record_put(
	struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	struct record *r = (struct record *)b;

	(void)name;
	(void)e;
	assert_true(len < sizeof(r->text));
	pthread_mutex_lock(&r->lock);
	memcpy(r->text, data, len);
	r->len = len;
	r->there = true;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static const struct blobs_ops record_ops = { record_get, record_put };

static char good[OCI_DIGEST_MAX];

static int make_digest(void **state)
{
	uint8_t *buf = malloc(SIZE);

	(void)state;
	for (uint64_t i = 0; i < SIZE; i++) {
		buf[i] = fake_byte(1, i);
	}
	assert_int_equal(oci_digest_make(buf, SIZE, good, NULL), 0);
	free(buf);
	return 0;
}

static struct image *watch(
	const char *digest, struct record *record, uint64_t present, struct cache **ret)
{
	struct cache *c = calloc(1, sizeof(*c));
	struct image *img = NULL;
	struct err e = { 0 };

	c->kept = &fake_image_new(SIZE, 1, NULL)->img;
	assert_int_equal(image_init(&c->img, &cache_ops, c->kept, SIZE, "x"), 0);
	c->present = present;
	if (source_watch_open(&c->img, digest, record ? &record->blobs : NULL, &img, &e) < 0) {
		fail_msg("%s", e.text);
	}
	*ret = c;
	return img;
}

/* The first word of "verified". */
static const char *verdict(struct image *img)
{
	static char word[8];
	struct report r = REPORT_INIT;

	image_report(img, &r);
	snprintf(word, sizeof(word), "%.3s", report_find(&r, "blob", "verified")->text);
	report_clear(&r);
	return word;
}

static void wait_for_verdict(struct image *img, const char *word)
{
	WAIT_WHILE(strcmp(verdict(img), word) != 0, word);
}

static void check_read(struct image *img)
{
	uint8_t buf[100];

	assert_int_equal(image_read_at(img, buf, sizeof(buf), SIZE - 100, NULL), 0);
	assert_true(fake_matches(buf, 1, SIZE - 100, sizeof(buf)));
}

static void a_blob_is_verified_when_it_is_here(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct cache *cache;
	struct image *img = watch(good, &record, SIZE - 1, &cache);

	(void)state;
	check_read(img);
	assert_string_equal(verdict(img), "not");
	cache->present = SIZE;
	wait_for_verdict(img, "yes");
	assert_int_equal(cache->reads, 1); /* not by who verifies: the cache would learn from it */
	check_read(img);
	image_close(img);
	assert_memory_equal(record.text, good, strlen(good));

	/* the next one believes it, and reads nothing */
	img = watch(good, &record, SIZE, &cache);
	assert_string_equal(verdict(img), "yes");
	assert_int_equal(cache->reads, 0);
	image_close(img);
}

static void what_went_since_makes_it_unverified(void **state)
{
	struct record record = { .blobs = { &record_ops }, .there = true };
	struct cache *cache;
	struct image *img;

	(void)state;
	record.len = strlen(good);
	memcpy(record.text, good, record.len);
	img = watch(good, &record, SIZE - 1, &cache);
	assert_string_equal(verdict(img), "not");
	assert_int_equal(record.len, 0);
	/* also for those who only ask, and fetch the rest then */
	record.len = strlen(good);
	assert_int_equal(
		source_verdict_recall(&cache->img, good, &record.blobs), SOURCE_UNVERIFIED);
	cache->present = SIZE;
	assert_int_equal(
		source_verdict_recall(&cache->img, good, &record.blobs), SOURCE_UNVERIFIED);
	image_close(img);
}

static void other_bytes_are_not_handed_out(void **state)
{
	char bad[sizeof(good)];
	struct cache *cache;
	struct image *img;
	struct err e = { 0 };
	uint8_t byte;

	(void)state;
	memcpy(bad, good, sizeof(good));
	bad[10] = bad[10] == '0' ? '1' : '0';
	img = watch(bad, NULL, SIZE, &cache);
	wait_for_verdict(img, "no,");
	assert_int_equal(image_read_at(img, &byte, 1, 0, &e), -ENOKEY);
	assert_non_null(strstr(e.text, bad));
	image_close(img);
}

/* A watch with @record over a cache that keeps nothing over a blob. */
static struct image *watch_blob(
	const char *digest, struct record *record, struct cache **ret, struct fake_image **ret_fake)
{
	const struct source_blob layer = { .digest = digest, .media_type = "", .size = SIZE };
	const struct source_facts facts = { "", "", "", "", "", "", "", "", "", false, &layer, 1 };
	struct cache *c = calloc(1, sizeof(*c));
	struct image *blob = NULL;
	struct image *img = NULL;

	*ret_fake = fake_image_new(SIZE, 1, NULL);
	assert_int_equal(blob_facts_open(&(*ret_fake)->img, &facts, 0, "other id", &blob, NULL), 0);
	assert_string_equal(blob->id, "other id");
	c->kept = &(*ret_fake)->img;
	assert_int_equal(image_init(&c->img, &cache_ops, blob, SIZE, blob->id), 0);
	c->present = SIZE;
	assert_int_equal(source_watch_open(&c->img, digest, &record->blobs, &img, NULL), 0);
	*ret = c;
	return img;
}

static void what_is_fetched_again_is_unverified_until_it_was_read(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct fake_image *fake;
	struct cache *c;
	struct image *img;
	uint8_t byte;

	(void)state;
	record.there = true;
	record.len = strlen(good);
	memcpy(record.text, good, record.len);
	img = watch_blob(good, &record, &c, &fake);
	assert_string_equal(verdict(img), "yes");
	assert_int_equal(source_verdict_recall(&c->img, good, &record.blobs), SOURCE_VERIFIED);

	/* this cache keeps nothing: a reading is a fetch */
	c->present = SIZE - 1;
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), 0);
	assert_string_equal(verdict(img), "not");
	assert_int_equal(source_verdict_recall(&c->img, good, &record.blobs), SOURCE_UNVERIFIED);
	assert_int_equal(record.len, 0);
	image_close(img);
}

/* What the listener of an image saw when it was told. */
struct listening {
	_Atomic unsigned int told;
};

static void on_withdrawn(void *ctx)
{
	((struct listening *)ctx)->told++;
}

static void wrong_bytes_are_withdrawn(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct listening l = { 0 };
	char bad[sizeof(good)];
	struct cache *cache;
	struct image *img;
	uint8_t byte;

	(void)state;
	memcpy(bad, good, sizeof(good));
	bad[10] = bad[10] == '0' ? '1' : '0';
	img = watch(bad, &record, 0, &cache);
	image_listen(img, on_withdrawn, &l);
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), 0);
	cache->present = SIZE;
	WAIT_WHILE(l.told == 0, "the listener to be told");
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), -ENOKEY);
	assert_int_equal(l.told, 1);
	image_listen(img, NULL, NULL);
	image_close(img);
}

static void what_was_wrong_stays_wrong(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	char bad[sizeof(good)];
	struct cache *cache;
	struct image *img;
	uint8_t byte;

	(void)state;
	memcpy(bad, good, sizeof(good));
	bad[10] = bad[10] == '0' ? '1' : '0';
	img = watch(bad, &record, SIZE, &cache);
	wait_for_verdict(img, "no,");
	assert_int_equal(source_verdict_recall(&cache->img, bad, &record.blobs), SOURCE_WRONG);
	image_close(img);
	img = watch(bad, &record, 0, &cache);
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), -ENOKEY);
	image_close(img);
}

static void what_could_not_be_read_is_read_again(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct cache *cache;
	struct image *img = watch(good, &record, SIZE, &cache);

	(void)state;
	cache->broken = true;
	wait_for_verdict(img, "no,");
	cache->broken = false;
	wait_for_verdict(img, "yes");
	assert_int_equal(cache->reads, 0);
	assert_int_equal(cache->prefetches, 0);
	image_close(img);
}

static void wrong_bytes_are_found_when_what_was_torn_is_here_again(void **state)
{
	struct record record = { { &record_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };
	char bad[sizeof(good)];
	struct fake_image *fake;
	struct cache *cache;
	struct image *img;
	uint8_t byte;

	(void)state;
	memcpy(bad, good, sizeof(good));
	bad[10] = bad[10] == '0' ? '1' : '0';
	img = watch_blob(bad, &record, &cache, &fake);
	cache->torn = true;
	wait_for_verdict(img, "no,");
	assert_int_equal(cache->prefetches, 1);
	assert_int_equal(image_read_at(img, &byte, 1, 0, NULL), -ENOKEY);
	image_close(img);
}

static void nobody_waits_for_one_that_is_closed(void **state)
{
	struct cache *cache;
	struct image *img = watch(good, NULL, 0, &cache);

	(void)state;
	image_interrupt(img);
	image_close(img);
	assert_int_equal(source_watch_open(NULL, "sha256:1", NULL, &img, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_is_verified_when_it_is_here),
		cmocka_unit_test(what_went_since_makes_it_unverified),
		cmocka_unit_test(other_bytes_are_not_handed_out),
		cmocka_unit_test(what_is_fetched_again_is_unverified_until_it_was_read),
		cmocka_unit_test(wrong_bytes_are_withdrawn),
		cmocka_unit_test(what_was_wrong_stays_wrong),
		cmocka_unit_test(what_could_not_be_read_is_read_again),
		cmocka_unit_test(wrong_bytes_are_found_when_what_was_torn_is_here_again),
		cmocka_unit_test(nobody_waits_for_one_that_is_closed),
	};

	return cmocka_run_group_tests(tests, make_digest, NULL);
}
