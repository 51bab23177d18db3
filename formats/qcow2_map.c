/* SPDX-License-Identifier: Apache-2.0 */
/* Walks L1 and L2 tables, one page of each for a call. */
#include "formats/qcow2_map.h"

#include <errno.h>
#include <inttypes.h>

#include "core/bytes.h"
#include "core/log.h"

void qcow2_note_beyond(struct qcow2 *q, uint64_t end)
{
	uint64_t known = atomic_load(&q->reach);

	while (end > known && !atomic_compare_exchange_weak(&q->reach, &known, end)) {
	}
}

static int at_guest(uint64_t off, int r, struct err *e)
{
	return r == -EAGAIN ? r : err_wrap(e, r, "qcow2: guest offset %" PRIu64, off);
}

/* The L2 table for @off in *ret_l2. When there is none it is 0, and *ret is the whole run that the
 * page of the L1 table shows to be empty. */
static int map_l1(struct qcow2 *q, uint64_t off, uint64_t len, bool wait, uint64_t *ret_l2,
	struct run *ret, struct err *e)
{
	uint64_t span = q->geo.cluster_size << q->geo.l2_bits;
	uint64_t index = off / span;
	uint64_t end = (index + 1) * span;
	struct table_words w;
	uint64_t l2 = 0;
	int r;

	r = tables_get(&q->m.tables, q->geo.l1_offset + index * 8, 8, wait, &w, e);
	if (r < 0) {
		return at_guest(off, r, e);
	}
	r = qcow2_entry_l1(&q->geo, load_be64(w.at), &l2, e);
	qcow2_note_beyond(q, qcow2_entry_l1_beyond(&q->geo, load_be64(w.at)));
	for (size_t i = 8; l2 == 0 && i + 8 <= w.bytes && end < off + len; i += 8) {
		if (load_be64(w.at + i) != 0) {
			break;
		}
		end += span;
	}
	tables_put(&q->m.tables, &w);
	if (r < 0) {
		return at_guest(off, r, e);
	}
	*ret_l2 = l2;
	*ret = (struct run){
		.kind = RUN_UNALLOCATED,
		.offset = off,
		.length = min_u64(end - off, len),
		.host = EXTENT_NO_HOST,
	};
	return 0;
}

static int piece_at(const struct qcow2 *q, const uint8_t *word, uint64_t off,
	struct qcow2_piece *ret, struct err *e)
{
	uint64_t bitmap = q->geo.entry_bits == 4 ? load_be64(word + 8) : 0;

	return qcow2_entry_l2(
		&q->geo, load_be64(word), bitmap, off & (q->geo.cluster_size - 1), ret, e);
}

static bool continues(const struct run *run, const struct qcow2_piece *p)
{
	if (run->kind != p->kind || run->kind == RUN_COMPRESSED) {
		return false;
	}
	if (run->host == EXTENT_NO_HOST || p->host == EXTENT_NO_HOST) {
		return run->host == p->host;
	}
	return p->host == run->host + run->length;
}

/* Appends to @run what the words behind the first one add to it, up to @len bytes. */
static void extend(
	const struct qcow2 *q, const struct table_words *w, uint64_t len, struct run *run)
{
	uint64_t first = run->offset >> q->geo.cluster_bits;
	uint64_t in_table = (1ULL << q->geo.l2_bits) - (first & ((1ULL << q->geo.l2_bits) - 1));
	uint64_t words = min_u64(w->bytes >> q->geo.entry_bits, in_table);

	while (run->length < len) {
		uint64_t off = run->offset + run->length;
		uint64_t i = (off >> q->geo.cluster_bits) - first;
		struct qcow2_piece p;

		if (i >= words ||
			piece_at(q, w->at + (i << q->geo.entry_bits), off, &p, NULL) < 0 ||
			!continues(run, &p)) {
			break;
		}
		run->length += p.length;
	}
	run->length = min_u64(run->length, len);
}

static void warn_once(struct qcow2 *q, uint64_t off)
{
	if (!atomic_exchange(&q->warned, true)) {
		log_warn("qcow2: reserved bits are set in the L2 entry of guest offset %" PRIu64
			 "; ignored, here and elsewhere",
			off);
	}
}

/* Data must be in the file; the run ends where the file does. */
static int check_host(struct qcow2 *q, struct run *run, struct err *e)
{
	if (run->kind != RUN_DATA || range_within(run->host, run->length, q->geo.host_size)) {
		return 0;
	}
	qcow2_note_beyond(q, run->host + run->length);
	if (run->host >= q->geo.host_size) {
		return err_set(e, -EBADMSG,
			"data at offset %" PRIu64 ", beyond the end of the file (%" PRIu64
			" bytes): the image is truncated or corrupt",
			run->host, q->geo.host_size);
	}
	run->length = q->geo.host_size - run->host;
	return 0;
}

static int map_l2(struct qcow2 *q, uint64_t l2, uint64_t off, uint64_t len, bool wait,
	struct run *ret, struct err *e)
{
	uint64_t index = (off >> q->geo.cluster_bits) & ((1ULL << q->geo.l2_bits) - 1);
	uint64_t pos = l2 + (index << q->geo.entry_bits);
	struct table_words w;
	struct qcow2_piece p;
	struct run run = { 0 };
	int r;

	r = tables_get(&q->m.tables, pos, 1U << q->geo.entry_bits, wait, &w, e);
	if (r < 0) {
		qcow2_note_beyond(q, pos < q->geo.host_size ? 0 : l2 + q->geo.cluster_size);
		return r;
	}
	r = piece_at(q, w.at, off, &p, e);
	qcow2_note_beyond(q, qcow2_entry_l2_beyond(&q->geo, load_be64(w.at)));
	if (r == 0) {
		run = (struct run){ p.kind, off, p.length, p.host, p.host_length };
		extend(q, &w, len, &run);
		r = check_host(q, &run, e);
	}
	tables_put(&q->m.tables, &w);
	if (r < 0) {
		return err_wrap(e, r, "L2 entry at offset %" PRIu64, pos);
	}
	if (p.odd) {
		warn_once(q, off);
	}
	*ret = run;
	return 0;
}

int qcow2_map(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)m;
	struct run run;
	uint64_t l2 = 0;
	int r = map_l1(q, off, len, wait, &l2, &run, e);

	if (r == 0 && l2 != 0) {
		r = map_l2(q, l2, off, len, wait, &run, e);
		r = r < 0 ? at_guest(off, r, e) : 0;
	}
	if (r == 0) {
		*ret = run;
	}
	return r;
}

int qcow2_table_at(
	struct image *img, uint64_t off, uint64_t *ret_host, uint64_t *ret_end, struct err *e)
{
	struct qcow2 *q = (struct qcow2 *)img;
	uint64_t span = q->geo.cluster_size << q->geo.l2_bits;
	uint64_t entry = (off % span) >> q->geo.cluster_bits << q->geo.entry_bits;
	uint64_t page = min_u64(TABLES_PAGE, q->geo.cluster_size);
	uint64_t words = (page - entry % page) >> q->geo.entry_bits;
	struct run hole;
	uint64_t l2 = 0;
	int r = map_l1(q, off, img->size - off, true, &l2, &hole, e);

	if (r < 0) {
		return r;
	}
	if (l2 == 0) {
		*ret_host = EXTENT_NO_HOST;
		*ret_end = off + hole.length;
		return 0;
	}
	*ret_host = l2 + entry;
	*ret_end = min_u64(
		round_down(off, q->geo.cluster_size) + words * q->geo.cluster_size, img->size);
	return 0;
}
