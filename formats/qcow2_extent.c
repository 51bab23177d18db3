/* SPDX-License-Identifier: Apache-2.0 */
/* L2 tables as a whole: asked for at open, and how much of the disk is data according to them. */
#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/hints.h"
#include "formats/qcow2_map.h"

/* Tables to look at when there are too many to look at all. */
#define SAMPLES 32U

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
		struct table_words w;
		uint64_t l2 = 0;
		int r = tables_get(&q->m.tables, q->geo.l1_offset + i * 8, 8, false, &w, NULL);

		if (r < 0) {
			return r;
		}
		if (qcow2_entry_l1(&q->geo, load_be64(w.at), &l2, NULL) == 0 && l2 != 0) {
			list[count++] = (struct table){
				.host = l2,
				.guest = i * (q->geo.cluster_size << q->geo.l2_bits),
			};
		}
		qcow2_note_beyond(q, qcow2_entry_l1_beyond(&q->geo, load_be64(w.at)));
		tables_put(&q->m.tables, &w);
	}
	*ret = TAKE_PTR(list);
	*ret_count = count;
	return 0;
}

void qcow2_prefetch_tables(struct qcow2 *q)
{
	CLEANUP_FREE struct table *list = NULL;
	struct hints g = { .img = q->m.img.below };
	uint64_t clusters = div_round_up(q->m.img.size, q->geo.cluster_size);
	uint64_t bytes = min_u64(q->geo.cluster_size, clusters << q->geo.entry_bits);
	size_t count;

	if (list_tables(q, &list, &count) < 0) {
		return;
	}
	q->l2_bytes = count * bytes;
	if (q->l2_bytes > QCOW2_L2_SMALL || q->m.img.below->flags & IMAGE_FORWARD) {
		return;
	}
	qsort(list, count, sizeof(*list), by_host);
	for (size_t i = 0; i < count; i++) {
		hints_add(&g, list[i].host, min_u64(bytes, q->geo.host_size - list[i].host));
	}
	hints_flush(&g);
}

/* Places to look at, evenly spread over the tables, or over the disk where those are not known. */
static unsigned int choose_samples(struct qcow2 *q, uint64_t ret[SAMPLES])
{
	CLEANUP_FREE struct table *list = NULL;
	uint64_t cluster = q->geo.cluster_size;
	size_t count = 0;

	if (list_tables(q, &list, &count) < 0) {
		for (unsigned int i = 0; i < SAMPLES; i++) {
			ret[i] = round_down(q->m.img.size / SAMPLES * i, cluster);
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
	uint64_t span = min_u64(q->geo.cluster_size, TABLES_PAGE)
			<< (q->geo.cluster_bits - q->geo.entry_bits);
	uint64_t tables = q->l2_bytes == UINT64_MAX ? 0 : min_u64(q->l2_bytes, q->geo.host_size);
	uint64_t samples[SAMPLES];
	unsigned int count = choose_samples(q, samples);
	struct mapped_tally t = { 0 };
	struct run run;
	double ratio;

	for (unsigned int i = 0; i < count; i++) {
		(void)qcow2_map(&q->m, samples[i], 1, false, &run, NULL);
	}
	for (unsigned int i = 0; i < count; i++) {
		uint64_t len = min_u64(span, q->m.img.size - samples[i]);
		int r = mapped_count(&q->m, samples[i], samples[i] + len, &t, e);

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
	struct mapped_tally t = { .data = atomic_load(&q->m.allocated) };
	uint64_t backing = 0;
	int r = 0;

	if (t.data == UINT64_MAX) {
		t.data = 0;
		r = q->l2_bytes <= QCOW2_L2_SMALL ? mapped_count(&q->m, 0, img->size, &t, e)
						  : estimate_data(q, &t.data, e);
		if (r == 0 && q->m.backing) {
			r = image_allocated(q->m.backing, &backing, e);
			r = r < 0 ? mapped_backing_failed(&q->m, r, e) : 0;
		}
		if (r < 0) {
			return r;
		}
		t.data = min_u64(t.data + backing, img->size);
		atomic_store(&q->m.allocated, t.data);
	}
	*ret = t.data;
	return 0;
}
