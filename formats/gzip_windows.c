/* SPDX-License-Identifier: Apache-2.0 */
/* An array of compressed windows, the older ones of which are in pages. */
#include "formats/gzip_windows.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/bytes.h"
#include "core/cleanup.h"

#define LEVEL 1

struct window {
	uint8_t *data; /* zstd; NULL: it is in its page */
	uint32_t len;
};

struct gzip_windows {
	const struct gzip_record_of *of;
	struct blobs *blobs;
	const char *name;
	pthread_mutex_t lock; /* protects everything below */
	struct window *windows;
	size_t count;
	size_t room;
	size_t safe;    /* so many pages are full and written */
	size_t written; /* so many windows are in written pages */
	uint64_t held;
	uint64_t all;
};

int gzip_windows_new(const struct gzip_record_of *of, struct blobs *blobs, const char *name,
	struct gzip_windows **ret)
{
	struct gzip_windows *ws = calloc(1, sizeof(*ws));

	if (!ws) {
		return -ENOMEM;
	}
	ws->of = of;
	ws->blobs = blobs;
	ws->name = name;
	pthread_mutex_init(&ws->lock, NULL);
	*ret = ws;
	return 0;
}

void gzip_windows_free(struct gzip_windows *ws)
{
	if (!ws) {
		return;
	}
	for (size_t i = 0; i < ws->count; i++) {
		free(ws->windows[i].data);
	}
	free(ws->windows);
	pthread_mutex_destroy(&ws->lock);
	free(ws);
}

static void page_name(const struct gzip_windows *ws, uint64_t page, char ret[64])
{
	snprintf(ret, 64, "%s.%" PRIu64, ws->name, page);
}

/* The record of @page; the caller frees *ret_data, into which *ret points. */
static int read_page(struct gzip_windows *ws, uint64_t page, void **ret_data, struct gzip_page *ret)
{
	CLEANUP_FREE void *data = NULL;
	char name[64];
	size_t len;
	int r;

	if (!ws->blobs) {
		return -ENOENT;
	}
	page_name(ws, page, name);
	r = blobs_get(ws->blobs, name, &data, &len, NULL);
	if (r == 0) {
		r = gzip_record_get_page(ws->of, page, data, len, ret);
	}
	if (r == 0) {
		*ret_data = TAKE_PTR(data);
	}
	return r;
}

static bool make_room(struct gzip_windows *ws, size_t count)
{
	size_t room = ws->room ? ws->room : 64;
	struct window *more;

	while (room < count) {
		room *= 2;
	}
	if (room == ws->room) {
		return true;
	}
	more = reallocarray(ws->windows, room, sizeof(*more));
	if (!more) {
		return false;
	}
	ws->windows = more;
	ws->room = room;
	return true;
}

/* Under the lock; @data is copied. */
static bool append(struct gzip_windows *ws, const void *data, size_t len)
{
	uint8_t *copy = malloc(len);

	if (!copy || !make_room(ws, ws->count + 1)) {
		free(copy);
		return false;
	}
	memcpy(copy, data, len);
	ws->windows[ws->count++] = (struct window){ copy, (uint32_t)len };
	ws->held += len;
	ws->all += len;
	return true;
}

size_t gzip_windows_adopt(struct gzip_windows *ws, size_t count)
{
	size_t whole = count - count % GZIP_PAGE;
	CLEANUP_FREE void *data = NULL;
	struct gzip_page page;
	LOCK_SCOPE(&ws->lock);

	assert(ws->count == 0);
	if (!make_room(ws, count)) {
		return 0;
	}
	memset(ws->windows, 0, whole * sizeof(*ws->windows));
	ws->count = whole;
	ws->safe = whole / GZIP_PAGE;
	ws->all = whole * (GZIP_WINDOW / 2); /* about */
	if (whole < count && read_page(ws, ws->safe, &data, &page) == 0) {
		for (size_t i = 0; i < page.count && ws->count < count; i++) {
			if (!append(ws, page.data[i], page.len[i])) {
				break;
			}
		}
	}
	ws->written = ws->count;
	return ws->count;
}

bool gzip_windows_add(struct gzip_windows *ws, const uint8_t *window, size_t n)
{
	size_t room = ZSTD_compressBound(n);
	CLEANUP_FREE uint8_t *data = malloc(room);
	size_t len;
	LOCK_SCOPE(&ws->lock);

	assert(n <= GZIP_WINDOW);
	if (!data) {
		return false;
	}
	len = ZSTD_compress(data, room, window, n, LEVEL);
	return !ZSTD_isError(len) && append(ws, data, len);
}

static int unpack(const uint8_t *data, size_t len, uint8_t *buf, size_t *ret_n)
{
	size_t n = ZSTD_decompress(buf, GZIP_WINDOW, data, len);

	if (ZSTD_isError(n)) {
		return -EBADMSG;
	}
	*ret_n = n;
	return 0;
}

/* -ENOENT: it is not in memory. */
static int get_held(struct gzip_windows *ws, size_t number, uint8_t *buf, size_t *ret_n)
{
	LOCK_SCOPE(&ws->lock);
	const struct window *w;

	assert(number < ws->count);
	w = &ws->windows[number];
	return w->data ? unpack(w->data, w->len, buf, ret_n) : -ENOENT;
}

int gzip_windows_get(struct gzip_windows *ws, size_t number, uint8_t *buf, size_t *ret_n)
{
	size_t at = number % GZIP_PAGE;
	CLEANUP_FREE void *data = NULL;
	struct gzip_page page = { 0 };
	int r = get_held(ws, number, buf, ret_n);

	if (r != -ENOENT) {
		return r;
	}
	r = read_page(ws, number / GZIP_PAGE, &data, &page);
	if (r < 0) {
		return r;
	}
	return at < page.count ? unpack(page.data[at], page.len[at], buf, ret_n) : -EBADMSG;
}

/* The page @number as it is now; its data stays where it is until this thread lets it go. */
static void collect(struct gzip_windows *ws, size_t number, struct gzip_page *ret)
{
	size_t first = number * GZIP_PAGE;
	LOCK_SCOPE(&ws->lock);

	*ret = (struct gzip_page){ .number = number };
	while (ret->count < GZIP_PAGE && first + ret->count < ws->count) {
		const struct window *w = &ws->windows[first + ret->count];

		ret->data[ret->count] = w->data;
		ret->len[ret->count] = w->len;
		ret->count++;
	}
}

static int write_page(struct gzip_windows *ws, const struct gzip_page *page)
{
	CLEANUP_FREE void *data = NULL;
	char name[64];
	size_t len;
	int r = gzip_record_put_page(ws->of, page, &data, &len);

	if (r == 0) {
		page_name(ws, page->number, name);
		r = blobs_put(ws->blobs, name, data, len, NULL);
	}
	return r;
}

static void let_go(struct gzip_windows *ws, const struct gzip_page *page)
{
	size_t first = page->number * GZIP_PAGE;
	LOCK_SCOPE(&ws->lock);

	ws->written = first + page->count;
	if (page->count < GZIP_PAGE) {
		return;
	}
	for (size_t i = first; i < first + GZIP_PAGE; i++) {
		ws->held -= ws->windows[i].len;
		free(ws->windows[i].data);
		ws->windows[i].data = NULL;
	}
	ws->safe++;
}

/* The next page that has to be written. */
static bool next_page(struct gzip_windows *ws, size_t *ret)
{
	LOCK_SCOPE(&ws->lock);

	*ret = ws->safe;
	return ws->written < ws->count;
}

int gzip_windows_save(struct gzip_windows *ws)
{
	struct gzip_page page;
	size_t number;
	int r = ws->blobs ? 0 : -ENOENT;

	while (r == 0 && next_page(ws, &number)) {
		collect(ws, number, &page);
		r = write_page(ws, &page);
		if (r == 0) {
			let_go(ws, &page);
		}
	}
	return r;
}

void gzip_windows_bytes(struct gzip_windows *ws, uint64_t *ret_held, uint64_t *ret_all)
{
	LOCK_SCOPE(&ws->lock);

	*ret_held = ws->held;
	*ret_all = ws->all;
}
