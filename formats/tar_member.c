/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets in the file become offsets in the archive. */
#include "formats/tar_member.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"

/* Holes are handed to a stream's sink in pieces of so much. */
#define ZEROS 65536U

struct tar_member {
	struct image img;
	struct member_blobs {
		struct blobs blobs;
		struct blobs *below;
		uint64_t at; /* where the file begins in the archive */
	} records;
	struct tar_map map;
	char *name;
};

static struct tar_member *member_of(struct image *img)
{
	return (struct tar_member *)img;
}

/* A part of the file that is all data or all hole. */
struct part {
	uint64_t length; /* from the asked place on */
	uint64_t host;   /* of the asked place in the archive, or EXTENT_NO_HOST */
	uint64_t before; /* how much of it lies before the asked place */
};

static struct part part_at(const struct tar_member *m, uint64_t off)
{
	size_t i = tar_map_find(&m->map, off);
	const struct tar_piece *p = i < m->map.count ? &m->map.pieces[i] : NULL;

	if (p && p->offset <= off) {
		return (struct part){ p->offset + p->length - off, p->host + (off - p->offset),
			off - p->offset };
	}
	return (struct part){ (p ? p->offset : m->img.size) - off, EXTENT_NO_HOST, 0 };
}

static int member_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	uint8_t *out = buf;

	while (len > 0) {
		struct part part = part_at(member_of(img), off);
		size_t n = min_u64(len, part.length);
		int r = 0;

		if (part.host == EXTENT_NO_HOST) {
			memset(out, 0, n);
		} else {
			r = image_read_at(img->below, out, n, part.host, e);
		}
		if (r < 0) {
			return r;
		}
		out += n;
		off += n;
		len -= n;
	}
	return 0;
}

/* A stream of the archive, told to the sink by the file's offsets. */
struct shifted {
	image_sink_fn *sink;
	void *ctx;
	uint64_t host; /* in the archive ... */
	uint64_t off;  /* ... is this in the file */
};

static int shift(void *ctx, uint64_t off, const void *buf, size_t n)
{
	const struct shifted *s = ctx;

	return s->sink(s->ctx, off - s->host + s->off, buf, n);
}

static int stream_zeros(uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx, struct err *e)
{
	static const uint8_t zeros[ZEROS];

	while (len > 0) {
		size_t n = min_u64(len, ZEROS);
		int r = sink(ctx, off, zeros, n);

		if (r < 0) {
			return err_set(e, r, "tar: the reader stopped the stream");
		}
		off += n;
		len -= n;
	}
	return 0;
}

static int member_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	while (len > 0) {
		struct part part = part_at(member_of(img), off);
		uint64_t n = min_u64(len, part.length);
		struct shifted s = { sink, ctx, part.host, off };
		int r = part.host == EXTENT_NO_HOST
				? stream_zeros(off, n, sink, ctx, e)
				: image_stream_at(img->below, part.host, n, shift, &s, e);

		if (r < 0) {
			return r;
		}
		off += n;
		len -= n;
	}
	return 0;
}

static int member_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct part part = part_at(member_of(img), off);
	struct extent x;
	int r;

	*ret = (struct extent){
		.offset = off,
		.length = part.length,
		.zero = part.host == EXTENT_NO_HOST,
		.allocated = part.host != EXTENT_NO_HOST,
		.host = part.host,
	};
	if (ret->zero) {
		return 0;
	}
	r = image_extent_at(img->below, part.host, &x, e);
	if (r == 0) {
		ret->length = min_u64(part.length, x.length);
		ret->zero = x.zero;
		ret->hole_below = x.zero;
	}
	return r;
}

/* Does @what to the data of [off, off + len), where it lies in the archive. */
static void on_data(struct image *img, uint64_t off, uint64_t len,
	void (*what)(struct image *img, uint64_t off, uint64_t len))
{
	while (len > 0) {
		struct part part = part_at(member_of(img), off);
		uint64_t n = min_u64(len, part.length);

		if (part.host != EXTENT_NO_HOST) {
			what(img->below, part.host, n);
		}
		off += n;
		len -= n;
	}
}

static void member_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	on_data(img, off, len, image_prefetch);
}

static void member_distrust(struct image *img, uint64_t off, uint64_t len)
{
	on_data(img, off, len, image_distrust);
}

/* The part of the archive's unit that is in this file. */
static int member_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	struct part part = part_at(member_of(img), off);
	uint64_t start = 0;
	uint64_t len = 0;
	uint64_t before;
	int r;

	if (part.host == EXTENT_NO_HOST) {
		*ret_len = 0;
		return 0;
	}
	r = image_unit_at(img->below, part.host, &start, &len, e);
	if (r < 0 || len == 0) {
		*ret_len = 0;
		return r;
	}
	before = min_u64(part.host - start, part.before);
	*ret_off = off - before;
	*ret_len = before + min_u64(start + len - part.host, part.length);
	return 0;
}

static int member_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	const struct tar_map *map = &member_of(img)->map;
	uint64_t sum = 0;

	(void)e;
	for (size_t i = 0; i < map->count; i++) {
		sum += map->pieces[i].length;
	}
	*ret = sum;
	return 0;
}

static void member_report(struct image *img, struct report *r)
{
	const struct tar_member *m = member_of(img);

	report_text(r, "member", m->name);
	if (m->map.count == 1 && m->map.pieces[0].length == img->size) {
		report_u64(r, "offset", m->map.pieces[0].host);
	} else {
		report_u64(r, "pieces", m->map.count);
	}
}

static void member_destroy(struct image *img)
{
	struct tar_member *m = member_of(img);

	image_fini(img);
	tar_map_clear(&m->map);
	free(m->name);
	free(m);
}

static const struct image_ops member_ops = {
	.name = "tar",
	.read_at = member_read_at,
	.stream_at = member_stream_at,
	.extent_at = member_extent_at,
	.prefetch = member_prefetch,
	.unit_at = member_unit_at,
	.allocated = member_allocated,
	.distrust = member_distrust,
	.report = member_report,
	.destroy = member_destroy,
};

/* --- records --- */

static void record_name(const struct blobs *b, const char *name, char ret[65])
{
	snprintf(ret, 65, "at%" PRIx64 ".%s", ((const struct member_blobs *)b)->at, name);
}

static int get_record(struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	char own[65];

	record_name(b, name, own);
	return blobs_get(((struct member_blobs *)b)->below, own, ret, ret_len, e);
}

static int put_record(
	struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	char own[65];

	record_name(b, name, own);
	return blobs_put(((struct member_blobs *)b)->below, own, data, len, e);
}

static const struct blobs_ops record_ops = { .get = get_record, .put = put_record };

struct blobs *tar_member_blobs(struct image *member, struct blobs *below)
{
	struct tar_member *m = member_of(member);

	if (!below) {
		return NULL;
	}
	m->records.blobs.ops = &record_ops;
	m->records.below = below;
	m->records.at = m->map.count > 0 ? m->map.pieces[0].host : 0;
	return &m->records.blobs;
}

int tar_member_open(struct image *archive, struct tar_map *map, const char *name,
	struct image **ret, struct err *e)
{
	struct tar_member *m = calloc(1, sizeof(*m));
	CLEANUP_FREE char *id = NULL;

	if (!m || asprintf(&id, "%s+tar:%s", archive->id, name) < 0) {
		id = NULL;
		free(m);
		return err_set(e, -ENOMEM, "out of memory");
	}
	m->name = strdup(name);
	if (!m->name || image_init(&m->img, &member_ops, archive, map->size, id) < 0) {
		free(m->name);
		free(m);
		return err_set(e, -ENOMEM, "out of memory");
	}
	/* Whether the archive comes in order does not depend on the file; how long it is does. */
	m->img.flags = archive->flags &
		       (IMAGE_SEQUENTIAL | IMAGE_FORWARD | IMAGE_LOCAL | IMAGE_UNVERSIONED);
	m->map = *map;
	*map = (struct tar_map){ 0 };
	*ret = &m->img;
	return 0;
}
