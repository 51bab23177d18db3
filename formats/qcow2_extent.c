/* SPDX-License-Identifier: Apache-2.0 */
/* What is known without reading data: extents, host ranges to prefetch, how much of it is data. */
#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/qcow2_map.h"

/* Bounds of one call. */
#define MERGE_MAX    256U
#define PREFETCH_MAX 4096U

/* Places in the file closer together than this are fetched together. */
#define PREFETCH_GAP 131072U

/* Tables to look at when there are too many to look at all. */
#define SAMPLES 32U

static struct extent extent_of(const struct qcow2_run *run)
{
	return (struct extent){
		.offset = run->offset,
		.length = run->length,
		.zero = run->kind == QCOW2_ZERO || run->kind == QCOW2_UNALLOCATED,
		.allocated = run->kind != QCOW2_UNALLOCATED,
		.compressed = run->kind == QCOW2_COMPRESSED,
		.host = run->host,
	};
}

/* Where the backing file speaks for the bytes of @x. */
static int ask_backing(struct qcow2 *q, struct extent *x, struct err *e)
{
	struct extent b;
	int r;

	if (!q->backing || x->allocated || x->offset >= q->backing->size) {
		return 0;
	}
	r = image_extent_at(q->backing, x->offset, &b, e);
	if (r == 0) {
		extent_clip(&b, x->offset, min_u64(x->length, b.length));
		b.depth++;
		*x = b;
	}
	return r;
}

/* Where space is reserved for data that were never written, the file has a hole. */
static int ask_file(struct qcow2 *q, struct extent *x, struct err *e)
{
	struct extent below;
	uint64_t known;
	int r;

	if (x->zero || !x->allocated || x->compressed) {
		return 0;
	}
	r = image_extent_at(q->img.below, x->host, &below, e);
	if (r < 0) {
		return r;
	}
	x->zero = below.zero;
	x->hole_below = below.zero;
	known = below.length;
	for (unsigned int i = 0; known < x->length && i < MERGE_MAX; i++) {
		if (image_extent_at(q->img.below, x->host + known, &below, NULL) < 0 ||
			below.zero != x->zero) {
			break;
		}
		known += below.length;
	}
	x->length = min_u64(x->length, known);
	return 0;
}

int qcow2_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)img;
	struct qcow2_run run;
	struct extent x;
	int r = qcow2_map(q, off, img->size - off, true, &run, e);

	if (r < 0) {
		return r;
	}
	x = extent_of(&run);
	for (unsigned int i = 0; i < MERGE_MAX && off + x.length < img->size; i++) {
		uint64_t next = off + x.length;
		struct extent more;

		if (qcow2_map(q, next, img->size - next, false, &run, NULL) < 0) {
			break;
		}
		more = extent_of(&run);
		if (!extent_merge(&x, &more)) {
			break;
		}
	}
	r = ask_backing(q, &x, e);
	if (r == 0 && x.depth == 0) {
		r = ask_file(q, &x, e);
	}
	if (r == 0) {
		*ret = x;
	}
	return r;
}

/* Grows while what is added continues it; goes to the image when something else comes. */
struct range {
	struct image *img;
	uint64_t start;
	uint64_t end;
};

static void range_flush(struct range *g)
{
	if (g->end > g->start) {
		image_prefetch(g->img, g->start, g->end - g->start);
	}
	g->start = 0;
	g->end = 0;
}

static void range_add(struct range *g, uint64_t start, uint64_t len)
{
	if (g->end == 0 || start < g->start || start > g->end + PREFETCH_GAP) {
		range_flush(g);
		g->start = start;
	}
	g->end = max_u64(g->end, start + len);
}

void qcow2_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct qcow2 *q = (struct qcow2 *)img;
	struct range g = { .img = img->below };
	struct qcow2_run run;

	for (unsigned int i = 0; len > 0 && i < PREFETCH_MAX; i++) {
		if (qcow2_map(q, off, len, false, &run, NULL) < 0) {
			break;
		}
		if (run.kind == QCOW2_DATA) {
			range_add(&g, run.host, run.length);
		} else if (run.kind == QCOW2_COMPRESSED) {
			range_add(&g, run.host, run.host_length);
		} else if (run.kind == QCOW2_UNALLOCATED && q->backing) {
			image_prefetch(q->backing, off, run.length);
		}
		off += run.length;
		len -= run.length;
	}
	range_flush(&g);
}

struct table {
	uint64_t host;
	uint64_t guest; /* the first byte that it maps */
};

static int by_host(const void *a, const void *b)
{
	const struct table *x = a;
	const struct table *y = b;

	return (x->host > y->host) - (x->host < y->host);
}

/* All L2 tables in *ret (malloc()ed), in order of the guest. Broken entries are left to who reads
 * there. Fails when the L1 table is not at hand. */
static int list_tables(struct qcow2 *q, struct table **ret, size_t *ret_count)
{
	size_t entries = q->geo.l1_bytes / 8;
	CLEANUP_FREE struct table *list = calloc(entries ? entries : 1, sizeof(*list));
	size_t count = 0;

	if (!list) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < entries; i++) {
		struct qcow2_words w;
		uint64_t l2 = 0;
		int r = qcow2_tables_get(&q->tables, q->geo.l1_offset + i * 8, 8, false, &w, NULL);

		if (r < 0) {
			return r;
		}
		if (qcow2_entry_l1(&q->geo, load_be64(w.at), &l2, NULL) == 0 && l2 != 0) {
			list[count++] = (struct table){
				.host = l2,
				.guest = i * (q->geo.cluster_size << q->geo.l2_bits),
			};
		}
		qcow2_tables_put(&q->tables, &w);
	}
	*ret = TAKE_PTR(list);
	*ret_count = count;
	return 0;
}

void qcow2_prefetch_tables(struct qcow2 *q)
{
	CLEANUP_FREE struct table *list = NULL;
	struct range g = { .img = q->img.below };
	uint64_t clusters = div_round_up(q->img.size, q->geo.cluster_size);
	uint64_t bytes = min_u64(q->geo.cluster_size, clusters << q->geo.entry_bits);
	size_t count;

	if (list_tables(q, &list, &count) < 0) {
		return;
	}
	q->l2_bytes = count * bytes;
	if (q->l2_bytes > QCOW2_L2_SMALL) {
		return;
	}
	qsort(list, count, sizeof(*list), by_host);
	for (size_t i = 0; i < count; i++) {
		range_add(&g, list[i].host, min_u64(bytes, q->geo.host_size - list[i].host));
	}
	range_flush(&g);
}

struct tally {
	uint64_t data; /* bytes of the guest */
	uint64_t host; /* bytes of the file that hold them */
};

/* Adds to @t what [off, end) has. What cannot be mapped because it is corrupt counts as data. */
static int count_data(struct qcow2 *q, uint64_t off, uint64_t end, struct tally *t, struct err *e)
{
	uint64_t cluster = q->geo.cluster_size;

	while (off < end) {
		struct qcow2_run run = {
			.kind = QCOW2_DATA,
			.length = min_u64(end - off, cluster - off % cluster),
		};
		int r = qcow2_map(q, off, end - off, true, &run, e);

		if (r < 0 && r != -EBADMSG) {
			return r;
		}
		if (run.kind == QCOW2_DATA || run.kind == QCOW2_COMPRESSED) {
			t->data += run.length;
			t->host += run.kind == QCOW2_DATA ? run.length : run.host_length;
		}
		off += run.length;
	}
	return 0;
}

/* Places to look at, evenly spread over the tables, or over the disk where those are not known. */
static unsigned int choose_samples(struct qcow2 *q, uint64_t ret[SAMPLES])
{
	CLEANUP_FREE struct table *list = NULL;
	uint64_t cluster = q->geo.cluster_size;
	size_t count = 0;

	if (list_tables(q, &list, &count) < 0) {
		for (unsigned int i = 0; i < SAMPLES; i++) {
			ret[i] = round_down(q->img.size / SAMPLES * i, cluster);
		}
		return SAMPLES;
	}
	for (unsigned int i = 0; i < SAMPLES && i < count; i++) {
		ret[i] = list[count * i / SAMPLES].guest;
	}
	return (unsigned int)min_u64(count, SAMPLES);
}

/* The file holds little but tables and data; how much data a byte of it makes is seen at some
 * places. One place is what one page of an L2 table maps. */
static int estimate_data(struct qcow2 *q, uint64_t *ret, struct err *e)
{
	uint64_t span = min_u64(q->geo.cluster_size, QCOW2_PAGE)
			<< (q->geo.cluster_bits - q->geo.entry_bits);
	uint64_t tables = q->l2_bytes == UINT64_MAX ? 0 : min_u64(q->l2_bytes, q->geo.host_size);
	uint64_t samples[SAMPLES];
	unsigned int count = choose_samples(q, samples);
	struct tally t = { 0 };
	struct qcow2_run run;
	double ratio;

	for (unsigned int i = 0; i < count; i++) {
		(void)qcow2_map(q, samples[i], 1, false, &run, NULL);
	}
	for (unsigned int i = 0; i < count; i++) {
		uint64_t len = min_u64(span, q->img.size - samples[i]);
		int r = count_data(q, samples[i], samples[i] + len, &t, e);

		if (r < 0) {
			return r;
		}
	}
	ratio = t.host ? (double)t.data / (double)t.host : 1.0;
	*ret = (uint64_t)(ratio * (double)(q->geo.host_size - tables));
	return 0;
}

/* A backing file adds at most what it has; how much of it is covered is not worth the reading. */
int qcow2_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)img;
	struct tally t = { .data = atomic_load(&q->allocated) };
	uint64_t backing = 0;
	int r = 0;

	if (t.data == UINT64_MAX) {
		t.data = 0;
		r = q->l2_bytes <= QCOW2_L2_SMALL ? count_data(q, 0, img->size, &t, e)
						  : estimate_data(q, &t.data, e);
		if (r == 0 && q->backing) {
			r = image_allocated(q->backing, &backing, e);
		}
		if (r < 0) {
			return r;
		}
		t.data = min_u64(t.data + backing, img->size);
		atomic_store(&q->allocated, t.data);
	}
	*ret = t.data;
	return 0;
}
