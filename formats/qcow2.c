/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a qcow2 image with at most two reads, the header's and the L1 table's. */
#include "formats/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/report.h"
#include "formats/qcow2_map.h"

/* Of larger clusters, what is left is too much to keep. */
#define TAILS_CLUSTER_MOST KIB(256)

/* An L1 table up to this size is read at open; of a larger one, the beginning is asked for. */
#define L1_SMALL KIB(256)

static int read_header(struct image *file, struct qcow2_header *ret, struct err *e)
{
	size_t len = min_u64(file->size, QCOW2_HEAD);
	int r;

	do {
		CLEANUP_FREE uint8_t *head = malloc(len + 1);

		if (!head) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		r = image_read_at(file, head, len, 0, e);
		if (r < 0) {
			return r;
		}
		r = qcow2_header_parse(head, len, file->size, ret, e);
		len = (size_t)r;
	} while (r > 0);
	return r;
}

/* An overlay of old may name no format for its backing file. Probing would let whoever wrote into a
 * raw disk turn it into anything; taking a qcow2 file for a raw one would show wrong bytes. So it
 * is raw, and must look it. */
static int check_unnamed_format(struct qcow2 *q, struct err *e)
{
	const char *looks = "raw";
	int r;

	if (q->header.backing_format[0]) {
		return 0;
	}
	r = format_probe(q->m.backing, &looks, e);
	if (r == 0 && strcmp(looks, "raw") != 0) {
		r = err_set(e, -ENOTSUP,
			"the image does not say what format it has, it looks like %s, and neither "
			"is taken on trust",
			looks);
	}
	return r;
}

static int open_named(struct qcow2 *q, const struct format_opts *opts, struct err *e)
{
	const char *format = q->header.backing_format[0] ? q->header.backing_format : "raw";
	int r;

	if (opts->depth + 1 > FORMAT_DEPTH_MAX) {
		return err_set(e, -EBADMSG,
			"the chain of backing files is longer than %d, or a loop",
			FORMAT_DEPTH_MAX);
	}
	r = opts->open_backing(
		opts->ctx, q->header.backing, format, opts->depth + 1, &q->m.backing, e);
	return r < 0 ? r : check_unnamed_format(q, e);
}

static int open_backing(struct qcow2 *q, const struct format_opts *opts, struct err *e)
{
	char *safe = q->m.backing_name;
	int r;

	if (!q->header.backing[0]) {
		return 0;
	}
	qcow2_header_safe_name(q->header.backing, safe, sizeof(q->m.backing_name));
	if (!opts->open_backing) {
		return err_set(e, -ENOTSUP,
			"the image is only what changed over its backing file \"%s\", which is not "
			"opened without --allow-backing",
			safe);
	}
	r = open_named(q, opts, e);
	/* Once is enough: the names of a long chain would crowd out what went wrong. */
	return r < 0 && opts->depth == 0 ? err_wrap(e, r, "backing file \"%s\"", safe) : r;
}

static int load_l1(struct qcow2 *q, struct image *file, struct err *e)
{
	if (q->geo.l1_bytes > L1_SMALL) {
		image_prefetch(file, q->geo.l1_offset, L1_SMALL);
		return 0;
	}
	if (q->geo.l1_bytes == 0) {
		return 0;
	}
	return tables_preload(&q->m.tables, q->geo.l1_offset, q->geo.l1_bytes, e);
}

static void qcow2_clear(struct qcow2 *q)
{
	mapped_clear(&q->m);
	free(q);
}

static void qcow2_destroy(struct image *img)
{
	struct qcow2 *q = (struct qcow2 *)img;

	image_fini(img);
	qcow2_clear(q);
}

static void qcow2_report(struct image *img, struct report *r)
{
	struct qcow2 *q = (struct qcow2 *)img;
	char safe[QCOW2_NAME_MAX + 1];

	report_u64(r, "version", q->header.version);
	report_u64(r, "cluster_size", q->geo.cluster_size);
	report_text(r, "compression", q->header.compression == QCOW2_ZSTD ? "zstd" : "zlib");
	if (q->header.backing[0]) {
		qcow2_header_safe_name(q->header.backing, safe, sizeof(safe));
		report_text(r, "backing", safe);
	}
	report_bool(r, "subclusters", q->header.extended_l2);
	if (q->reach > 0) {
		report_u64(r, "reaches_bytes", q->reach);
	}
	report_u64(r, "l2_tables_read", q->m.tables.loads);
}

static const struct image_ops qcow2_ops = {
	.name = "qcow2",
	.read_at = mapped_read_at,
	.extent_at = mapped_extent_at,
	.table_at = qcow2_table_at,
	.prefetch = mapped_prefetch,
	.prove = mapped_prove,
	.owes_proof = mapped_owes_proof,
	.allocated = qcow2_allocated,
	.report = qcow2_report,
	.interrupt = mapped_interrupt,
	.listen = mapped_listen,
	.forget = mapped_forget,
	.destroy = qcow2_destroy,
};

static const struct mapped_ops qcow2_mapping = { .map = qcow2_map };

/* What QEMU left of clusters and may fill later, where going back there is dear. */
static int init_tails(struct qcow2 *q, struct image *below)
{
	bool wanted = below->flags & IMAGE_FORWARD && q->geo.cluster_size <= TAILS_CLUSTER_MOST;

	return wanted ? tails_new(q->geo.cluster_size, &q->m.tails) : 0;
}

static int init_parts(struct qcow2 *q, struct image *below, struct err *e)
{
	enum codec_kind kind = q->header.compression == QCOW2_ZSTD ? CODEC_ZSTD : CODEC_DEFLATE;

	q->m.cluster_size = q->geo.cluster_size;
	q->m.table_span = q->geo.cluster_size << q->geo.l2_bits;
	if (mapped_init(&q->m, &qcow2_mapping, below, TABLES_PAGES_MAX) < 0 ||
		mapped_use_codec(&q->m, kind) < 0 || init_tails(q, below) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

int qcow2_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (!q) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	q->l2_bytes = UINT64_MAX;
	r = read_header(below, &q->header, e);
	if (r == 0) {
		qcow2_geometry_init(&q->geo, &q->header, below->size);
		r = init_parts(q, below, e);
	}
	if (r == 0) {
		r = load_l1(q, below, e);
	}
	if (r == 0) {
		r = open_backing(q, opts, e);
	}
	if (r == 0) {
		r = mapped_init_image(&q->m, &qcow2_ops, below, q->header.size);
		r = r < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	}
	if (r < 0) {
		qcow2_clear(q);
		return r;
	}
	if (q->header.corrupt) {
		log_warn("qcow2: the image is marked corrupt by the program that wrote it last; "
			 "what it says is taken as it is");
	}
	qcow2_prefetch_tables(q);
	*ret = &q->m.img;
	return 0;
}
