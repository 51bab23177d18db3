/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the active sequence in the ring, and lays its sectors over the file. */
#include "formats/vhdx_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/report.h"

#define SECTOR      4096U
#define ENTRY_HEAD  64U
#define DESCRIPTOR  32U
#define DATA_OFFSET 8U    /* of the bytes of a data sector that are its own */
#define DATA_LENGTH 4084U /* the ones around them are in the descriptor */

/* A hostile log may let every sector claim to begin an entry of full length. An honest one is
 * summed up twice at most. */
#define SUM_TIMES 4U

/* What one descriptor changes. */
struct patch {
	uint64_t off; /* of the file */
	uint64_t len;
	const uint8_t *descriptor; /* in `ring` */
	const uint8_t *data;       /* its sector in `ring`; NULL: zeros */
};

struct log {
	struct image img; /* `below` is the file, borrowed at first */
	uint8_t *ring;    /* the whole log */
	uint64_t length;
	const struct vhdx_header *header; /* while it is opened */
	uint64_t summed;                  /* bytes */
	struct patch *patches;            /* later ones win */
	size_t count;
	uint64_t entries;
};

/* One entry of the ring that was found valid. */
struct entry {
	uint64_t at;
	uint64_t length;
	uint64_t sequence;
	uint64_t tail;
	uint64_t flushed; /* the file was at least so long */
	uint64_t last;    /* and is at least so long when it is replayed */
};

/* Entries that follow each other. */
struct sequence {
	uint64_t start;
	uint64_t end;
	uint64_t count;
	struct entry head; /* the last one */
};

static const uint8_t *sector_of(const struct log *g, uint64_t at, uint64_t n)
{
	return g->ring + (at + n * SECTOR) % g->length;
}

static const uint8_t *descriptor_of(const struct log *g, uint64_t at, uint64_t n)
{
	uint64_t off = ENTRY_HEAD + n * DESCRIPTOR;

	return sector_of(g, at, off / SECTOR) + off % SECTOR;
}

static uint64_t descriptor_sectors(uint64_t count)
{
	return div_round_up(ENTRY_HEAD + count * DESCRIPTOR, SECTOR);
}

/* 0, or -EBADMSG when too much was summed up already. */
static int sum_entry(struct log *g, uint64_t at, uint64_t length, uint32_t *ret, struct err *e)
{
	uint32_t crc = UINT32_MAX;
	uint8_t first[SECTOR];

	g->summed += length;
	if (g->summed > SUM_TIMES * g->length) {
		return err_set(e, -EBADMSG, "vhdx: the log is not one: its entries overlap");
	}
	memcpy(first, sector_of(g, at, 0), SECTOR);
	memset(first + 4, 0, 4);
	crc = vhdx_header_crc_more(crc, first, SECTOR);
	for (uint64_t i = 1; i < length / SECTOR; i++) {
		crc = vhdx_header_crc_more(crc, sector_of(g, at, i), SECTOR);
	}
	*ret = ~crc;
	return 0;
}

static bool descriptor_is_valid(const uint8_t *d, uint64_t sequence)
{
	if (load_le64(d + 24) != sequence || load_le64(d + 16) % SECTOR != 0) {
		return false;
	}
	return memcmp(d, "desc", 4) == 0 ||
	       (memcmp(d, "zero", 4) == 0 && load_le64(d + 8) % SECTOR == 0);
}

static bool data_is_valid(const uint8_t *sector, uint64_t sequence)
{
	return memcmp(sector, "data", 4) == 0 && load_le32(sector + 4) == sequence >> 32 &&
	       load_le32(sector + SECTOR - 4) == (uint32_t)sequence;
}

/* Whether descriptors and data of an entry whose sum is right are what they should be. */
static bool parts_are_valid(const struct log *g, const struct entry *x)
{
	uint64_t count = load_le32(g->ring + x->at + 24);
	uint64_t sectors = descriptor_sectors(count);

	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *d = descriptor_of(g, x->at, i);

		if (!descriptor_is_valid(d, x->sequence)) {
			return false;
		}
		if (memcmp(d, "desc", 4) == 0) {
			if (sectors >= x->length / SECTOR ||
				!data_is_valid(sector_of(g, x->at, sectors), x->sequence)) {
				return false;
			}
			sectors++;
		}
	}
	return true;
}

/* 1: there is a valid entry at @at; 0: there is none; negative: give up. */
static int find_entry(struct log *g, uint64_t at, struct entry *ret, struct err *e)
{
	const uint8_t *b = g->ring + at;
	struct entry x = {
		.at = at,
		.length = load_le32(b + 8),
		.tail = load_le32(b + 12),
		.sequence = load_le64(b + 16),
		.flushed = load_le64(b + 48),
		.last = load_le64(b + 56),
	};
	uint64_t count = load_le32(b + 24);
	uint32_t sum;
	int r;

	if (memcmp(b, "loge", 4) != 0 || x.length == 0 || x.length % SECTOR != 0 ||
		x.length > g->length || x.sequence == 0 || x.tail % SECTOR != 0 ||
		x.tail >= g->length || descriptor_sectors(count) * SECTOR > x.length ||
		memcmp(b + 32, g->header->log_guid, VHDX_GUID) != 0) {
		return 0;
	}
	r = sum_entry(g, at, x.length, &sum, e);
	if (r < 0) {
		return r;
	}
	if (sum != load_le32(b + 4) || !parts_are_valid(g, &x)) {
		return 0;
	}
	*ret = x;
	return 1;
}

/* All entries from @start on that follow each other. */
static int follow(struct log *g, uint64_t start, struct sequence *ret, struct err *e)
{
	struct sequence s = { .start = start, .end = start };
	uint64_t total = 0;

	while (total < g->length) {
		struct entry x;
		int r = find_entry(g, s.end, &x, e);

		if (r < 0) {
			return r;
		}
		if (r == 0 || (s.count > 0 && x.sequence != s.head.sequence + 1) ||
			x.length > g->length - total) {
			break;
		}
		total += x.length;
		s.count++;
		s.head = x;
		s.end = (s.end + x.length) % g->length;
	}
	*ret = s;
	return 0;
}

/* The oldest entry that still counts, as the newest one says, must be among them. */
static bool holds_tail(const struct log *g, const struct sequence *s)
{
	uint64_t at = s->start;

	for (uint64_t i = 0; i < s->count; i++) {
		if (at == s->head.tail) {
			return true;
		}
		at = (at + load_le32(g->ring + at + 8)) % g->length;
	}
	return false;
}

/* Section 2.3.3, steps 1 to 7. */
static int find_active(struct log *g, struct sequence *ret, struct err *e)
{
	struct sequence best = { 0 };
	uint64_t at = 0;
	uint64_t before;

	do {
		struct sequence s;
		int r = follow(g, at, &s, e);

		if (r < 0) {
			return r;
		}
		before = at;
		if (s.count > 0 && holds_tail(g, &s)) {
			if (s.head.sequence > best.head.sequence) {
				best = s;
			}
			at = s.end;
		} else {
			at = (at + SECTOR) % g->length;
		}
	} while (at > before);
	if (best.count == 0) {
		return err_set(e, -EBADMSG,
			"vhdx: the image was not closed, and its log cannot be replayed: there is "
			"no valid entry in it");
	}
	*ret = best;
	return 0;
}

static int add_patch(struct log *g, const uint8_t *d, const uint8_t *data, struct err *e)
{
	struct patch p = {
		.off = load_le64(d + 16),
		.len = data ? SECTOR : load_le64(d + 8),
		.descriptor = d,
		.data = data,
	};

	if (p.len == 0) {
		return 0;
	}
	if (!range_within(p.off, p.len, INT64_MAX)) {
		return err_set(e, -EBADMSG,
			"vhdx: the log writes beyond what a file can hold (%" PRIu64 ")", p.off);
	}
	if (g->count == VHDX_LOG_PATCHES_MAX) {
		return err_set(e, -ENOTSUP, "vhdx: the log changes too much");
	}
	if (g->count % 64 == 0) {
		void *more = realloc(g->patches, (g->count + 64) * sizeof(*g->patches));

		if (!more) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		g->patches = more;
	}
	g->patches[g->count++] = p;
	if (data) {
		g->img.size = max_u64(g->img.size, p.off + p.len);
	}
	return 0;
}

static int replay_entry(struct log *g, const struct entry *x, struct err *e)
{
	uint64_t count = load_le32(g->ring + x->at + 24);
	uint64_t sectors = descriptor_sectors(count);
	int r = 0;

	if (x->flushed > g->img.below->size) {
		return err_set(e, -EBADMSG,
			"the file is truncated: its log says that it had %" PRIu64 " bytes",
			x->flushed);
	}
	for (uint64_t i = 0; r == 0 && i < count; i++) {
		const uint8_t *d = descriptor_of(g, x->at, i);
		bool data = memcmp(d, "desc", 4) == 0;

		r = add_patch(g, d, data ? sector_of(g, x->at, sectors) : NULL, e);
		sectors += data;
	}
	if (x->last <= INT64_MAX) {
		g->img.size = max_u64(g->img.size, x->last);
	}
	g->entries++;
	return r;
}

/* From the tail to the head. */
static int replay(struct log *g, const struct sequence *s, struct err *e)
{
	uint64_t at = s->head.tail;
	struct entry x;
	int r;

	g->summed = 0;
	do {
		r = find_entry(g, at, &x, e);
		if (r <= 0) {
			return r < 0 ? r : err_set(e, -EBADMSG, "vhdx: the log is broken");
		}
		r = replay_entry(g, &x, e);
		at = (at + x.length) % g->length;
	} while (r == 0 && x.at != s->head.at);
	return r;
}

/* The part of @p's bytes that [off, off + len) has goes to @to, which stands for @off. */
static void apply(const struct patch *p, uint8_t *to, uint64_t off, uint64_t len)
{
	uint64_t start = max_u64(p->off, off);
	uint64_t end = min_u64(p->off + p->len, off + len);
	uint8_t sector[SECTOR];

	if (start >= end) {
		return;
	}
	if (!p->data) {
		memset(to + (start - off), 0, end - start);
		return;
	}
	memcpy(sector, p->descriptor + 8, 8);
	memcpy(sector + DATA_OFFSET, p->data + DATA_OFFSET, DATA_LENGTH);
	memcpy(sector + SECTOR - 4, p->descriptor + 4, 4);
	memcpy(to + (start - off), sector + (start - p->off), end - start);
}

static int log_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct log *g = (struct log *)img;
	uint64_t have = off < img->below->size ? min_u64(len, img->below->size - off) : 0;
	int r = have > 0 ? image_read_at(img->below, buf, have, off, e) : 0;

	if (r < 0) {
		return r;
	}
	memset((uint8_t *)buf + have, 0, len - have);
	for (size_t i = 0; i < g->count; i++) {
		apply(&g->patches[i], buf, off, len);
	}
	return 0;
}

/* What was changed counts as data. */
static int log_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct log *g = (struct log *)img;
	struct extent x = {
		.offset = off,
		.length = img->size - off,
		.zero = true,
		.host = EXTENT_NO_HOST,
	};
	int r = off < img->below->size ? image_extent_at(img->below, off, &x, e) : 0;

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < g->count; i++) {
		const struct patch *p = &g->patches[i];

		if (off >= p->off && off - p->off < p->len) {
			x = (struct extent){
				.offset = off,
				.length = p->off + p->len - off,
				.allocated = true,
				.host = EXTENT_NO_HOST,
			};
			break;
		}
		if (p->off > off) {
			x.length = min_u64(x.length, p->off - off);
		}
	}
	*ret = x;
	return 0;
}

static void log_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static void log_report(struct image *img, struct report *r)
{
	struct log *g = (struct log *)img;

	report_u64(r, "log_entries", g->entries);
	report_u64(r, "log_changes", g->count);
}

static void log_free(struct log *g)
{
	free(g->patches);
	free(g->ring);
	free(g);
}

static void log_destroy(struct image *img)
{
	image_fini(img);
	log_free((struct log *)img);
}

static const struct image_ops log_ops = {
	.name = "vhdx-log",
	.read_at = log_read_at,
	.extent_at = log_extent_at,
	.prefetch = log_prefetch,
	.report = log_report,
	.destroy = log_destroy,
};

static int check_place(const struct image *file, const struct vhdx_header *h, struct err *e)
{
	if (h->log_length > VHDX_LOG_MAX) {
		return err_set(e, -ENOTSUP,
			"vhdx: the image was not closed, and a log of %" PRIu64
			" bytes is too large to be replayed",
			h->log_length);
	}
	if (h->log_length == 0 || h->log_length % MIB(1) != 0 || h->log_offset % MIB(1) != 0 ||
		h->log_offset < VHDX_HEADERS_SIZE ||
		!range_within(h->log_offset, h->log_length, file->size)) {
		return err_set(e, -EBADMSG,
			"vhdx: the image was not closed, and its log lies beyond the end of the "
			"file or in the header (%" PRIu64 ")",
			h->log_offset);
	}
	return 0;
}

static int load(struct log *g, struct image *file, const struct vhdx_header *h, struct err *e)
{
	struct sequence active = { 0 };
	int r;

	g->header = h;
	g->length = h->log_length;
	g->ring = malloc(g->length);
	if (!g->ring) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(file, g->ring, g->length, h->log_offset, e);
	if (r == 0) {
		r = find_active(g, &active, e);
	}
	if (r == 0) {
		r = replay(g, &active, e);
	}
	g->header = NULL;
	return r;
}

int vhdx_log_open(
	struct image *file, const struct vhdx_header *h, struct image **ret, struct err *e)
{
	struct log *g;
	int r = check_place(file, h, e);

	if (r < 0) {
		return r;
	}
	g = calloc(1, sizeof(*g));
	if (!g || image_init(&g->img, &log_ops, file, file->size, file->id) < 0) {
		free(g);
		return err_set(e, -ENOMEM, "out of memory");
	}
	g->img.borrows_below = true;
	g->img.flags = file->flags & (IMAGE_LOCAL | IMAGE_UNVERSIONED);
	r = load(g, file, h, e);
	if (r < 0) {
		image_close(&g->img);
		return r;
	}
	g->img.bound = g->img.size;
	*ret = &g->img;
	return 0;
}
