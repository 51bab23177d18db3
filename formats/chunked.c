/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of a file become reads of chunks; decoding and checking them. */
#include "formats/chunked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/cleanup.h"
#include "core/report.h"
#include "formats/memo.h"

/* Decoded chunks are kept up to so much, or eight of them. */
#define MEMO_BYTES MIB(16)
/* What a stream decodes to before the chunk is thrown away in pieces of so much. */
#define SKIP 16384U

struct chunked {
	struct image img;
	enum toc_kind kind;
	struct toc_chunk *chunks;
	size_t count;
	uint64_t stored; /* bytes that are no zeros for free */
	char *name;
	struct memo *memo;
	bool (*sha256)(const void *buf, size_t len, uint8_t ret[TOC_DIGEST]);
	_Atomic uint64_t decoded; /* chunks */
};

static struct chunked *chunked_of(struct image *img)
{
	return (struct chunked *)img;
}

static size_t chunk_at(const struct chunked *c, uint64_t off)
{
	size_t low = 0;
	size_t high = c->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (c->chunks[middle].offset <= off) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return low;
}

/* --- decoding: @in to the @len bytes at @out, after @skip others. False: it does not. --- */

static bool gunzip(uint8_t *in, size_t in_len, uint64_t skip, uint8_t *out, size_t len)
{
	z_stream z = { .next_in = in, .avail_in = (uInt)in_len };
	uint8_t waste[SKIP];
	int r = Z_OK;

	if (inflateInit2(&z, 15 + 16) != Z_OK) {
		return false;
	}
	while (r == Z_OK && skip > 0) {
		z.next_out = waste;
		z.avail_out = (uInt)min_u64(skip, SKIP);
		skip -= z.avail_out;
		r = inflate(&z, Z_SYNC_FLUSH);
		skip += z.avail_out;
	}
	z.next_out = out;
	z.avail_out = (uInt)len;
	while (r == Z_OK && z.avail_out > 0) {
		r = inflate(&z, Z_SYNC_FLUSH);
	}
	inflateEnd(&z);
	return skip == 0 && z.avail_out == 0;
}

/* One step, which must make progress. */
static bool unzstd_step(ZSTD_DCtx *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in)
{
	size_t before = out->pos;
	size_t had = in->pos;
	size_t r = ZSTD_decompressStream(d, out, in);

	return !ZSTD_isError(r) && (out->pos > before || in->pos > had);
}

static bool unzstd(const uint8_t *in, size_t in_len, uint64_t skip, uint8_t *out, size_t len)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer from = { in, in_len, 0 };
	ZSTD_outBuffer to = { out, len, 0 };
	uint8_t waste[SKIP];
	bool good = d != NULL;

	while (good && skip > 0) {
		ZSTD_outBuffer away = { waste, min_u64(skip, SKIP), 0 };

		good = unzstd_step(d, &away, &from);
		skip -= away.pos;
	}
	while (good && to.pos < len) {
		good = unzstd_step(d, &to, &from);
	}
	ZSTD_freeDCtx(d);
	return good;
}

static int decode(struct chunked *c, const struct toc_chunk *chunk, uint8_t *out, struct err *e)
{
	uint8_t digest[TOC_DIGEST];
	CLEANUP_FREE uint8_t *in = malloc(chunk->stored);
	bool good;
	int r;

	if (!in) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(c->img.below, in, chunk->stored, chunk->host, e);
	if (r < 0) {
		return r;
	}
	good = c->kind == TOC_ESTARGZ ? gunzip(in, chunk->stored, chunk->inner, out, chunk->size)
				      : unzstd(in, chunk->stored, chunk->inner, out, chunk->size);
	if (!good) {
		image_distrust(c->img.below, chunk->host, chunk->stored);
		return err_set(e, -EBADMSG,
			"%s: the chunk at %" PRIu64 " of the layer cannot be decompressed", c->name,
			chunk->host);
	}
	if (!c->sha256(out, chunk->size, digest) ||
		memcmp(digest, chunk->digest, TOC_DIGEST) != 0) {
		image_distrust(c->img.below, chunk->host, chunk->stored);
		return err_set(e, -ENOKEY,
			"%s: the chunk at %" PRIu64
			" of the layer does not have the digest that the table of contents says: "
			"the layer is damaged",
			c->name, chunk->host);
	}
	atomic_fetch_add(&c->decoded, 1);
	return 0;
}

/* --- */

/* Copies [off, off + len) of the chunk @i. */
static int read_chunk(
	struct chunked *c, size_t i, void *buf, size_t len, uint64_t off, struct err *e)
{
	const struct toc_chunk *chunk = &c->chunks[i];
	struct memo_item *item = NULL;
	CLEANUP_FREE uint8_t *own = NULL;
	struct err why = { 0 };
	int r = 0;

	switch (memo_claim(c->memo, i, &item)) {
	case MEMO_MINE:
		r = decode(c, chunk, item->data, &why);
		if (r < 0) {
			memo_fail(c->memo, item, &why);
			return err_set(e, r, "%s", why.text);
		}
		memo_publish(c->memo, item, chunk->size);
		break;
	case MEMO_THEIRS:
		r = memo_wait(c->memo, item, e);
		break;
	case MEMO_READY:
		break;
	case MEMO_NOMEM:
		own = malloc(chunk->size);
		r = own ? decode(c, chunk, own, e) : err_set(e, -ENOMEM, "out of memory");
		break;
	}
	if (r < 0) {
		return r;
	}
	memcpy(buf, (own ? own : item->data) + off, len);
	if (!own) {
		memo_put(c->memo, item);
	}
	return 0;
}

/* Asks for the chunks behind the first, so that they come together. */
static void chunked_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct chunked *c = chunked_of(img);
	uint64_t end = off + len;
	uint64_t from = 0;
	uint64_t to = 0;

	for (size_t i = chunk_at(c, off); i < c->count && c->chunks[i].offset < end; i++) {
		const struct toc_chunk *chunk = &c->chunks[i];

		if (chunk->host == UINT64_MAX || memo_has(c->memo, i)) {
			continue;
		}
		if (chunk->host != to) {
			image_prefetch(img->below, from, to - from);
			from = chunk->host;
		}
		to = chunk->host + chunk->stored;
	}
	image_prefetch(img->below, from, to - from);
}

static int chunked_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct chunked *c = chunked_of(img);
	size_t i = chunk_at(c, off);
	uint8_t *out = buf;

	if (len > c->chunks[i].offset + c->chunks[i].size - off) {
		chunked_prefetch(img, off, len);
	}
	for (; len > 0; i++) {
		const struct toc_chunk *chunk = &c->chunks[i];
		size_t n = min_u64(len, chunk->offset + chunk->size - off);
		int r = 0;

		if (chunk->host == UINT64_MAX) {
			memset(out, 0, n);
		} else {
			r = read_chunk(c, i, out, n, off - chunk->offset, e);
		}
		if (r < 0) {
			return r;
		}
		out += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int chunked_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct chunked *c = chunked_of(img);
	size_t first = chunk_at(c, off);
	size_t i = first;
	bool zero = c->chunks[first].host == UINT64_MAX;

	(void)e;
	while (i < c->count && (c->chunks[i].host == UINT64_MAX) == zero) {
		i++;
	}
	*ret = (struct extent){
		.offset = off,
		.length = (i < c->count ? c->chunks[i].offset : img->size) - off,
		.zero = zero,
		.allocated = !zero,
		.compressed = !zero,
		.host = EXTENT_NO_HOST,
	};
	return 0;
}

static int chunked_unit_at(
	struct image *img, uint64_t off, uint64_t *ret_off, uint64_t *ret_len, struct err *e)
{
	const struct toc_chunk *chunk = &chunked_of(img)->chunks[chunk_at(chunked_of(img), off)];

	(void)e;
	*ret_off = chunk->offset;
	*ret_len = chunk->host == UINT64_MAX ? 0 : chunk->size;
	return 0;
}

static int chunked_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	(void)e;
	*ret = chunked_of(img)->stored;
	return 0;
}

static void chunked_report(struct image *img, struct report *r)
{
	struct chunked *c = chunked_of(img);

	report_text(r, "member", c->name);
	report_text(r, "compression", c->kind == TOC_ESTARGZ ? "eStargz" : "zstd:chunked");
	report_u64(r, "chunks", c->count);
	report_u64(r, "chunks_decoded", c->decoded);
}

static void chunked_free(struct chunked *c)
{
	memo_free(c->memo);
	free(c->chunks);
	free(c->name);
}

static void chunked_destroy(struct image *img)
{
	struct chunked *c = chunked_of(img);

	image_fini(img);
	chunked_free(c);
	free(c);
}

static const struct image_ops chunked_ops = {
	.name = "chunked",
	.read_at = chunked_read_at,
	.extent_at = chunked_extent_at,
	.prefetch = chunked_prefetch,
	.unit_at = chunked_unit_at,
	.allocated = chunked_allocated,
	.report = chunked_report,
	.destroy = chunked_destroy,
};

static int prepare(struct chunked *c, const struct chunked_opts *opts)
{
	size_t largest = 1;

	c->kind = opts->kind;
	c->sha256 = opts->sha256;
	c->count = opts->file->count;
	c->name = strdup(opts->name);
	c->chunks = malloc((c->count + 1) * sizeof(*c->chunks));
	if (!c->name || !c->chunks) {
		return -ENOMEM;
	}
	if (c->count > 0) {
		memcpy(c->chunks, opts->toc->chunks + opts->file->first,
			c->count * sizeof(*c->chunks));
	}
	for (size_t i = 0; i < c->count; i++) {
		if (c->chunks[i].host != UINT64_MAX) {
			largest = max_u64(largest, c->chunks[i].size);
			c->stored += c->chunks[i].size;
		}
	}
	return memo_new(largest, max_u64(MEMO_BYTES, 8 * largest), &c->memo);
}

int chunked_open(
	struct image *blob, const struct chunked_opts *opts, struct image **ret, struct err *e)
{
	struct chunked *c = calloc(1, sizeof(*c));
	CLEANUP_FREE char *id = NULL;

	/* Another table over the same layer may say that the file is made of other chunks. */
	if (!c || asprintf(&id, "%s+chunked:%s:%s", blob->id, opts->toc->id, opts->name) < 0) {
		id = NULL;
		free(c);
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (prepare(c, opts) < 0 ||
		image_init(&c->img, &chunked_ops, blob, opts->file->size, id) < 0) {
		chunked_free(c);
		free(c);
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->img.flags = blob->flags & (IMAGE_LOCAL | IMAGE_UNVERSIONED);
	*ret = &c->img;
	return 0;
}
