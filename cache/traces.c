/* SPDX-License-Identifier: Apache-2.0 */
/* The records of boots, from outside: what `lazydisk trace` does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/atfile.h"
#include "cache/blobdir.h"
#include "cache/cache.h"
#include "cache/face.h"
#include "cache/store.h"
#include "cache/trace.h"
#include "core/bytes.h"
#include "core/cleanup.h"

#define RECORD BLOBDIR_PREFIX "trace"
#define WINDOW 4096U

static int open_object(struct cache *c, const char *key, struct store_object *ret, struct err *e)
{
	char hash[STORE_HASH + 1];
	int r;

	if (!face_store(c)) {
		return err_set(e, -ENOENT, "%s is not cached", key);
	}
	store_hash(key, hash);
	r = store_object_open(face_store(c), hash, false, ret, e);
	return r == -ENOENT ? err_set(e, r, "%s is not cached", key) : r;
}

static int no_record(const char *key, struct err *e)
{
	return err_set(e, -ENOENT, "no boot of %s was recorded", key);
}

int cache_trace_get(struct cache *c, const char *key, void **ret, size_t *ret_len, struct err *e)
{
	struct store_object o;
	char *data;
	int r = open_object(c, key, &o, e);

	if (r < 0) {
		return r;
	}
	r = atfile_read(o.fd, RECORD, CACHE_TRACE_MAX, &data, ret_len, e);
	store_object_close(&o);
	if (r == 0) {
		*ret = data;
	}
	return r == -ENOENT ? no_record(key, e) : r;
}

int cache_trace_drop(struct cache *c, const char *key, struct err *e)
{
	struct store_object o;
	int r = open_object(c, key, &o, e);

	if (r < 0) {
		return r;
	}
	r = unlinkat(o.fd, RECORD, 0) < 0 ? -errno : 0;
	store_object_close(&o);
	if (r == -ENOENT) {
		return no_record(key, e);
	}
	return r < 0 ? err_sys(e, r, "the record of %s", key) : 0;
}

static void count_requests(const struct trace *t, struct cache_trace_info *info)
{
	struct trace_run runs[WINDOW];
	size_t next = 0;
	size_t n;

	do {
		n = trace_window(t, &next, 1000, 0, runs, WINDOW);
		info->requests += n;
	} while (n > 0);
}

int cache_trace_describe(const void *data, size_t len, struct cache_trace_info *ret, struct err *e)
{
	struct cache_trace_info info = { 0 };
	struct trace t;
	int r = trace_parse(data, len, &t, e);

	if (r < 0) {
		return r;
	}
	info.size = t.size;
	info.boots = t.boots;
	for (size_t i = 0; i < t.count; i++) {
		*(trace_is_usual(&t, &t.entries[i]) ? &info.bytes : &info.rare) += CACHE_GRANULE;
		info.span_ms = t.entries[i].ms;
	}
	count_requests(&t, &info);
	info.version = TAKE_PTR(t.version);
	trace_clear(&t);
	*ret = info;
	return 0;
}

int cache_image_trace_import(struct image *img, const void *data, size_t len, struct err *e)
{
	CLEANUP_FREE void *record = NULL;
	size_t record_len = 0;
	struct trace t;
	int r = trace_parse(data, len, &t, e);

	if (r < 0) {
		return r;
	}
	if (t.size != img->size) {
		r = err_set(e, -ESTALE,
			"the boot trace is of an image of %llu bytes, this one has %llu",
			(unsigned long long)t.size, (unsigned long long)img->size);
		trace_clear(&t);
		return r;
	}
	free(t.version);
	t.version = strndup(trace_version(img->id), TRACE_VERSION_MAX);
	r = t.version ? trace_format(&t, &record, &record_len, e)
		      : err_set(e, -ENOMEM, "out of memory");
	if (r == 0) {
		r = blobs_put(cache_image_blobs(img), "trace", record, record_len, e);
	}
	trace_clear(&t);
	return r;
}
