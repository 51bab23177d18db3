/* SPDX-License-Identifier: Apache-2.0 */
/* The edge between images and the kernel: errors become words in the log, once, and an errno that
 * block layers understand; extents become holes; the allocation is counted behind the scenes. */
#include "fusefs/volume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/extent.h"
#include "core/image.h"
#include "core/log.h"

/* At most so many lines about one volume in so many seconds. */
#define LOG_LINES  5
#define LOG_WINDOW 30

static struct timespec after_ms(unsigned int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

int volume_init(struct volume *vol, const struct fusefs_volume *v)
{
	pthread_condattr_t attr;
	char *name = strdup(v->name);

	if (!name) {
		return -ENOMEM;
	}
	*vol = (struct volume){ .v = *v, .writable = image_writable(v->image) };
	vol->v.name = NULL;
	vol->name = name;
	vol->allocated = v->image->size;
	vol->deadline = after_ms(VOLUME_WAIT_MS);
	pthread_mutex_init(&vol->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vol->counted_cond, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

void volume_clear(struct volume *vol)
{
	if (vol->name) {
		pthread_cond_destroy(&vol->counted_cond);
		pthread_mutex_destroy(&vol->lock);
		free(vol->name);
		vol->name = NULL;
	}
}

int volume_errno(int code)
{
	switch (code) {
	case -ESTALE:
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -EINTR:
	case -ENOMEM:
	case -EOPNOTSUPP:
		return code;
	default:
		return -EIO;
	}
}

/* Whether this error gets a line now; *ret_unlogged: how many before it got none. The kernel asks
 * again for what failed, and many readers meet the same failure. */
static bool deserves_line(struct volume *vol, const struct err *e, uint64_t *ret_unlogged)
{
	struct timespec now;
	LOCK_SCOPE(&vol->lock);

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (vol->window == 0 || now.tv_sec - vol->window >= LOG_WINDOW) {
		vol->window = now.tv_sec ? now.tv_sec : 1;
		vol->lines = 0;
		vol->last.code = 0;
	}
	if (vol->lines == LOG_LINES ||
		(vol->last.code == e->code && strcmp(vol->last.text, e->text) == 0)) {
		vol->unlogged++;
		return false;
	}
	vol->lines++;
	vol->last = *e;
	*ret_unlogged = vol->unlogged;
	vol->unlogged = 0;
	return true;
}

/* Reports @e, which @what met, and returns what the reader gets to see. */
static int fail(struct volume *vol, const char *what, uint64_t len, uint64_t off, int code,
	const struct err *e)
{
	uint64_t unlogged;

	if (code != -EINTR && deserves_line(vol, e, &unlogged)) {
		if (unlogged) {
			log_error("%s: %s of %" PRIu64 " bytes at %" PRIu64 ": %s (%" PRIu64
				  " more errors before it)",
				vol->name, what, len, off, e->text, unlogged);
		} else {
			log_error("%s: %s of %" PRIu64 " bytes at %" PRIu64 ": %s", vol->name, what,
				len, off, e->text);
		}
	}
	return volume_errno(code);
}

int volume_read(struct volume *vol, void *buf, size_t len, uint64_t off)
{
	struct err e = { 0 };
	int r = image_read_at(vol->v.image, buf, len, off, &e);

	return r < 0 ? fail(vol, "read", len, off, r, &e) : 0;
}

static void note_written(struct volume *vol)
{
	LOCK_SCOPE(&vol->lock);

	clock_gettime(CLOCK_REALTIME, &vol->written);
}

bool volume_written(struct volume *vol, struct timespec *ret)
{
	LOCK_SCOPE(&vol->lock);

	if (vol->written.tv_sec == 0) {
		return false;
	}
	*ret = vol->written;
	return true;
}

int volume_write(struct volume *vol, const void *buf, size_t len, uint64_t off)
{
	struct err e = { 0 };
	int r = image_write_at(vol->v.image, buf, len, off, &e);

	if (r < 0) {
		return fail(vol, "write", len, off, r, &e);
	}
	note_written(vol);
	return 0;
}

int volume_zero(struct volume *vol, uint64_t off, uint64_t len)
{
	struct err e = { 0 };
	int r = image_zero_at(vol->v.image, off, len, &e);

	if (r < 0) {
		return fail(vol, "zeroing", len, off, r, &e);
	}
	note_written(vol);
	return 0;
}

int volume_flush(struct volume *vol)
{
	struct err e = { 0 };
	int r = image_flush(vol->v.image, &e);

	return r < 0 ? fail(vol, "flush", vol->v.image->size, 0, r, &e) : 0;
}

int volume_seek(struct volume *vol, uint64_t off, int whence, bool (*interrupted)(void *ctx),
	void *ctx, uint64_t *ret)
{
	struct image *img = vol->v.image;
	uint64_t size = img->size;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		return -EINVAL;
	}
	if (off >= size) {
		return -ENXIO;
	}
	while (off < size) {
		struct err e = { 0 };
		struct extent x;
		int r = image_extent_at(img, off, &x, &e);

		if (r < 0) {
			return fail(vol, "search for holes", size - off, off, r, &e);
		}
		if (x.zero == (whence == SEEK_HOLE)) {
			*ret = off;
			return 0;
		}
		off += x.length;
		if (interrupted && interrupted(ctx)) {
			return -EINTR;
		}
	}
	if (whence == SEEK_DATA) {
		return -ENXIO;
	}
	*ret = size;
	return 0;
}

void volume_count(struct volume *vol)
{
	uint64_t size = vol->v.image->size;
	struct err e = { 0 };
	uint64_t bytes;
	int r = image_allocated(vol->v.image, &bytes, &e);

	if (r < 0) {
		log_debug("%s: its allocation is unknown: %s", vol->name, e.text);
		bytes = size;
	}
	LOCK_SCOPE(&vol->lock);
	vol->allocated = min_u64(bytes, size);
	vol->counted = true;
	vol->countable = r == 0;
	pthread_cond_broadcast(&vol->counted_cond);
}

/* As it was counted. */
static uint64_t wait_for_count(struct volume *vol, bool *ret_final, bool *ret_ask)
{
	int r = 0;
	LOCK_SCOPE(&vol->lock);

	while (!vol->counted && r == 0) {
		r = pthread_cond_timedwait(&vol->counted_cond, &vol->lock, &vol->deadline);
	}
	*ret_final = vol->counted && !vol->writable;
	*ret_ask = vol->countable && vol->writable;
	return vol->allocated;
}

uint64_t volume_allocated(struct volume *vol, bool *ret_final)
{
	bool ask;
	uint64_t allocated = wait_for_count(vol, ret_final, &ask);
	uint64_t now;

	if (ask && image_allocated(vol->v.image, &now, NULL) == 0) {
		allocated = min_u64(now, vol->v.image->size);
	}
	return allocated;
}
