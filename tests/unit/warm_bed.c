/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/warm_bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/report.h"
#include "tests/unit/cache_check.h"
#include "tests/unit/patience.h"

const struct cache_serve_opts bed_trace_only = { .no_complete = true };
const struct cache_serve_opts bed_all_of_it = { .complete = true, .delay_given = true };

struct bed bed_make_as(
	const struct cache_opts *opts, const char *id, const struct cache_serve_opts *serve)
{
	struct bed b = { .fake = fake_image_new(BED_SIZE, BED_SEED, id) };

	assert_int_equal(cache_open(opts, &b.cache, NULL), 0);
	assert_int_equal(cache_image_open(b.cache, "k", &b.fake->img, &b.img, NULL), 0);
	if (serve) {
		assert_int_equal(cache_image_serve(b.img, serve, NULL), 0);
	}
	return b;
}

struct bed bed_make(const char *dir, const struct cache_serve_opts *serve)
{
	struct cache_opts opts = { .dir = dir, .no_readahead = true, .min_free = 1 };

	return bed_make_as(&opts, BED_ID, serve);
}

void bed_unmake(struct bed *b)
{
	image_close(b->img);
	cache_close(b->cache);
}

void bed_dir(void **state, const char *name, char ret[256])
{
	snprintf(ret, 256, "%s/%s", (const char *)*state, name);
}

uint64_t bed_reported(const struct bed *b, const char *key)
{
	struct report r = REPORT_INIT;
	const struct report_item *item;
	uint64_t n;

	image_report(b->img, &r);
	item = report_find(&r, "cache", key);
	n = item ? item->number : UINT64_MAX;
	report_clear(&r);
	return n;
}

bool bed_completion_is(const struct bed *b, const char *state)
{
	struct report r = REPORT_INIT;
	bool is;

	image_report(b->img, &r);
	is = strcmp(report_find(&r, "cache", "completion")->text, state) == 0;
	report_clear(&r);
	return is;
}

void bed_wait_until_done(const struct bed *b)
{
	WAIT_WHILE(!bed_completion_is(b, "done"), "completion to be done");
}

void bed_wait_for_replay(const struct bed *b)
{
	WAIT_WHILE(bed_reported(b, "replaying"), "the end of the replay");
	WAIT_WHILE(bed_reported(b, "present_bytes") < bed_reported(b, "bytes_replayed"),
		"bytes to be present");
}

void bed_read(const struct bed *b, uint64_t off, size_t len)
{
	cache_check_read(b->img, BED_SEED, off, len);
}

/* What a machine reads that boots: places all over the image, two and two beside each other. */
uint64_t bed_place(uint64_t i)
{
	return (i / 2 * 74 % BED_GRANULES + i % 2) * CACHE_GRANULE;
}

void bed_boot(const struct bed *b, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		bed_read(b, bed_place(i) + 512, 4096);
	}
}

/* Boots once over a cache in @dir, and takes the record along. */
struct bed_record bed_record(const char *dir, uint64_t count)
{
	struct bed b = bed_make(dir, &bed_trace_only);
	struct bed_record r;

	bed_boot(&b, count);
	WAIT_WHILE(
		bed_reported(&b, "present_bytes") < count * CACHE_GRANULE, "bytes to be present");
	image_close(b.img);
	assert_int_equal(cache_trace_get(b.cache, "k", &r.data, &r.len, NULL), 0);
	cache_close(b.cache);
	return r;
}

void *bed_read_main(void *arg)
{
	struct bed_reader *r = arg;

	bed_read(r->bed, r->off, 4096);
	return NULL;
}
