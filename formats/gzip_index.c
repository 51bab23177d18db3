/* SPDX-License-Identifier: Apache-2.0 */
/* An array of points that grows, and when it is written where. */
#include "formats/gzip_index.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/gzip_windows.h"

/* Points with a window are so far apart: its decoding takes less than a round trip over a network,
 * and windows less than 1 % of what was decoded. Those without cost nothing. */
#define SPACING        MIB(3)
#define HEADER_SPACING MIB(1)

/* When windows cannot be written away, each so many bytes of them double the spacing. */
#define HELD_STEP MIB(16)

/* What is learned is written after so many decoded bytes, or so much time. */
#define SAVE_BYTES MIB(64)
#define SAVE_NS    5000000000U

struct gzip_index {
	struct gzip_record_of of;
	char *id;
	struct blobs *blobs;
	char name[32]; /* of the record of points; those of windows are NAME.NUMBER */
	struct gzip_windows *windows;

	pthread_mutex_t lock; /* protects everything below */
	struct gzip_point *points;
	size_t count;
	size_t room;
	size_t window_count; /* of the points that have one */
	bool complete;
	uint64_t total;
	bool dirty;
	bool condemned;
	uint64_t bad_from;
	uint64_t bad_to;
	struct err bad;
	uint64_t saved_out;
	uint64_t saved_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The point at 0 is there before anything is known. */
static int begin(struct gzip_index *ix)
{
	ix->points = calloc(64, sizeof(*ix->points));
	if (!ix->points) {
		return -ENOMEM;
	}
	ix->points[0] = (struct gzip_point){ .header = true };
	ix->count = 1;
	ix->room = 64;
	return 0;
}

/* Takes @points over, as far as their windows can be had. */
static void adopt(struct gzip_index *ix, const struct gzip_points *points)
{
	size_t usable = gzip_windows_adopt(ix->windows, points->windows);

	free(ix->points);
	ix->points = points->points;
	ix->room = points->count;
	ix->count = 0;
	ix->window_count = 0;
	while (ix->count < points->count &&
		(points->points[ix->count].window_len == 0 || ix->window_count < usable)) {
		ix->window_count += points->points[ix->count].window_len > 0;
		ix->count++;
	}
	ix->complete = points->complete && ix->count == points->count;
	ix->total = points->total;
	ix->saved_out = ix->points[ix->count - 1].out;
}

static int load(struct gzip_index *ix)
{
	struct gzip_points points;
	CLEANUP_FREE void *data = NULL;
	size_t len;
	int r;

	if (!ix->blobs || blobs_get(ix->blobs, ix->name, &data, &len, NULL) < 0) {
		return 0;
	}
	r = gzip_record_get_points(&ix->of, data, len, &points);
	if (r == -EBADMSG) {
		return 0; /* as good as none */
	}
	if (r == 0) {
		adopt(ix, &points);
	}
	return r;
}

int gzip_index_new(uint64_t file_size, const char *id, struct blobs *blobs, struct gzip_index **ret)
{
	struct gzip_index *ix = calloc(1, sizeof(*ix));
	int r;

	if (!ix) {
		return -ENOMEM;
	}
	pthread_mutex_init(&ix->lock, NULL);
	ix->id = strdup(id);
	ix->of = (struct gzip_record_of){ ix->id, file_size };
	ix->blobs = blobs;
	ix->saved_ns = now_ns();
	snprintf(ix->name, sizeof(ix->name), "gzip-%08x",
		ix->id ? libdeflate_crc32(0, id, strlen(id)) : 0);
	r = ix->id ? gzip_windows_new(&ix->of, blobs, ix->name, &ix->windows) : -ENOMEM;
	if (r == 0) {
		r = begin(ix);
	}
	if (r == 0) {
		r = load(ix);
	}
	if (r < 0) {
		gzip_index_free(ix);
		return r;
	}
	*ret = ix;
	return 0;
}

void gzip_index_free(struct gzip_index *ix)
{
	if (!ix) {
		return;
	}
	gzip_windows_free(ix->windows);
	free(ix->points);
	free(ix->id);
	pthread_mutex_destroy(&ix->lock);
	free(ix);
}

/* The number of points at or before @out, of which there is at least one. */
static size_t points_upto(const struct gzip_index *ix, uint64_t out)
{
	size_t low = 1;
	size_t high = ix->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ix->points[mid].out <= out) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

void gzip_index_find(
	struct gzip_index *ix, uint64_t out, struct gzip_point *ret, size_t *ret_number)
{
	LOCK_SCOPE(&ix->lock);
	size_t n = points_upto(ix, out) - 1;

	*ret = ix->points[n];
	*ret_number = n;
}

bool gzip_index_after(struct gzip_index *ix, uint64_t out, struct gzip_point *ret)
{
	LOCK_SCOPE(&ix->lock);
	size_t n = points_upto(ix, out);

	if (n == ix->count) {
		return false;
	}
	*ret = ix->points[n];
	return true;
}

bool gzip_index_span(struct gzip_index *ix, uint64_t at, uint64_t *ret)
{
	size_t low = 0;
	size_t high;
	LOCK_SCOPE(&ix->lock);

	high = ix->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ix->points[mid].in_bits / 8 <= at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (low < ix->count) {
		*ret = div_round_up(ix->points[low].in_bits, 8);
	} else if (ix->complete && at < ix->of.file_size) {
		*ret = ix->of.file_size;
	} else {
		return false;
	}
	return true;
}

void gzip_index_get(struct gzip_index *ix, size_t number, struct gzip_point *ret)
{
	LOCK_SCOPE(&ix->lock);

	assert(number < ix->count);
	*ret = ix->points[number];
}

int gzip_index_window(struct gzip_index *ix, size_t number, uint8_t *buf, size_t *ret_n)
{
	struct gzip_point p;
	int r;

	gzip_index_get(ix, number, &p);
	*ret_n = 0;
	if (p.window_len == 0) {
		return 0;
	}
	r = gzip_windows_get(ix->windows, p.window, buf, ret_n);
	if (r == 0 && (*ret_n != p.window_len ||
			      libdeflate_crc32(0, buf, p.window_len) != p.window_crc)) {
		r = -EBADMSG;
	}
	return r;
}

/* Under the lock. */
static bool wants(const struct gzip_index *ix, uint64_t out, bool header)
{
	uint64_t last = ix->points[ix->count - 1].out;
	uint64_t held;
	uint64_t all;

	if (ix->complete || ix->condemned || out <= last) {
		return false;
	}
	if (header) {
		return out - last >= HEADER_SPACING;
	}
	gzip_windows_bytes(ix->windows, &held, &all);
	return out - last >= SPACING << min_u64(held / HELD_STEP, 20);
}

bool gzip_index_wants(struct gzip_index *ix, uint64_t out, bool header)
{
	LOCK_SCOPE(&ix->lock);

	return wants(ix, out, header);
}

static bool make_room(struct gzip_index *ix)
{
	struct gzip_point *more;

	if (ix->count < ix->room) {
		return true;
	}
	more = reallocarray(ix->points, ix->room * 2, sizeof(*more));
	if (!more) {
		return false;
	}
	ix->points = more;
	ix->room *= 2;
	return true;
}

void gzip_index_add(struct gzip_index *ix, const struct gzip_point *p, const uint8_t *window)
{
	struct gzip_point mine = *p;
	LOCK_SCOPE(&ix->lock);

	if (!wants(ix, p->out, p->header) || !make_room(ix)) {
		return;
	}
	if (p->window_len > 0) {
		mine.window_crc = libdeflate_crc32(0, window, p->window_len);
		mine.window = ix->window_count;
		if (!gzip_windows_add(ix->windows, window, p->window_len)) {
			return;
		}
		ix->window_count++;
	}
	ix->points[ix->count++] = mine;
	ix->dirty = true;
}

int gzip_index_finish(struct gzip_index *ix, uint64_t out, struct err *e)
{
	LOCK_SCOPE(&ix->lock);

	if (ix->complete && ix->total != out) {
		return err_set(e, -EBADMSG,
			"gzip: the file holds %" PRIu64 " bytes, and held %" PRIu64 " before", out,
			ix->total);
	}
	if (!ix->complete && !ix->condemned) {
		ix->complete = true;
		ix->total = out;
		ix->dirty = true;
	}
	return 0;
}

bool gzip_index_total(struct gzip_index *ix, uint64_t *ret)
{
	LOCK_SCOPE(&ix->lock);

	if (ix->complete) {
		*ret = ix->total;
	}
	return ix->complete;
}

void gzip_index_condemn(struct gzip_index *ix, uint64_t from, uint64_t to, const struct err *why)
{
	LOCK_SCOPE(&ix->lock);

	/* Once all was found right, it is the file that is not what it was. */
	if (!ix->condemned && !ix->complete) {
		ix->condemned = true;
		ix->bad_from = from;
		ix->bad_to = to;
		ix->bad = *why;
		ix->dirty = true;
	}
}

bool gzip_index_condemned(struct gzip_index *ix, uint64_t *ret_from, uint64_t *ret_to)
{
	LOCK_SCOPE(&ix->lock);

	if (ix->condemned) {
		*ret_from = ix->bad_from;
		*ret_to = ix->bad_to;
	}
	return ix->condemned;
}

int gzip_index_check(struct gzip_index *ix, uint64_t off, uint64_t end, struct err *e)
{
	LOCK_SCOPE(&ix->lock);

	if (ix->condemned && off < ix->bad_to && end > ix->bad_from) {
		return err_set(e, ix->bad.code, "%s", ix->bad.text);
	}
	return 0;
}

bool gzip_index_due(struct gzip_index *ix)
{
	LOCK_SCOPE(&ix->lock);

	return ix->blobs && ix->dirty &&
	       (ix->complete || ix->condemned ||
		       ix->points[ix->count - 1].out >= ix->saved_out + SAVE_BYTES ||
		       now_ns() >= ix->saved_ns + SAVE_NS);
}

/* A copy of what is known now. False: nothing is new, or there is no memory. */
static bool snapshot(struct gzip_index *ix, struct gzip_points *ret)
{
	LOCK_SCOPE(&ix->lock);

	if (!ix->dirty) {
		return false;
	}
	*ret = (struct gzip_points){
		.points = malloc(ix->count * sizeof(*ix->points)),
		.count = ix->count,
		.complete = ix->complete,
		.total = ix->total,
	};
	if (!ret->points) {
		return false;
	}
	memcpy(ret->points, ix->points, ix->count * sizeof(*ix->points));
	ix->dirty = false;
	ix->saved_out = ix->points[ix->count - 1].out;
	ix->saved_ns = now_ns();
	return true;
}

/* An index of which the bytes are wrong is replaced by none. */
static bool forget(struct gzip_index *ix)
{
	bool condemned;

	pthread_mutex_lock(&ix->lock);
	condemned = ix->condemned;
	if (condemned) {
		ix->dirty = false;
	}
	pthread_mutex_unlock(&ix->lock);
	if (condemned) {
		(void)blobs_put(ix->blobs, ix->name, "", 0, NULL);
	}
	return condemned;
}

void gzip_index_save(struct gzip_index *ix)
{
	struct gzip_points points;
	CLEANUP_FREE void *data = NULL;
	size_t len;
	int r;

	if (!ix->blobs || forget(ix) || !snapshot(ix, &points)) {
		return;
	}
	r = gzip_windows_save(ix->windows);
	if (r == 0) {
		r = gzip_record_put_points(&ix->of, &points, &data, &len);
	}
	if (r == 0) {
		(void)blobs_put(ix->blobs, ix->name, data, len, NULL);
	}
	free(points.points);
}

void gzip_index_facts(struct gzip_index *ix, struct gzip_index_facts *ret)
{
	LOCK_SCOPE(&ix->lock);

	uint64_t held;
	uint64_t all;

	gzip_windows_bytes(ix->windows, &held, &all);
	*ret = (struct gzip_index_facts){
		.points = ix->count,
		.reached = ix->complete ? ix->total : ix->points[ix->count - 1].out,
		.bytes = all + ix->count * sizeof(*ix->points),
	};
}
