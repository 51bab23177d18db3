/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the record of a boot: parsing ends with an error or with a trace that is within its
 * image, is written again as it was, and whose requests are what it names. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "cache/cache.h"
#include "cache/trace.h"
#include "core/bytes.h"

#define RUNS 64U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_requests(const struct trace *t)
{
	uint64_t granules = div_round_up(t->size, CACHE_GRANULE);
	struct trace_run runs[RUNS];
	uint64_t named = 0;
	uint64_t asked = 0;
	size_t next = 0;
	size_t n;

	for (size_t i = 0; i < t->count; i++) {
		named += trace_is_usual(t, &t->entries[i]);
	}
	while ((n = trace_window(t, &next, 1000, 0, runs, RUNS)) > 0) {
		for (size_t i = 0; i < n; i++) {
			assert(runs[i].count > 0);
			assert(range_within(runs[i].first, runs[i].count, granules));
			assert(i == 0 || runs[i].first > runs[i - 1].first);
			asked += runs[i].count;
		}
	}
	assert(next == t->count && asked <= named);
}

static void check_merge(const struct trace *t)
{
	struct trace_entry seen[] = { { 0, 0, 1 } };
	struct trace merged;

	if (t->size > 0 && trace_merge(t, seen, 1, &merged) == 0) {
		assert(merged.boots >= 1 && merged.boots <= TRACE_BOOTS_MAX);
		assert(merged.count <= t->count + 1);
		trace_clear(&merged);
	}
}

static void check(const uint8_t *data, size_t len)
{
	struct err e = { 0 };
	struct trace t;
	void *again;
	size_t again_len;
	int r = trace_parse(data, len, &t, &e);

	if (r < 0) {
		assert(r == -EINVAL || r == -EBADMSG || r == -ENOTSUP);
		assert(e.code == r && e.text[0]);
		return;
	}
	check_requests(&t);
	check_merge(&t);
	if (trace_format(&t, &again, &again_len, NULL) == 0) {
		/* A NUL in the version ends it; the four bytes in the head are spare. */
		if (!memchr(data + 40, 0, load_le32(data + 32)) && load_le32(data + 36) == 0) {
			assert(again_len == len && memcmp(again, data, len) == 0);
		}
		free(again);
	}
	trace_clear(&t);
}

/* As it is, and as if its checksum were right: that keeps nobody out who means harm. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy;

	check(data, len);
	if (len >= 8) {
		copy = malloc(len);
		if (copy) {
			memcpy(copy, data, len);
			store_le64(copy + len - 8, XXH3_64bits(copy, len - 8));
			check(copy, len);
			free(copy);
		}
	}
	return 0;
}
