/* SPDX-License-Identifier: Apache-2.0 */
/* What is known without reading data: extents, host ranges to prefetch, how much of it is data. */
#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "formats/hints.h"
#include "formats/mapped.h"
#include "formats/mapped_cluster.h"

/* Bounds of one call. */
#define MERGE_MAX    256U
#define PREFETCH_MAX 8192U

/* Places of a hint that are put in order at a time. */
#define PREFETCH_PLACES 256U

/* Tables to look at when there are too many to look at all. */
#define SAMPLES    32U
#define FEW_TABLES 64U

static struct extent extent_of(const struct run *run)
{
	return (struct extent){
		.offset = run->offset,
		.length = run->length,
		.zero = run->kind == RUN_ZERO || run->kind == RUN_UNALLOCATED,
		.allocated = run->kind != RUN_UNALLOCATED,
		.compressed = run->kind == RUN_COMPRESSED,
		.host = run->host,
	};
}

/* Where the backing file speaks for the bytes of @x. */
static int ask_backing(struct mapped *m, struct extent *x, struct err *e)
{
	struct extent b;
	int r;

	if (!m->backing || x->allocated || x->offset >= m->backing->size) {
		return 0;
	}
	r = image_extent_at(m->backing, x->offset, &b, e);
	if (r < 0) {
		return mapped_backing_failed(m, r, e);
	}
	extent_clip(&b, x->offset, min_u64(x->length, b.length));
	b.depth++;
	*x = b;
	return 0;
}

/* Where space is reserved for data that were never written, the file has a hole. */
static int ask_file(struct mapped *m, struct extent *x, struct err *e)
{
	struct extent below;
	uint64_t known;
	int r;

	if (x->zero || !x->allocated || x->compressed) {
		return 0;
	}
	r = image_extent_at(m->img.below, x->host, &below, e);
	if (r < 0) {
		return r;
	}
	x->zero = below.zero;
	x->hole_below = below.zero;
	known = below.length;
	for (unsigned int i = 0; known < x->length && i < MERGE_MAX; i++) {
		if (image_extent_at(m->img.below, x->host + known, &below, NULL) < 0 ||
			below.zero != x->zero) {
			break;
		}
		known += below.length;
	}
	x->length = min_u64(x->length, known);
	return 0;
}

int mapped_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct mapped *m = (struct mapped *)img;
	struct run run;
	struct extent x;
	int r = m->map->map(m, off, img->size - off, true, &run, e);

	if (r < 0) {
		return r;
	}
	x = extent_of(&run);
	for (unsigned int i = 0; i < MERGE_MAX && off + x.length < img->size; i++) {
		uint64_t next = off + x.length;
		struct extent more;

		if (m->map->map(m, next, img->size - next, false, &run, NULL) < 0) {
			break;
		}
		more = extent_of(&run);
		if (!extent_merge(&x, &more)) {
			break;
		}
	}
	r = ask_backing(m, &x, e);
	if (r == 0 && x.depth == 0) {
		r = ask_file(m, &x, e);
	}
	if (r == 0) {
		*ret = x;
	}
	return r;
}

struct place {
	uint64_t host;
	uint64_t length;
};

static int by_host(const void *a, const void *b)
{
	const struct place *x = a;
	const struct place *y = b;

	return (x->host > y->host) - (x->host < y->host);
}

/* Neighbours of the disk need not lie in that order in the file: who writes it with many threads
 * leaves them a bit mixed. */
static void hint_places(struct mapped *m, struct place *places, size_t count)
{
	struct hints g = { .img = m->img.below };

	qsort(places, count, sizeof(*places), by_host);
	for (size_t i = 0; i < count; i++) {
		hints_add(&g, places[i].host, places[i].length);
	}
	hints_flush(&g);
}

void mapped_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct mapped *m = (struct mapped *)img;
	struct place places[PREFETCH_PLACES] = { 0 };
	size_t count = 0;
	struct run run;

	for (unsigned int i = 0; len > 0 && i < PREFETCH_MAX; i++) {
		if (m->map->map(m, off, len, false, &run, NULL) < 0) {
			break;
		}
		if (run.kind == RUN_DATA) {
			places[count++] = (struct place){ run.host, run.length };
		} else if (run.kind == RUN_COMPRESSED && !mapped_cluster_kept(m, &run)) {
			places[count++] = (struct place){ run.host, run.host_length };
		} else if (run.kind == RUN_UNALLOCATED && m->backing) {
			image_prefetch(m->backing, off, run.length);
		}
		if (count == ARRAY_SIZE(places)) {
			hint_places(m, places, count);
			count = 0;
		}
		off += run.length;
		len -= run.length;
	}
	hint_places(m, places, count);
}

int mapped_count(
	struct mapped *m, uint64_t off, uint64_t end, struct mapped_tally *t, struct err *e)
{
	uint64_t cluster = m->cluster_size;

	while (off < end) {
		struct run run = {
			.kind = RUN_DATA,
			.length = min_u64(end - off, cluster - off % cluster),
		};
		int r = m->map->map(m, off, end - off, true, &run, e);

		if (r < 0 && r != -EBADMSG) {
			return r;
		}
		if (run.kind == RUN_DATA || run.kind == RUN_COMPRESSED) {
			t->data += run.length;
			t->host += run.kind == RUN_DATA ? run.length : run.host_length;
		}
		off += run.length;
	}
	return 0;
}

/* Asks for the tables of @count places that are @stride apart, all at once. */
static void hint_tables(struct mapped *m, uint64_t count, uint64_t stride)
{
	struct run run;

	for (uint64_t i = 0; i < count; i++) {
		(void)m->map->map(m, i * stride, 1, false, &run, NULL);
	}
}

/* The file holds little but data; how much data a byte of it makes is seen at some places. */
static int estimate(struct mapped *m, uint64_t *ret, struct err *e)
{
	uint64_t stride = m->img.size / SAMPLES / m->table_span * m->table_span;
	struct mapped_tally t = { 0 };
	double ratio;

	hint_tables(m, SAMPLES, stride);
	for (uint64_t i = 0; i < SAMPLES; i++) {
		int r = mapped_count(m, i * stride, i * stride + m->table_span, &t, e);

		if (r < 0) {
			return r;
		}
	}
	ratio = t.host ? (double)t.data / (double)t.host : 1.0;
	*ret = (uint64_t)(ratio * (double)m->img.below->size);
	return 0;
}

int mapped_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct mapped *m = (struct mapped *)img;
	struct mapped_tally t = { .data = atomic_load(&m->allocated) };
	uint64_t count = m->table_span ? div_round_up(img->size, m->table_span) : 0;
	int r;

	if (t.data == UINT64_MAX) {
		t.data = 0;
		if (count > FEW_TABLES) {
			r = estimate(m, &t.data, e);
		} else {
			hint_tables(m, count, m->table_span);
			r = mapped_count(m, 0, img->size, &t, e);
		}
		if (r < 0) {
			return r;
		}
		t.data = min_u64(t.data, img->size);
		atomic_store(&m->allocated, t.data);
	}
	*ret = t.data;
	return 0;
}
