/* SPDX-License-Identifier: Apache-2.0 */
/* An image that is served: a fake image, a cache over it, and what goes on beside its readers. */
#ifndef TESTS_UNIT_WARM_BED_H
#define TESTS_UNIT_WARM_BED_H

#include "tests/unit/test.h"

#include <pthread.h>

#include "cache/cache.h"
#include "tests/unit/fake_image.h"

#define BED_SIZE     MIB(64)
#define BED_GRANULES (BED_SIZE / CACHE_GRANULE)
#define BED_SEED     5
#define BED_ID       "https://host/disk etag=\"1\" size=67108864"

extern const struct cache_serve_opts bed_trace_only;
extern const struct cache_serve_opts bed_all_of_it;

struct bed {
	struct fake_image *fake;
	struct cache *cache;
	struct image *img;
};

/* Not served when @serve is NULL. */
struct bed bed_make_as(
	const struct cache_opts *opts, const char *id, const struct cache_serve_opts *serve);

/* With a cache in @dir and no readahead. */
struct bed bed_make(const char *dir, const struct cache_serve_opts *serve);
void bed_unmake(struct bed *b);

/* A directory of that name in the one of the test. */
void bed_dir(void **state, const char *name, char ret[256]);

/* A number that the cache reports; UINT64_MAX: it does not. */
uint64_t bed_reported(const struct bed *b, const char *key);
bool bed_completion_is(const struct bed *b, const char *state);

void bed_wait_until_done(const struct bed *b);
void bed_wait_for_replay(const struct bed *b);

/* The bytes must be right. */
void bed_read(const struct bed *b, uint64_t off, size_t len);

/* What a machine reads that boots: places all over the image, two and two beside each other. */
uint64_t bed_place(uint64_t i);
void bed_boot(const struct bed *b, uint64_t count);

struct bed_record {
	void *data; /* the caller's */
	size_t len;
};

/* Boots once over a cache in @dir, and takes the record along. */
struct bed_record bed_record(const char *dir, uint64_t count);

struct bed_reader {
	pthread_t thread;
	const struct bed *bed;
	uint64_t off;
};

/* Of a thread: reads 4 KiB. @arg is a struct bed_reader. */
void *bed_read_main(void *arg);

#endif
