/* SPDX-License-Identifier: Apache-2.0 */
/* Where each unit comes from when it is read, and how it gets into the file. */
#include "cache/overlay_layer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/report.h"
#include "core/rw.h"

#define UNIT OVERLAY_UNIT
/* So many units are looked at, or zeroed, without letting others in. */
#define RUN_MOST 262144U

static struct overlay *overlay_of(struct image *img)
{
	return (struct overlay *)img;
}

static uint64_t unit_end(const struct overlay *o, uint64_t unit)
{
	return min_u64((unit + 1) * UNIT, o->img.size);
}

/* The state at @off, and how many bytes from there on, at most @len, have it. */
static enum overlay_state state_at(
	struct overlay *o, uint64_t off, uint64_t len, uint64_t *ret_length)
{
	uint64_t unit = off / UNIT;
	uint64_t most = min_u64((off + len - 1) / UNIT - unit + 1, RUN_MOST);
	enum overlay_state state = overlay_map_at(o->map, unit, most, &most);

	*ret_length = min_u64(len, (unit + most) * UNIT - off);
	return state;
}

static int failed(const struct overlay *o, int code, const char *what, struct err *e)
{
	return err_sys(e, code, "%s %s", what, o->temporary ? "the temporary overlay" : o->path);
}

static int read_data(struct overlay *o, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = rw_pread(o->fd, buf, len, o->shape.data_off + off);

	return r < 0 ? failed(o, r, "read the overlay", e) : 0;
}

static void layer_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct overlay *o = overlay_of(img);

	while (len > 0) {
		uint64_t n;

		if (state_at(o, off, len, &n) == OVERLAY_ABSENT) {
			image_prefetch(img->below, off, n);
		}
		off += n;
		len -= n;
	}
}

static int read_run(struct overlay *o, enum overlay_state state, void *buf, size_t len,
	uint64_t off, struct err *e)
{
	switch (state) {
	case OVERLAY_DATA:
		return read_data(o, buf, len, off, e);
	case OVERLAY_ZERO:
		memset(buf, 0, len);
		return 0;
	case OVERLAY_ABSENT:
		break;
	}
	return image_read_at(o->img.below, buf, len, off, e);
}

static int layer_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct overlay *o = overlay_of(img);
	uint8_t *p = buf;
	int r = 0;

	for (bool first = true; r == 0 && len > 0; first = false) {
		uint64_t n;
		enum overlay_state state = state_at(o, off, len, &n);

		/* The pieces of the base are asked for all at once, not one after the other. */
		if (first && n < len) {
			layer_prefetch(img, off + n, len - n);
		}
		r = read_run(o, state, p, n, off, e);
		p += n;
		off += n;
		len -= n;
	}
	return r;
}

static int layer_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct overlay *o = overlay_of(img);
	uint64_t n;
	enum overlay_state state = state_at(o, off, img->size - off, &n);
	struct extent x = {
		.offset = off,
		.length = n,
		.zero = state == OVERLAY_ZERO,
		.allocated = true,
		.host = EXTENT_NO_HOST,
	};
	int r = 0;

	if (state == OVERLAY_ABSENT) {
		r = image_extent_at(img->below, off, &x, e);
		if (r == 0) {
			extent_clip(&x, off, n);
		}
	}
	if (r == 0) {
		*ret = x;
	}
	return r;
}

static int layer_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	return image_unit_at(img->below, off, ret_off, ret_len, e);
}

/* Bytes of data that the base has in [off, off + len). */
static int base_data(
	struct overlay *o, uint64_t off, uint64_t len, uint64_t *ret_bytes, struct err *e)
{
	uint64_t bytes = 0;

	while (len > 0) {
		struct extent x;
		uint64_t n;
		int r = image_extent_at(o->img.below, off, &x, e);

		if (r < 0) {
			return r;
		}
		n = min_u64(x.length, len);
		bytes += x.zero ? 0 : n;
		off += n;
		len -= n;
	}
	*ret_bytes = bytes;
	return 0;
}

/* Data of the base that nothing covers. */
static int count_uncovered(struct overlay *o, uint64_t *ret, struct err *e)
{
	uint64_t total;
	uint64_t covered = 0;
	uint64_t n;
	int r = image_allocated(o->img.below, &total, e);

	for (uint64_t off = 0; r == 0 && off < o->img.size; off += n) {
		uint64_t here = 0;

		if (state_at(o, off, o->img.size - off, &n) != OVERLAY_ABSENT) {
			r = base_data(o, off, n, &here, e);
		}
		covered += here;
	}
	if (r == 0) {
		*ret = total - min_u64(total, covered);
	}
	return r;
}

/* The base is asked once. What is written later counts as if there had been a hole: at most too
 * much, and never more than all. */
static int layer_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct overlay *o = overlay_of(img);
	uint64_t uncovered;
	uint64_t data;
	uint64_t zero;
	bool counted;
	int r;

	pthread_mutex_lock(&o->count_lock);
	counted = o->counted;
	uncovered = o->uncovered;
	pthread_mutex_unlock(&o->count_lock);
	if (!counted) {
		r = count_uncovered(o, &uncovered, e);
		if (r < 0) {
			return r;
		}
		pthread_mutex_lock(&o->count_lock);
		o->counted = true;
		o->uncovered = uncovered;
		pthread_mutex_unlock(&o->count_lock);
	}
	overlay_map_count(o->map, &data, &zero);
	*ret = min_u64(uncovered + data * UNIT, img->size);
	return 0;
}

/* A part of a unit that is written or (buf NULL) zeroed, and the unit as the base has it. */
struct edge {
	uint64_t off;
	size_t len; /* 0: there is no such edge */
	const void *buf;
	bool loaded;
	uint8_t unit[UNIT];
};

/* A change of [off, off + len): at most two edges, and whole units between them. */
struct change {
	struct edge head;
	struct edge tail;
	uint64_t off; /* of the whole units */
	uint64_t len;
	const uint8_t *buf; /* for them; NULL: zeros */
};

static void edge_init(struct edge *edge, uint64_t off, uint64_t len, const void *buf)
{
	edge->off = off;
	edge->len = len;
	edge->buf = buf;
	edge->loaded = false;
}

/* The end of the disk is the end of its last unit. */
static void change_init(
	const struct overlay *o, struct change *c, const void *buf, uint64_t off, uint64_t len)
{
	const uint8_t *p = buf;
	uint64_t end = off + len;
	uint64_t first = off;
	uint64_t last = end;

	if (off % UNIT != 0) {
		first = min_u64(unit_end(o, off / UNIT), end);
	}
	if (end > first && end != unit_end(o, (end - 1) / UNIT)) {
		last = round_down(end, UNIT);
	}
	edge_init(&c->head, off, first - off, p);
	edge_init(&c->tail, last, end - last, p ? p + (last - off) : NULL);
	c->off = first;
	c->len = last - first;
	c->buf = p ? p + (first - off) : NULL;
}

/* Before any lock is taken, for it may wait for the network: what is absent now may be there by the
 * time that it is looked at again, but what is there never becomes absent. */
static int edge_load(struct overlay *o, struct edge *edge, struct err *e)
{
	uint64_t unit = edge->off / UNIT;
	uint64_t n;
	int r;

	if (edge->len == 0 || overlay_map_at(o->map, unit, 1, &n) != OVERLAY_ABSENT) {
		return 0;
	}
	r = image_read_at(
		o->img.below, edge->unit, unit_end(o, unit) - unit * UNIT, unit * UNIT, e);
	edge->loaded = r == 0;
	return r;
}

static int put(struct overlay *o, const void *buf, size_t len, uint64_t off)
{
	return rw_pwrite(o->fd, buf, len, o->shape.data_off + off);
}

/* Under the lock of its unit, whose page is reserved. */
static int edge_put(struct overlay *o, struct edge *edge)
{
	static const uint8_t zeros[UNIT];
	const void *bytes = edge->buf ? edge->buf : zeros;
	uint64_t unit = edge->off / UNIT;
	uint64_t n;
	enum overlay_state state;
	int r;

	if (edge->len == 0) {
		return 0;
	}
	state = overlay_map_at(o->map, unit, 1, &n);
	if (state == OVERLAY_DATA) {
		return put(o, bytes, edge->len, edge->off);
	}
	if (state == OVERLAY_ZERO) {
		if (!edge->buf) {
			return 0;
		}
		memset(edge->unit, 0, UNIT);
	} else {
		assert(edge->loaded);
	}
	memcpy(edge->unit + edge->off % UNIT, bytes, edge->len);
	r = put(o, edge->unit, unit_end(o, unit) - unit * UNIT, unit * UNIT);
	if (r == 0) {
		overlay_map_set(o->map, unit, 1, OVERLAY_DATA);
	}
	return r;
}

static int put_whole(struct overlay *o, const struct change *c)
{
	int r = put(o, c->buf, c->len, c->off);

	if (r == 0) {
		overlay_map_set(o->map, c->off / UNIT, div_round_up(c->len, UNIT), OVERLAY_DATA);
	}
	return r;
}

/* Space is given back as well as it can be: the map says what is zeros. */
static void punch(struct overlay *o, uint64_t off, uint64_t len)
{
	if (o->no_punch) {
		return;
	}
	if (fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)(o->shape.data_off + off), (off_t)len) < 0) {
		log_debug("overlay: no hole can be made: %s", strerrordesc_np(errno));
		o->no_punch = errno == EOPNOTSUPP || errno == ENOSYS;
	}
}

/* First the word, then the bytes: whoever reads meanwhile sees zeros or what was there. */
static void zero_whole(struct overlay *o, const struct change *c)
{
	uint64_t off = c->off;
	uint64_t left = c->len;

	while (left > 0) {
		uint64_t n = min_u64(left, (uint64_t)RUN_MOST * UNIT);

		overlay_map_set(o->map, off / UNIT, div_round_up(n, UNIT), OVERLAY_ZERO);
		punch(o, off, n);
		off += n;
		left -= n;
	}
}

static int apply(struct overlay *o, struct change *c)
{
	int r = edge_put(o, &c->head);

	if (r == 0 && c->len > 0) {
		if (c->buf) {
			r = put_whole(o, c);
		} else {
			zero_whole(o, c);
		}
	}
	return r == 0 ? edge_put(o, &c->tail) : r;
}

/* Writes, or zeroes when @buf is NULL. */
static int change(struct overlay *o, const void *buf, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t first = off / UNIT;
	uint64_t last = (off + len - 1) / UNIT;
	struct overlay_range range;
	struct change c;
	int r = overlay_map_broken(o->map);

	if (r < 0) {
		return failed(o, r, "after an error of its disk nothing can be written to", e);
	}
	change_init(o, &c, buf, off, len);
	r = edge_load(o, &c.head, e);
	if (r == 0) {
		r = edge_load(o, &c.tail, e);
	}
	if (r < 0) {
		return r;
	}
	overlay_range_take(&o->ranges, &range, first, last);
	r = overlay_map_reserve(o->map, first, last - first + 1);
	if (r == 0) {
		r = apply(o, &c);
	}
	atomic_fetch_add(&o->changes, 1);
	overlay_range_give(&o->ranges, &range);
	return r < 0 ? failed(o, r, "write to", e) : 0;
}

static int layer_write_at(
	struct image *img, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct overlay *o = overlay_of(img);
	int r = change(o, buf, off, len, e);

	if (r == 0) {
		o->writes++;
		o->bytes_written += len;
	}
	return r;
}

static int layer_zero_at(struct image *img, uint64_t off, uint64_t len, struct err *e)
{
	struct overlay *o = overlay_of(img);
	int r = change(o, NULL, off, len, e);

	if (r == 0) {
		o->zeroes++;
		o->bytes_zeroed += len;
	}
	return r;
}

/* A temporary overlay is gone after a crash, however durable it was. */
static int save(struct overlay *o)
{
	uint64_t changes = o->changes;
	int r = overlay_map_broken(o->map);
	LOCK_SCOPE(&o->flush_lock);

	if (r < 0 || o->temporary || changes == o->flushed) {
		return r;
	}
	changes = o->changes;
	r = overlay_map_save(o->map);
	if (r == 0) {
		o->flushed = changes;
	}
	return r;
}

static int layer_flush(struct image *img, struct err *e)
{
	struct overlay *o = overlay_of(img);
	int r = save(o);

	o->flushes++;
	return r < 0 ? failed(o, r, "make durable", e) : 0;
}

uint64_t overlay_layer_disk_used(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static void layer_report(struct image *img, struct report *r)
{
	struct overlay *o = overlay_of(img);
	uint64_t data;
	uint64_t zero;

	overlay_map_count(o->map, &data, &zero);
	report_text(r, "file", o->path);
	report_u64(r, "present_bytes", min_u64(data * UNIT, img->size));
	report_u64(r, "zero_bytes", min_u64(zero * UNIT, img->size));
	report_u64(r, "disk_bytes", overlay_layer_disk_used(o->fd));
	report_u64(r, "writes", o->writes);
	report_u64(r, "bytes_written", o->bytes_written);
	report_u64(r, "zeroes", o->zeroes);
	report_u64(r, "bytes_zeroed", o->bytes_zeroed);
	report_u64(r, "flushes", o->flushes);
}

void overlay_layer_free(struct overlay *o)
{
	overlay_map_free(o->map);
	overlay_ranges_fini(&o->ranges);
	pthread_mutex_destroy(&o->flush_lock);
	pthread_mutex_destroy(&o->count_lock);
	if (o->fd >= 0) {
		close(o->fd);
	}
	free(o->path);
	free(o);
}

/* Who did not flush does not care. */
static void layer_destroy(struct image *img)
{
	(void)save(overlay_of(img));
	image_fini(img);
	overlay_layer_free(overlay_of(img));
}

const struct image_ops overlay_layer_ops = {
	.name = "overlay",
	.read_at = layer_read_at,
	.extent_at = layer_extent_at,
	.prefetch = layer_prefetch,
	.unit_at = layer_unit_at,
	.allocated = layer_allocated,
	.write_at = layer_write_at,
	.zero_at = layer_zero_at,
	.flush = layer_flush,
	.report = layer_report,
	.destroy = layer_destroy,
};

/* Punches out what is in [from, to) of the data and no word speaks of. */
static void reclaim_piece(struct overlay *o, uint64_t from, uint64_t to)
{
	uint64_t n;

	to = min_u64(to, o->img.size);
	for (uint64_t off = round_down(from, UNIT); off < to; off += n) {
		if (state_at(o, off, to - off, &n) != OVERLAY_DATA) {
			punch(o, off, n);
		}
	}
}

void overlay_layer_reclaim(struct overlay *o)
{
	uint64_t base = o->shape.data_off;
	off_t at = (off_t)base;

	while (at >= 0 && (uint64_t)at < o->shape.end) {
		off_t data = lseek(o->fd, at, SEEK_DATA);

		at = data < 0 ? -1 : lseek(o->fd, data, SEEK_HOLE);
		if (at > data && data >= (off_t)base) {
			reclaim_piece(o, (uint64_t)data - base, (uint64_t)at - base);
		}
	}
}
