/* SPDX-License-Identifier: Apache-2.0 */
/* Three ways to the same list of frames. None trusts what it reads. */
#include "formats/zst_seek.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/feed.h"
#include "formats/zst_frame.h"

/* The table: a skippable frame's header, entries, and this behind them: how many entries, a byte
 * of flags, a magic number. */
#define FOOTER_SIZE  9U
#define FOOTER_MAGIC 0x8f92eab1U
#define TABLE_MAGIC  0x184d2a5eU
#define HAS_SUMS     0x80U
#define RESERVED     0x7cU
#define SKIP_HEAD    8U

/* A walk reads at most so many headers. */
#define WALK_MAX (1U << 22)

#define RECORD "zstd-frames"
/* magic, CRC-32 of everything behind it, 4 unused bytes, size of the file, marks; then the marks
 * and the end, offsets in the file and here. Little-endian. */
#define RECORD_HEAD 32U
#define RECORD_MARK 16U

static int bad_table(uint64_t off, const char *why, struct err *e)
{
	return err_set(
		e, -EBADMSG, "zstd: the seek table at offset %" PRIu64 " is corrupt: %s", off, why);
}

static int read_entries(struct feed *feed, struct zst_seek *seek, struct err *e)
{
	size_t size = seek->sums ? 12 : 8;
	uint64_t in = 0;

	for (size_t i = 0; i < seek->count; i++) {
		struct zst_entry *entry = &seek->entries[i];
		const uint8_t *p;
		int r = feed_need(feed, size, &p, e);

		if (r < 0) {
			return r;
		}
		entry->in = load_le32(p);
		entry->out = load_le32(p + 4);
		entry->sum = seek->sums ? load_le32(p + 8) : 0;
		feed_take(feed, size);
		if (entry->in < SKIP_HEAD || entry->out / ZST_FRAME_EXPANSION > entry->in) {
			return bad_table(seek->end, "a frame of impossible size", e);
		}
		in += entry->in;
	}
	return in == seek->end ? 0 : bad_table(seek->end, "its frames do not fill the file", e);
}

static int read_table(struct image *img, struct zst_seek *seek, struct err *e)
{
	struct feed *feed;
	int r;

	seek->entries = malloc(seek->count * sizeof(*seek->entries));
	if (!seek->entries) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = feed_open(img, seek->end + SKIP_HEAD, img->size - FOOTER_SIZE, &feed, e);
	if (r == 0) {
		r = read_entries(feed, seek, e);
		feed_close(feed);
	}
	if (r < 0) {
		free(seek->entries);
	}
	return r;
}

int zst_seek_read(struct image *img, struct zst_seek *ret, struct err *e)
{
	struct zst_seek seek = { .entries = NULL };
	uint8_t footer[FOOTER_SIZE];
	uint8_t head[SKIP_HEAD];
	uint64_t size;
	int r;

	if (img->size < SKIP_HEAD + FOOTER_SIZE) {
		*ret = seek;
		return 0;
	}
	r = image_read_at(img, footer, FOOTER_SIZE, img->size - FOOTER_SIZE, e);
	if (r < 0) {
		return r;
	}
	seek.count = load_le32(footer);
	seek.sums = footer[4] & HAS_SUMS;
	size = SKIP_HEAD + (uint64_t)seek.count * (seek.sums ? 12 : 8) + FOOTER_SIZE;
	if (load_le32(footer + 5) != FOOTER_MAGIC || seek.count == 0 || size > img->size) {
		*ret = (struct zst_seek){ .entries = NULL };
		return 0;
	}
	seek.end = img->size - size;
	r = image_read_at(img, head, SKIP_HEAD, seek.end, e);
	if (r < 0) {
		return r;
	}
	if (load_le32(head) != TABLE_MAGIC || load_le32(head + 4) != size - SKIP_HEAD) {
		*ret = (struct zst_seek){ .entries = NULL };
		return 0;
	}
	if (footer[4] & RESERVED) {
		return bad_table(seek.end, "it sets a reserved bit", e);
	}
	if (seek.count > ZST_SEEK_FRAMES_MAX) {
		return err_set(e, -ENOTSUP, "zstd: more than %u frames", ZST_SEEK_FRAMES_MAX);
	}
	r = read_table(img, &seek, e);
	if (r == 0) {
		*ret = seek;
	}
	return r;
}

static const uint8_t record_magic[] = { 'L', 'Z', 'D', 'Z', 'S', 'T', 'D', '1' };

struct walk {
	struct image *img;
	uint64_t off;
	uint64_t out;
	unsigned int headers;
	bool unknown; /* this way nobody learns it */
};

static int ends_early(const struct walk *w, struct err *e)
{
	return err_set(e, -EBADMSG, "zstd: the file ends early, at offset %" PRIu64, w->img->size);
}

static int walk_read(struct walk *w, uint8_t *buf, size_t n, struct err *e)
{
	w->unknown = ++w->headers > WALK_MAX;
	return image_read_at(w->img, buf, n, w->off, e);
}

static int walk_on(struct walk *w, uint64_t n, struct err *e)
{
	if (n > w->img->size - w->off) {
		return ends_early(w, e);
	}
	w->off += n;
	return 0;
}

static int walk_blocks(struct walk *w, struct err *e)
{
	uint8_t head[ZST_FRAME_BLOCK_HEAD];
	bool last = false;

	while (!last && !w->unknown) {
		int r;

		if (w->img->size - w->off < sizeof(head)) {
			return ends_early(w, e);
		}
		r = walk_read(w, head, sizeof(head), e);
		if (r == 0) {
			r = walk_on(w, sizeof(head) + zst_frame_block(head, &last), e);
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int walk_frame(struct walk *w, struct decoded *d, struct err *e)
{
	uint8_t head[ZST_FRAME_HEAD_MAX];
	size_t n = min_u64(sizeof(head), w->img->size - w->off);
	uint64_t start = w->off;
	struct zst_frame f = { .skippable = false };
	int r = walk_read(w, head, n, e);

	if (r == 0) {
		r = zst_frame_parse(head, n, w->off, &f, e);
	}
	if (r == 0) {
		r = walk_on(w, f.len, e);
	}
	if (r < 0 || f.skippable) {
		return r;
	}
	if (f.content == UINT64_MAX) {
		w->unknown = true;
		return 0;
	}
	r = walk_blocks(w, e);
	if (r == 0 && !w->unknown) {
		r = walk_on(w, f.checksum ? 4 : 0, e);
	}
	if (r < 0 || w->unknown) {
		return r;
	}
	if (f.content / ZST_FRAME_EXPANSION > w->off - start) {
		return err_set(e, -EBADMSG,
			"zstd: the frame at offset %" PRIu64 " claims %" PRIu64 " bytes", start,
			f.content);
	}
	r = decoded_add(d, start, w->out, 0, e);
	w->out += f.content;
	return r;
}

int zst_seek_walk(struct decoded *d, bool *ret_done, struct err *e)
{
	struct walk w = { .img = d->img.below };
	int r = 0;

	while (r == 0 && !w.unknown && w.off < w.img->size) {
		r = walk_frame(&w, d, e);
	}
	if (r == 0 && w.unknown) {
		d->count = 0;
	} else if (r == 0) {
		r = decoded_finish(d, w.img->size, w.out, e);
	}
	*ret_done = r == 0 && !w.unknown;
	return r;
}

void zst_seek_save(struct blobs *blobs, uint64_t packed, const struct unit *marks, size_t count)
{
	size_t len = RECORD_HEAD + (count + 1) * RECORD_MARK;
	CLEANUP_FREE uint8_t *record = calloc(1, len);

	if (!record) {
		return;
	}
	memcpy(record, record_magic, sizeof(record_magic));
	store_le64(record + 16, packed);
	store_le64(record + 24, count);
	for (size_t i = 0; i <= count; i++) {
		store_le64(record + RECORD_HEAD + i * RECORD_MARK, marks[i].in);
		store_le64(record + RECORD_HEAD + i * RECORD_MARK + 8, marks[i].out);
	}
	store_le32(record + 8, (uint32_t)crc32_z(0, record + 12, len - 12));
	blobs_put(blobs, RECORD, record, len, NULL);
}

/* Whether it is a record of this file, and whole. */
static bool is_record(const uint8_t *record, size_t len, uint64_t packed)
{
	return len >= RECORD_HEAD + 2 * RECORD_MARK &&
	       memcmp(record, record_magic, sizeof(record_magic)) == 0 &&
	       load_le32(record + 8) == crc32_z(0, record + 12, len - 12) &&
	       load_le64(record + 16) == packed && (len - RECORD_HEAD) % RECORD_MARK == 0 &&
	       load_le64(record + 24) == (len - RECORD_HEAD) / RECORD_MARK - 1;
}

int zst_seek_load(struct decoded *d, struct blobs *blobs, bool *ret_done, struct err *e)
{
	CLEANUP_FREE void *record = NULL;
	uint64_t packed = d->img.below->size;
	struct unit last = { .in = 0 };
	size_t len;
	int r = 0;

	*ret_done = false;
	if (!blobs || blobs_get(blobs, RECORD, &record, &len, NULL) < 0 ||
		!is_record(record, len, packed)) {
		return 0;
	}
	for (size_t at = RECORD_HEAD; r == 0 && at < len; at += RECORD_MARK) {
		const uint8_t *p = (const uint8_t *)record + at;
		struct unit mark = { load_le64(p), load_le64(p + 8), 0 };

		if (mark.in < last.in || mark.in > packed || mark.out < last.out) {
			d->count = 0;
			return 0;
		}
		r = at + RECORD_MARK < len ? decoded_add(d, mark.in, mark.out, 0, e)
					   : decoded_finish(d, mark.in, mark.out, e);
		last = mark;
	}
	*ret_done = r == 0;
	return r;
}
