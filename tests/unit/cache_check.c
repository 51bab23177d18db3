/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cache_check.h"

#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/report.h"
#include "tests/unit/fake_image.h"
#include "tests/unit/test.h"

uint64_t cache_check_count(struct image *img, const char *key)
{
	struct report r = REPORT_INIT;
	const struct report_item *item;
	uint64_t n;

	image_report(img, &r);
	item = report_find(&r, "cache", key);
	assert_non_null(item);
	n = item->number;
	report_clear(&r);
	return n;
}

void cache_check_read(struct image *img, uint64_t seed, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len);
	struct err e = { 0 };

	assert_non_null(buf);
	if (image_read_at(img, buf, len, off, &e) < 0) {
		fail_msg("%s", e.text);
	}
	assert_true(fake_matches(buf, seed, off, len));
	free(buf);
}

struct reader {
	pthread_t thread;
	struct image *img;
	uint64_t seed;
	uint64_t size;
	unsigned int rand;
	bool right;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(KIB(300));

	r->right = true;
	for (unsigned int i = 0; i < 40; i++) {
		uint64_t off = (uint64_t)(unsigned int)rand_r(&r->rand) % r->size;
		size_t len = min_u64((unsigned int)rand_r(&r->rand) % KIB(300) + 1, r->size - off);

		r->right &= image_read_at(r->img, buf, len, off, NULL) == 0 &&
			    fake_matches(buf, r->seed, off, len);
	}
	free(buf);
	return NULL;
}

void cache_check_crowd(struct image *img, uint64_t seed, uint64_t size)
{
	struct reader readers[8];

	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i] = (struct reader){ .img = img, .seed = seed, .size = size, .rand = i };
		pthread_create(&readers[i].thread, NULL, read_at_random, &readers[i]);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		assert_true(readers[i].right);
	}
}

void *cache_check_last_byte(void *arg)
{
	struct image *img = arg;
	uint8_t byte;

	return image_read_at(img, &byte, 1, img->size - 1, NULL) == 0 ? NULL : arg;
}

char *cache_check_file(const char *dir, const char *name)
{
	char *pattern = NULL;
	char *path = NULL;
	glob_t found;

	assert_true(asprintf(&pattern, "%s/obj/*/*", dir) > 0);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	free(pattern);
	assert_true(asprintf(&path, "%s/%s", found.gl_pathv[0], name) > 0);
	globfree(&found);
	return path;
}

bool cache_check_verdict(const char *dir)
{
	char *path = cache_check_file(dir, "blob.verified");
	FILE *f = fopen(path, "re");
	char text[128] = "";

	free(path);
	if (!f) {
		return false;
	}
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return memmem(text, sizeof(text), "sha256:", strlen("sha256:")) != NULL;
}
