/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of zstd, decoded one by one, and what is learned on the way. */
#include "formats/zst.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/decoded.h"
#include "formats/zst_frame.h"
#include "formats/zst_seek.h"

#define WINDOW_LOG_MAX 27 /* ZST_FRAME_WINDOW_MAX */

/* So many skippable frames before the first other one are passed over to learn its size. */
#define SKIP_MAX 64U

struct zst {
	struct decoded d;
	struct blobs *blobs; /* NULL: nothing is kept */
	struct zst_seek seek;
	_Atomic bool saved;
};

/* Where frames begin, learned while the whole is decoded in order. */
struct marks {
	struct unit *v;
	size_t count;
	size_t room;
	bool failed; /* memory was out: they are not complete */
};

struct zst_cursor {
	struct cursor c;
	ZSTD_DCtx *ctx;
	bool begun;       /* the frame's header was read */
	uint64_t start;   /* of the frame, in the file */
	uint64_t said;    /* bytes that the frame decodes to; UINT64_MAX: nothing says */
	uint64_t content; /* bytes decoded of the frame */
	uint64_t total;   /* bytes decoded of the unit */
	size_t entry;     /* the frame's, where there is a table */
	XXH64_state_t *sum;
	struct marks marks;
};

static bool learns(const struct zst *z)
{
	return z->blobs && z->d.img.flags & IMAGE_SIZE_PROVISIONAL;
}

static int zst_start(struct decoded *d, const struct unit *unit, struct cursor **ret, struct err *e)
{
	struct zst_cursor *z = malloc(sizeof(*z));
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	XXH64_state_t *sum = XXH64_createState();

	(void)d;
	if (!z || !ctx || !sum ||
		ZSTD_isError(ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, WINDOW_LOG_MAX))) {
		XXH64_freeState(sum);
		ZSTD_freeDCtx(ctx);
		free(z);
		return err_set(e, -ENOMEM, "out of memory");
	}
	z->ctx = ctx;
	z->sum = sum;
	z->begun = false;
	z->total = 0;
	z->entry = unit->tag;
	z->marks = (struct marks){ .v = NULL };
	*ret = &z->c;
	return 0;
}

static void zst_end(struct cursor *c)
{
	struct zst_cursor *z = (struct zst_cursor *)c;

	XXH64_freeState(z->sum);
	ZSTD_freeDCtx(z->ctx);
	free(z->marks.v);
	free(z);
}

static struct zst *image_of(struct zst_cursor *z)
{
	return (struct zst *)z->c.image;
}

static int corrupt(const struct zst_cursor *z, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "zstd: the frame at offset %" PRIu64 " is corrupt: %s",
		z->start, what);
}

/* A frame begins here. Marks are as far from each other as units are. */
static void mark(struct zst_cursor *z)
{
	struct marks *m = &z->marks;

	if (!learns(image_of(z)) || m->failed) {
		return;
	}
	if (m->count > 0 && z->total - m->v[m->count - 1].out < DECODED_UNIT_MIN) {
		return;
	}
	/* one more is for the end */
	if (m->count + 1 >= m->room) {
		size_t room = m->room ? 2 * m->room : 16;
		struct unit *v = realloc(m->v, room * sizeof(*v));

		if (!v) {
			m->failed = true;
			return;
		}
		m->v = v;
		m->room = room;
	}
	m->v[m->count++] = (struct unit){ z->start, z->total, 0 };
}

/* The end of the file was reached, and all was right. */
static void remember(struct zst_cursor *z)
{
	struct zst *zstd = image_of(z);
	struct marks *m = &z->marks;

	if (!learns(zstd) || m->failed || m->count == 0 || atomic_exchange(&zstd->saved, true)) {
		return;
	}
	m->v[m->count] = (struct unit){ feed_offset(z->c.feed), z->total, 0 };
	zst_seek_save(zstd->blobs, zstd->d.img.below->size, m->v, m->count);
}

/* The frame ends where its entry in the table says, and decoded to what that says. */
static int check_entry(struct zst_cursor *z, bool skippable, struct err *e)
{
	const struct zst_seek *seek = &image_of(z)->seek;
	const struct zst_entry *entry;

	if (!seek->entries) {
		return 0;
	}
	if (z->entry >= seek->count) {
		return corrupt(z, "the seek table does not know it", e);
	}
	entry = &seek->entries[z->entry++];
	if (feed_offset(z->c.feed) - z->start != entry->in || z->content != entry->out) {
		return corrupt(z, "it is not as long as the seek table says", e);
	}
	if (seek->sums && !skippable && (uint32_t)XXH64_digest(z->sum) != entry->sum) {
		return corrupt(z, "it does not match its checksum in the seek table", e);
	}
	return 0;
}

/* What the table says counts where there is one: the frame is held to that. */
static uint64_t said_of(const struct zst_cursor *z, const struct zst_frame *f)
{
	const struct zst_seek *seek = &((const struct zst *)z->c.image)->seek;

	if (!seek->entries) {
		return f->content;
	}
	return z->entry < seek->count ? seek->entries[z->entry].out : 0;
}

static int begin_frame(struct zst_cursor *z, struct err *e)
{
	struct feed *feed = z->c.feed;
	size_t n = min_u64(ZST_FRAME_HEAD_MAX, feed_left(feed));
	struct zst_frame f = { .skippable = false };
	const uint8_t *head;
	int r = feed_need(feed, n, &head, e);

	z->start = feed_offset(feed);
	z->content = 0;
	if (r == 0) {
		r = zst_frame_parse(head, n, z->start, &f, e);
	}
	if (r < 0) {
		return r;
	}
	if (f.skippable) {
		r = feed_skip(feed, f.len, NULL);
		return r < 0 ? corrupt(z, "it ends early", e) : check_entry(z, true, e);
	}
	mark(z);
	z->said = said_of(z, &f);
	ZSTD_DCtx_reset(z->ctx, ZSTD_reset_session_only);
	XXH64_reset(z->sum, 0);
	z->begun = true;
	return 0;
}

static int explain(const struct zst_cursor *z, size_t code, struct err *e)
{
	if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return corrupt(z, ZSTD_getErrorName(code), e);
}

/* Decodes until the buffer is full or the frame ends. */
static int decode(struct zst_cursor *z, ZSTD_outBuffer *out, struct err *e)
{
	while (out->pos < out->size) {
		ZSTD_inBuffer in = { .pos = 0 };
		size_t before = out->pos;
		const uint8_t *p;
		size_t left;
		int r = feed_peek(z->c.feed, &p, &in.size, e);

		if (r < 0) {
			return r;
		}
		in.src = p;
		left = ZSTD_decompressStream(z->ctx, out, &in);
		feed_take(z->c.feed, in.pos);
		if (ZSTD_isError(left)) {
			return explain(z, left, e);
		}
		if (left == 0) {
			z->begun = false;
			return 0;
		}
		if (in.size == 0 && out->pos == before) {
			return err_set(e, -EBADMSG,
				"zstd: the frame at offset %" PRIu64
				" ends early, at offset %" PRIu64,
				z->start, feed_offset(z->c.feed));
		}
	}
	return 0;
}

static int step_frame(struct zst_cursor *z, size_t *ret_n, struct err *e)
{
	ZSTD_outBuffer out = { .pos = 0 };
	int r = cursor_room(&z->c, z->said, &out.size, e);

	if (r == 0) {
		out.dst = z->c.out;
		r = decode(z, &out, e);
	}
	if (r < 0) {
		return r;
	}
	z->content += out.pos;
	z->total += out.pos;
	if (z->content > z->said) {
		return corrupt(z,
			image_of(z)->seek.entries ? "it is not as long as the seek table says"
						  : "it is longer than its header says",
			e);
	}
	if (image_of(z)->seek.sums) {
		XXH64_update(z->sum, z->c.out, out.pos);
	}
	*ret_n = out.pos;
	return z->begun ? 0 : check_entry(z, false, e);
}

static int zst_step(struct cursor *c, size_t *ret_n, struct err *e)
{
	struct zst_cursor *z = (struct zst_cursor *)c;
	size_t n = 0;

	while (n == 0) {
		int r;

		if (!z->begun && feed_left(c->feed) == 0) {
			remember(z);
			break;
		}
		r = z->begun ? step_frame(z, &n, e) : begin_frame(z, e);
		if (r < 0) {
			return r;
		}
	}
	*ret_n = n;
	return 0;
}

static const struct decoder_ops zst_decoder = {
	.start = zst_start,
	.step = zst_step,
	.end = zst_end,
};

static void zst_report(struct image *img, struct report *r)
{
	const struct zst *z = (const struct zst *)img;

	decoded_report(img, r);
	report_bool(r, "seek_table", z->seek.entries != NULL);
}

static void zst_destroy(struct image *img)
{
	struct zst *z = (struct zst *)img;

	decoded_fini(&z->d);
	free(z->seek.entries);
	free(z);
}

static const struct image_ops zst_ops = {
	.name = "zstd",
	.read_at = decoded_read_at,
	.stream_at = decoded_stream_at,
	.unit_at = decoded_unit_at,
	.prove = decoded_prove,
	.final_size = decoded_final_size,
	.report = zst_report,
	.interrupt = decoded_interrupt,
	.destroy = zst_destroy,
};

static int add_entries(struct zst *z, struct err *e)
{
	uint64_t in = 0;
	uint64_t out = 0;

	for (size_t i = 0; i < z->seek.count; i++) {
		int r = decoded_add(&z->d, in, out, i, e);

		if (r < 0) {
			return r;
		}
		in += z->seek.entries[i].in;
		out += z->seek.entries[i].out;
	}
	return decoded_finish(&z->d, in, out, e);
}

/* What the first frame with content says of its size; UINT64_MAX: nothing. */
static int first_content(struct image *below, uint64_t *ret, struct err *e)
{
	struct zst_frame f = { .skippable = true };
	uint64_t off = 0;

	*ret = UINT64_MAX;
	for (unsigned int i = 0; i < SKIP_MAX && f.skippable && off < below->size; i++) {
		uint8_t head[ZST_FRAME_HEAD_MAX];
		size_t n = min_u64(sizeof(head), below->size - off);
		int r = image_read_at(below, head, n, off, e);

		if (r == 0) {
			r = zst_frame_parse(head, n, off, &f, e);
		}
		if (r < 0) {
			return r;
		}
		if (f.len > below->size - off) {
			return err_set(e, -EBADMSG,
				"zstd: the frame at offset %" PRIu64 " ends early", off);
		}
		off += f.len;
	}
	/* an empty one says nothing of those behind it */
	*ret = f.skippable || f.content == 0 ? UINT64_MAX : f.content;
	return 0;
}

/* Nothing tells how many frames there are, and so, how long it is. */
static int assume(struct zst *z, uint64_t said, struct err *e)
{
	uint64_t packed = z->d.img.below->size;
	uint64_t bound;
	uint64_t size;
	int r = first_content(z->d.img.below, &size, e);

	if (r < 0) {
		return r;
	}
	if (!checked_mul(packed, ZST_FRAME_EXPANSION, &bound) || bound > INT64_MAX) {
		bound = INT64_MAX;
	}
	if (size != UINT64_MAX && size > bound) {
		return err_set(e, -EBADMSG,
			"zstd: the first frame claims %" PRIu64 " bytes in a file of %" PRIu64,
			size, packed);
	}
	if (said) {
		size = said;
	} else if (size == UINT64_MAX) {
		size = round_up(min_u64(packed, INT64_MAX / 8) * 4, MIB(1));
	}
	return decoded_finish_open(&z->d, min_u64(size, bound), bound, e);
}

/* The best that can be learned of the frames, and cheaply. */
static int find_frames(struct zst *z, uint64_t said, struct err *e)
{
	bool done = false;
	int r = zst_seek_read(z->d.img.below, &z->seek, e);

	if (r < 0) {
		return r;
	}
	if (z->seek.entries) {
		return add_entries(z, e);
	}
	r = zst_seek_load(&z->d, z->blobs, &done, e);
	if (r == 0 && !done && z->d.img.below->flags & IMAGE_LOCAL) {
		r = zst_seek_walk(&z->d, &done, e);
	}
	return r < 0 || done ? r : assume(z, said, e);
}

int zst_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct zst *z = calloc(1, sizeof(*z));
	int r;

	if (!z) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = decoded_init(&z->d, &zst_ops, &zst_decoder, below, e);
	if (r < 0) {
		free(z);
		return r;
	}
	z->blobs = opts->blobs;
	r = find_frames(z, opts->size, e);
	if (r < 0) {
		z->d.img.borrows_below = true;
		zst_destroy(&z->d.img);
		return r;
	}
	*ret = &z->d.img;
	return 0;
}
