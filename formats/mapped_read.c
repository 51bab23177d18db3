/* SPDX-License-Identifier: Apache-2.0 */
/* Reads guest ranges: first all tables, then hints for what lies apart in the file, then bytes. */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/mapped.h"
#include "formats/mapped_cluster.h"

/* Places in the file closer together than this are one place to the image below. */
#define HINT_GAP 65536U

/* A reader that comes so near to the end of what a table covers will want the next one. */
#define LOOK_AHEAD MIB(16)

struct plan {
	struct run runs[MAPPED_CLUSTER_RUNS];
	unsigned int count;
	uint64_t age; /* of the memory of clusters, before a table was looked at */
};

static int make_plan(struct mapped *m, uint64_t off, uint64_t len, struct plan *ret, struct err *e)
{
	ret->count = 0;
	ret->age = m->clusters ? memo_age(m->clusters) : 0;
	while (len > 0 && ret->count < ARRAY_SIZE(ret->runs)) {
		struct run *run = &ret->runs[ret->count];
		int r = m->map->map(m, off, len, true, run, e);

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
static void hint(struct mapped *m, const struct plan *plan)
{
	uint64_t start = 0;
	uint64_t end = 0;
	bool first = true;

	for (unsigned int i = 0; i < plan->count; i++) {
		const struct run *run = &plan->runs[i];
		uint64_t length = run->kind == RUN_DATA ? run->length : run->host_length;

		if ((run->kind != RUN_DATA && run->kind != RUN_COMPRESSED) ||
			(run->kind == RUN_COMPRESSED && mapped_cluster_kept(m, run))) {
			continue;
		}
		if (run->host >= start && run->host <= end + HINT_GAP && end > 0) {
			end = max_u64(end, run->host + length);
			continue;
		}
		if (end > 0 && !first) {
			image_prefetch(m->img.below, start, end - start);
		}
		first = end == 0;
		start = run->host;
		end = run->host + length;
	}
	if (end > 0 && !first) {
		image_prefetch(m->img.below, start, end - start);
	}
}

static void look_ahead(struct mapped *m, uint64_t off)
{
	uint64_t span = m->table_span;
	struct run run;

	if (span > 0 && off < m->img.size && off / span != (off + LOOK_AHEAD) / span &&
		off + LOOK_AHEAD < m->img.size) {
		(void)m->map->map(m, off + LOOK_AHEAD, 1, false, &run, NULL);
	}
}

/* A backing file may be shorter than the image: behind its end are zeros. */
static int read_backing(struct mapped *m, const struct run *run, uint8_t *buf, struct err *e)
{
	uint64_t have = 0;
	int r = 0;

	if (m->backing && run->offset < m->backing->size) {
		have = min_u64(run->length, m->backing->size - run->offset);
		r = image_read_at(m->backing, buf, have, run->offset, e);
		r = r < 0 ? mapped_backing_failed(m, r, e) : 0;
	}
	memset(buf + have, 0, run->length - have);
	return r;
}

/* Reads run @i of the plan and, when it is compressed, what is compressed behind it. Returns the
 * number of runs or an error. */
static int read_runs(
	struct mapped *m, const struct plan *plan, unsigned int i, uint8_t *buf, struct err *e)
{
	const struct run *runs = &plan->runs[i];
	unsigned int n = plan->count - i;
	unsigned int count = 1;
	int r = 0;

	switch (runs[0].kind) {
	case RUN_UNALLOCATED:
		r = read_backing(m, &runs[0], buf, e);
		break;
	case RUN_ZERO:
		memset(buf, 0, runs[0].length);
		break;
	case RUN_DATA:
		r = image_read_at(m->img.below, buf, runs[0].length, runs[0].host, e);
		break;
	case RUN_COMPRESSED:
		while (count < n && runs[count].kind == RUN_COMPRESSED) {
			count++;
		}
		r = mapped_cluster_read(m, runs, count, plan->age, buf, e);
		break;
	}
	return r < 0 ? r : (int)count;
}

int mapped_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct mapped *m = (struct mapped *)img;
	bool local = img->below->flags & IMAGE_LOCAL;
	uint8_t *p = buf;

	while (len > 0) {
		struct plan plan;
		unsigned int i = 0;
		int r = make_plan(m, off, len, &plan, e);

		if (r == 0 && !local) {
			hint(m, &plan);
		}
		while (r >= 0 && i < plan.count) {
			r = read_runs(m, &plan, i, p, e);
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
		look_ahead(m, off);
	}
	return 0;
}
