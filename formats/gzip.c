/* SPDX-License-Identifier: Apache-2.0 */
/* The layer: who wants what of the decoded bytes, and what is said of their number. */
#include "formats/gzip.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "core/workq.h"
#include "formats/gzip_guess.h"
#include "formats/gzip_run.h"

/* Enough of the decoded beginning to find a partition table. */
#define HEAD_LEN KIB(16)

/* What a sink gets at a time. */
#define SINK_PIECE MIB(1)

/* Where decoding fails, the damage lies before, or within so much behind. */
#define DAMAGE_NEAR MIB(1)

/* The shortest member: header, an empty block, trailer. */
#define MEMBER_MIN 20U

struct gzip_image {
	struct image img;
	struct gzip_source src;
	struct workq *saver;
	struct work save;
	_Atomic bool saving;
	_Atomic uint64_t runs;
	_Atomic uint64_t decoded;
};

/* What somebody wants of the decoded bytes. */
struct wish {
	uint64_t off;
	uint64_t end;
	bool open; /* not only to `end`: to the end of the file, wherever that is */
	image_sink_fn *sink;
	void *ctx;
};

static struct gzip_image *of(struct image *img)
{
	return (struct gzip_image *)img;
}

static void save(struct work *w)
{
	struct gzip_image *g = (struct gzip_image *)((char *)w - offsetof(struct gzip_image, save));

	gzip_index_save(g->src.index);
	atomic_store(&g->saving, false);
}

/* Writing waits for the disk, decoding need not. */
static void save_if_due(struct gzip_image *g)
{
	if (gzip_index_due(g->src.index) && !atomic_exchange(&g->saving, true)) {
		g->save = (struct work){ .run = save, .priority = 0 };
		workq_push(g->saver, &g->save);
	}
}

/* Hands over what of [at, at + n) is wished for. */
static int give(const struct wish *w, uint64_t at, const uint8_t *buf, size_t n, struct err *e)
{
	uint64_t from = max_u64(at, w->off);
	uint64_t to = w->open ? at + n : min_u64(at + n, w->end);

	while (from < to) {
		size_t k = min_u64(to - from, SINK_PIECE);
		int r = w->sink(w->ctx, from, buf + (from - at), k);

		if (r < 0) {
			return err_set(e, r, "gzip: the reader stopped the stream");
		}
		from += k;
	}
	return 0;
}

/* Between what is known to be right and the next span, which is another fetch: is it wanted? */
static int ask(const struct gzip_run *run, const struct wish *w, struct err *e)
{
	uint64_t at = gzip_run_offset(run);
	int r = 0;

	if (at > w->off && gzip_run_is_checked(run)) {
		r = w->sink(w->ctx, at, "", 0);
	}
	return r < 0 ? err_set(e, r, "gzip: the reader stopped the stream") : 0;
}

/* Decodes until the wish is fulfilled; *ret_real is the end of the file if it was met, which ends
 * the wish. */
static int decode(struct gzip_image *g, struct gzip_run *run, const struct wish *w,
	uint64_t *ret_real, struct err *e)
{
	*ret_real = UINT64_MAX;
	while (w->open || gzip_run_offset(run) < w->end) {
		uint64_t at = gzip_run_offset(run);
		const uint8_t *buf = NULL;
		size_t n = 0;
		int r = ask(run, w, e);

		if (r == 0) {
			r = gzip_run_next(run, &buf, &n, e);
		}
		save_if_due(g);
		if (r < 0) {
			return r;
		}
		if (n == 0) {
			*ret_real = at;
			return 0;
		}
		atomic_fetch_add_explicit(&g->decoded, n, memory_order_relaxed);
		r = give(w, at, buf, n, e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* The member whose checksum failed, or the span that is not what it was. */
static void gzip_doubt_at(struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len)
{
	struct gzip_index *ix = of(img)->src.index;
	struct gzip_point here;
	uint64_t from;
	uint64_t to;
	size_t number;

	gzip_index_find(ix, off > 0 ? off - 1 : 0, &here, &number);
	from = here.out;
	to = off;
	if (gzip_index_condemned(ix, &from, &to)) {
		from = min_u64(from, off);
		to = max_u64(to, off);
	}
	*ret_off = from;
	*ret_len = to - from;
}

/* Of the compressed file, all that the bytes in doubt were made of, up to where @run has failed. */
static void distrust(struct gzip_image *g, const struct gzip_run *run)
{
	uint64_t end = gzip_run_consumed(run) + DAMAGE_NEAR;
	struct gzip_point from;
	uint64_t off;
	uint64_t len;
	size_t number;

	gzip_doubt_at(&g->img, gzip_run_offset(run), &off, &len);
	gzip_index_find(g->src.index, off, &from, &number);
	image_distrust(g->img.below, from.in_bits / 8, end - from.in_bits / 8);
}

static int fulfil(struct gzip_image *g, const struct wish *w, uint64_t *ret_real, struct err *e)
{
	struct gzip_run *run = NULL;
	int r = gzip_index_check(g->src.index, w->off, w->open ? UINT64_MAX : w->end, e);

	if (r == 0 && gzip_index_total(g->src.index, ret_real) && w->off >= *ret_real) {
		return 0;
	}
	if (r == 0) {
		r = gzip_run_open(&g->src, w->off, &run, e);
	}
	if (r < 0) {
		return r;
	}
	atomic_fetch_add(&g->runs, 1);
	r = decode(g, run, w, ret_real, e);
	if (r == -EBADMSG) {
		distrust(g, run);
	}
	gzip_run_close(run);
	return r;
}

/* Whether @real, the end of the file, is all right for a reader of everything before @end. */
static int check_end(struct gzip_image *g, uint64_t end, uint64_t real, struct err *e)
{
	return real >= end ? 0 : image_past_end(&g->img, real, e);
}

static int gzip_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	struct gzip_image *g = of(img);
	struct wish w = {
		.off = off,
		.end = off + len,
		.open = img->flags & IMAGE_SIZE_PROVISIONAL && off + len == img->size,
		.sink = sink,
		.ctx = ctx,
	};
	uint64_t real;
	int r = fulfil(g, &w, &real, e);

	return r == 0 && !w.open ? check_end(g, w.end, real, e) : r;
}

struct target {
	uint8_t *buf;
	uint64_t off;
	uint64_t end;
	bool more; /* there are bytes behind `end` */
};

static int into_buffer(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct target *t = ctx;

	if (off < t->end) {
		memcpy(t->buf + (off - t->off), buf, min_u64(n, t->end - off));
	}
	t->more = off + n > t->end;
	return 0;
}

/* A read that includes the assumed end also finds out whether it is the real one, for which one
 * byte more is asked for. */
static int gzip_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct gzip_image *g = of(img);
	bool last = img->flags & IMAGE_SIZE_PROVISIONAL && off + len == img->size;
	struct target t = { buf, off, off + len, false };
	struct wish w = {
		.off = off,
		.end = off + len + last,
		.sink = into_buffer,
		.ctx = &t,
	};
	uint64_t real;
	int r = fulfil(g, &w, &real, e);

	if (r == 0) {
		r = check_end(g, off + len, real, e);
	}
	return r == 0 && t.more && last ? image_past_end(img, UINT64_MAX, e) : r;
}

/* From the last seek point on, whose CRC is of all that its member had before; the members before
 * it were checked when it was found. */
static int gzip_prove(struct image *img, struct err *e)
{
	struct gzip_image *g = of(img);
	struct gzip_point last;
	uint64_t real;
	size_t number;
	int r = gzip_index_check(g->src.index, 0, UINT64_MAX, e);

	if (r < 0 || gzip_index_total(g->src.index, &real)) {
		return r;
	}
	gzip_index_find(g->src.index, UINT64_MAX, &last, &number);
	return fulfil(g, &(struct wish){ .off = last.out, .open = true, .sink = image_sink_none },
		&real, e);
}

static int gzip_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	struct gzip_index *ix = of(img)->src.index;
	struct gzip_point here;
	struct gzip_point next;
	uint64_t total;
	size_t number;

	(void)e;
	/* In this order: a point that appears in between makes the unit smaller. */
	gzip_index_find(ix, off, &here, &number);
	*ret_off = here.out;
	if (gzip_index_after(ix, here.out, &next)) {
		*ret_len = next.out - here.out;
	} else if (!gzip_index_total(ix, &total)) {
		*ret_len = max_u64(img->bound, img->size) - here.out;
	} else if (off < total) {
		*ret_len = total - here.out;
	} else {
		*ret_off = total;
		*ret_len = max_u64(img->bound, img->size) - total;
	}
	return 0;
}

static int gzip_final_size(struct image *img, uint64_t *ret)
{
	return gzip_index_total(of(img)->src.index, ret) ? 0 : -EAGAIN;
}

static void gzip_report(struct image *img, struct report *r)
{
	struct gzip_image *g = of(img);
	struct gzip_index_facts facts;
	uint64_t total;
	bool known = gzip_index_total(g->src.index, &total);

	gzip_index_facts(g->src.index, &facts);
	report_u64(r, "compressed_bytes", img->below->size);
	report_bool(r, "size_known", known);
	if (known) {
		report_u64(r, "real_size", total);
	}
	report_u64(r, "seek_points", facts.points);
	report_u64(r, "indexed_bytes", facts.reached);
	report_u64(r, "index_bytes", facts.bytes);
	report_u64(r, "decodes", atomic_load(&g->runs));
	report_u64(r, "decoded_bytes", atomic_load(&g->decoded));
}

static void gzip_interrupt(struct image *img)
{
	atomic_store(&of(img)->src.stop, true);
}

static void gzip_clear(struct gzip_image *g)
{
	workq_free(g->saver);
	if (g->src.index) {
		gzip_index_save(g->src.index);
		gzip_index_free(g->src.index);
	}
}

static void gzip_destroy(struct image *img)
{
	gzip_clear(of(img));
	image_fini(img);
	free(img);
}

static const struct image_ops gzip_ops = {
	.name = "gzip",
	.read_at = gzip_read_at,
	.stream_at = gzip_stream_at,
	.unit_at = gzip_unit_at,
	.doubt_at = gzip_doubt_at,
	.prove = gzip_prove,
	.final_size = gzip_final_size,
	.report = gzip_report,
	.interrupt = gzip_interrupt,
	.destroy = gzip_destroy,
};

/* BGZF, SAM specification 4.1: every member says in a field of its header how long it is; the last
 * one is empty. */
static bool is_bgzf(const uint8_t *p, size_t n)
{
	return n >= 16 && p[3] & 4 && load_le16(p + 10) >= 6 && p[12] == 'B' && p[13] == 'C' &&
	       load_le16(p + 14) == 2;
}

/* The first decoded bytes; all of them when there are no more: *ret_n is less than HEAD_LEN. */
static int decode_head(struct gzip_image *g, uint8_t *head, struct gzip_hints *hints, struct err *e)
{
	struct gzip_run *run;
	const uint8_t *buf = NULL;
	size_t n = 1;
	int r = gzip_run_open(&g->src, 0, &run, e);

	if (r < 0) {
		return r;
	}
	while (r == 0 && n > 0 && hints->head_len < HEAD_LEN) {
		r = gzip_run_next(run, &buf, &n, e);
		if (r == 0 && n > 0) {
			size_t k = min_u64(n, HEAD_LEN - hints->head_len);

			memcpy(head + hints->head_len, buf, k);
			hints->head_len += k;
		}
	}
	hints->decoded = gzip_run_offset(run);
	hints->consumed = gzip_run_consumed(run);
	gzip_run_close(run);
	return r;
}

static int guess_size(struct gzip_image *g, uint64_t *ret, struct err *e)
{
	struct image *below = g->img.below;
	struct gzip_hints hints = { .file_size = below->size };
	CLEANUP_FREE uint8_t *head = malloc(HEAD_LEN);
	uint8_t edge[16];
	int r;

	if (!head) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	hints.head = head;
	r = decode_head(g, head, &hints, e);
	if (r < 0 || gzip_index_total(g->src.index, ret)) {
		return r;
	}
	r = image_read_at(below, edge, sizeof(edge), 0, e);
	hints.many = r == 0 && is_bgzf(edge, sizeof(edge));
	if (r == 0) {
		r = image_read_at(below, edge, 4, below->size - 4, e);
	}
	if (r == 0) {
		hints.isize = load_le32(edge);
		*ret = gzip_guess(&hints);
	}
	return r;
}

static int find_size(struct gzip_image *g, uint64_t said, struct err *e)
{
	uint64_t bound = gzip_guess_bound(g->img.below->size);
	uint64_t size = said;
	int r = 0;

	if (!gzip_index_total(g->src.index, &size) && said == 0) {
		r = guess_size(g, &size, e);
	}
	if (r < 0) {
		return r;
	}
	g->img.size = size;
	g->img.bound = size;
	if (!gzip_index_total(g->src.index, &size)) {
		g->img.size = min_u64(size, bound);
		g->img.bound = bound;
		g->img.flags |= IMAGE_SIZE_PROVISIONAL;
	}
	return 0;
}

static int init_parts(
	struct gzip_image *g, struct image *below, const struct format_opts *opts, struct err *e)
{
	const unsigned int limits[WORKQ_PRIORITIES] = { 0 };
	/* An index of other bytes must never be taken for one of these. */
	struct blobs *blobs = below->flags & IMAGE_UNVERSIONED ? NULL : opts->blobs;

	if (image_init_decoder(&g->img, &gzip_ops, below, 0, "gzip") < 0 ||
		gzip_index_new(below->size, below->id, blobs, &g->src.index) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	g->src.below = below;
	return workq_new("gzip-save", 1, limits, &g->saver, e);
}

int gzip_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct gzip_image *g;
	int r;

	if (below->size < MEMBER_MIN) {
		return err_set(e, -EBADMSG, "gzip: %" PRIu64 " bytes are too few for a gzip file",
			below->size);
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = init_parts(g, below, opts, e);
	if (r == 0) {
		r = find_size(g, opts->size, e);
	}
	if (r < 0) {
		gzip_clear(g);
		free(g->img.id);
		free(g);
		return r;
	}
	*ret = &g->img;
	return 0;
}
