/* SPDX-License-Identifier: Apache-2.0 */
/* Reads guest ranges: first all tables, then hints for what lies apart in the file, then bytes. */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/qcow2_cluster.h"
#include "formats/qcow2_map.h"

/* Places in the file closer together than this are one place to the image below. */
#define HINT_GAP 65536U

/* A reader that comes so near to the end of what a table covers will want the next one. */
#define LOOK_AHEAD MIB(16)

struct plan {
	struct qcow2_run runs[QCOW2_CLUSTER_RUNS];
	unsigned int count;
};

static int make_plan(struct qcow2 *q, uint64_t off, uint64_t len, struct plan *ret, struct err *e)
{
	ret->count = 0;
	while (len > 0 && ret->count < ARRAY_SIZE(ret->runs)) {
		struct qcow2_run *run = &ret->runs[ret->count];
		int r = qcow2_map(q, off, len, true, run, e);

		if (r < 0) {
			return r;
		}
		ret->count++;
		off += run->length;
		len -= run->length;
	}
	return 0;
}

/* Tells the image below of all places at once but the first, which is read right now: so their
 * round trips overlap. */
static void hint(struct qcow2 *q, const struct plan *plan)
{
	uint64_t start = 0;
	uint64_t end = 0;
	bool first = true;

	for (unsigned int i = 0; i < plan->count; i++) {
		const struct qcow2_run *run = &plan->runs[i];
		uint64_t length = run->kind == QCOW2_DATA ? run->length : run->host_length;

		if (run->kind != QCOW2_DATA && run->kind != QCOW2_COMPRESSED) {
			continue;
		}
		if (run->host >= start && run->host <= end + HINT_GAP && end > 0) {
			end = max_u64(end, run->host + length);
			continue;
		}
		if (end > 0 && !first) {
			image_prefetch(q->img.below, start, end - start);
		}
		first = end == 0;
		start = run->host;
		end = run->host + length;
	}
	if (end > 0 && !first) {
		image_prefetch(q->img.below, start, end - start);
	}
}

static void look_ahead(struct qcow2 *q, uint64_t off)
{
	uint64_t span = q->geo.cluster_size << q->geo.l2_bits;
	struct qcow2_run run;

	if (off < q->img.size && off / span != (off + LOOK_AHEAD) / span &&
		off + LOOK_AHEAD < q->img.size) {
		(void)qcow2_map(q, off + LOOK_AHEAD, 1, false, &run, NULL);
	}
}

/* A backing file may be shorter than the image: behind its end are zeros. */
static int read_backing(struct qcow2 *q, const struct qcow2_run *run, uint8_t *buf, struct err *e)
{
	uint64_t have = 0;
	int r = 0;

	if (q->backing && run->offset < q->backing->size) {
		have = min_u64(run->length, q->backing->size - run->offset);
		r = image_read_at(q->backing, buf, have, run->offset, e);
	}
	memset(buf + have, 0, run->length - have);
	return r;
}

/* Reads runs[0] and, when it is compressed, what is compressed behind it. Returns the number of
 * runs or an error. */
static int read_runs(
	struct qcow2 *q, const struct qcow2_run *runs, unsigned int n, uint8_t *buf, struct err *e)
{
	unsigned int count = 1;
	int r = 0;

	switch (runs[0].kind) {
	case QCOW2_UNALLOCATED:
		r = read_backing(q, &runs[0], buf, e);
		break;
	case QCOW2_ZERO:
		memset(buf, 0, runs[0].length);
		break;
	case QCOW2_DATA:
		r = image_read_at(q->img.below, buf, runs[0].length, runs[0].host, e);
		break;
	case QCOW2_COMPRESSED:
		while (count < n && runs[count].kind == QCOW2_COMPRESSED) {
			count++;
		}
		r = qcow2_cluster_read(q, runs, count, buf, e);
		break;
	}
	return r < 0 ? r : (int)count;
}

int qcow2_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)img;
	bool local = img->below->flags & IMAGE_LOCAL;
	uint8_t *p = buf;

	while (len > 0) {
		struct plan plan;
		unsigned int i = 0;
		int r = make_plan(q, off, len, &plan, e);

		if (r == 0 && !local) {
			hint(q, &plan);
		}
		while (r >= 0 && i < plan.count) {
			r = read_runs(q, &plan.runs[i], plan.count - i, p, e);
			for (int n = 0; n < r; n++, i++) {
				p += plan.runs[i].length;
				off += plan.runs[i].length;
				len -= plan.runs[i].length;
			}
		}
		if (r < 0) {
			return r;
		}
	}
	if (!local) {
		look_ahead(q, off);
	}
	return 0;
}
