/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: the file that fits the base, or a new one. */
#include "cache/overlay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/overlay_file.h"
#include "cache/overlay_layer.h"
#include "cache/overlay_map.h"
#include "core/bytes.h"
#include "core/cleanup.h"

#define UNIT OVERLAY_UNIT
/* Of an id that is shown. */
#define SHOWN_MOST 150

/* An id in few enough letters; what tells versions apart stands at its end. */
static const char *shorten(const char *id, char *buf, size_t room)
{
	size_t len = strlen(id);

	if (len <= SHOWN_MOST) {
		return id;
	}
	snprintf(buf, room, "%.60s...%s", id, id + len - (SHOWN_MOST - 63));
	return buf;
}

static int check_base(const struct overlay_file_header *h, const struct image *base,
	const char *path, struct err *e)
{
	char a[SHOWN_MOST + 1];
	char b[SHOWN_MOST + 1];

	if (strcmp(h->id, base->id) == 0 && h->shape.size == base->size) {
		return 0;
	}
	return err_set(e, -ESTALE,
		"the overlay %s belongs to another image: it was made over %s (%" PRIu64
		" bytes), and this is %s (%" PRIu64 " bytes)",
		path, shorten(h->id, a, sizeof(a)), h->shape.size, shorten(base->id, b, sizeof(b)),
		base->size);
}

static int open_existing(
	struct overlay *o, const char *path, const struct image *base, struct err *e)
{
	struct overlay_file_header h;
	int fd;
	int r = overlay_file_open(path, true, &fd, NULL, &h, e);

	if (r < 0) {
		return r;
	}
	o->fd = fd;
	o->shape = h.shape;
	r = check_base(&h, base, path, e);
	if (r == 0) {
		r = overlay_map_new(fd, path, &h, false, &o->map, e);
	}
	overlay_file_header_clear(&h);
	return r;
}

static int create(
	struct overlay *o, const struct overlay_opts *opts, const struct image *base, struct err *e)
{
	struct overlay_file_header h;
	int r = overlay_file_header_make(base->size, opts->path ? base->id : "",
		opts->path && opts->source ? opts->source : "", &h, e);

	if (r < 0) {
		return r;
	}
	r = overlay_file_create(opts->path, opts->dir, &h, &o->fd, e);
	if (r == 0) {
		o->shape = h.shape;
		r = overlay_map_new(o->fd, o->path, &h, true, &o->map, e);
	}
	overlay_file_header_clear(&h);
	return r;
}

/* What no overlay can be put over. */
static int check_fit(const struct overlay_opts *opts, const struct image *base, struct err *e)
{
	const char *name = opts->source ? opts->source : "the image";

	if (base->flags & IMAGE_SIZE_PROVISIONAL) {
		return err_set(e, -ENOTSUP,
			"how large the disk in %s is shows only at its end: read it to there once, "
			"then it can have an overlay",
			name);
	}
	if (opts->path && (base->flags & IMAGE_UNVERSIONED)) {
		return err_set(e, -ENOTSUP,
			"%s has no version that an overlay could be bound to: nobody could tell "
			"whether it has changed since; a temporary overlay is possible",
			name);
	}
	return 0;
}

static int open_file(
	struct overlay *o, const struct overlay_opts *opts, const struct image *base, struct err *e)
{
	int r = check_fit(opts, base, e);

	if (r < 0) {
		return r;
	}
	r = -ENOENT;
	if (opts->path) {
		r = open_existing(o, opts->path, base, e);
	}
	if (r == -ENOENT && !opts->existing) {
		r = create(o, opts, base, e);
		/* Somebody made it meanwhile. */
		if (r == -EEXIST) {
			r = open_existing(o, opts->path, base, e);
		}
	}
	return r;
}

static struct overlay *overlay_new(const struct overlay_opts *opts)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o) {
		return NULL;
	}
	o->fd = -1;
	o->temporary = !opts->path;
	o->path = strdup(opts->path ? opts->path : "");
	overlay_ranges_init(&o->ranges);
	pthread_mutex_init(&o->flush_lock, NULL);
	pthread_mutex_init(&o->count_lock, NULL);
	if (!o->path) {
		overlay_layer_free(o);
		return NULL;
	}
	return o;
}

int overlay_open(
	const struct overlay_opts *opts, struct image *base, struct image **ret, struct err *e)
{
	struct overlay *o = overlay_new(opts);
	int r;

	if (!o) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = open_file(o, opts, base, e);
	if (r == 0 && image_init(&o->img, &overlay_layer_ops, base, base->size, base->id) < 0) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		overlay_layer_free(o);
		return r;
	}
	o->img.block = base->block;
	/* The id is that of the base, whose bytes these are no more. */
	o->img.flags = (base->flags & (IMAGE_LOCAL | IMAGE_SEQUENTIAL)) | IMAGE_UNVERSIONED;
	/* A process that was killed may have left what can be read and is not durable. */
	o->changes = 1;
	overlay_layer_reclaim(o);
	*ret = &o->img;
	return 0;
}

/* While somebody writes, a sector may be read half old and half new: then once more. */
static int read_map(int fd, const char *path, bool busy, const struct overlay_file_header *h,
	struct overlay_map **ret, struct err *e)
{
	int r = -EBADMSG;

	for (unsigned int tries = busy ? 20 : 1; r == -EBADMSG && tries > 0; tries--) {
		r = overlay_map_new(fd, path, h, false, ret, e);
		if (r == -EBADMSG && tries > 1) {
			usleep(5000);
		}
	}
	return r;
}

static void format_uuid(const uint8_t *u, char ret[37])
{
	snprintf(ret, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		u[13], u[14], u[15]);
}

int overlay_info_read(const char *path, struct overlay_info *ret, struct err *e)
{
	struct overlay_info info = { 0 };
	struct overlay_file_header h;
	struct overlay_map *map;
	CLEANUP_CLOSE int fd = -1;
	uint64_t data;
	uint64_t zero;
	int r = overlay_file_open(path, false, &fd, &info.in_use, &h, e);

	if (r < 0) {
		return r;
	}
	r = read_map(fd, path, info.in_use, &h, &map, e);
	if (r < 0) {
		overlay_file_header_clear(&h);
		return r;
	}
	overlay_map_count(map, &data, &zero);
	overlay_map_free(map);
	info.size = h.shape.size;
	info.present = min_u64(data * UNIT, info.size);
	info.zero = min_u64(zero * UNIT, info.size);
	info.disk_used = overlay_layer_disk_used(fd);
	info.created = h.created;
	info.id = TAKE_PTR(h.id);
	info.source = TAKE_PTR(h.source);
	format_uuid(h.uuid, info.uuid);
	*ret = info;
	return 0;
}

void overlay_info_clear(struct overlay_info *info)
{
	free(info->id);
	free(info->source);
	*info = (struct overlay_info){ 0 };
}
