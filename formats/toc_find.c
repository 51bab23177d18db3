/* SPDX-License-Identifier: Apache-2.0 */
/* Where tables of contents are, and whether they are the right ones. */
#include "formats/toc_find.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/tar_header.h"

#define ESTARGZ_DIGEST "containerd.io/snapshot/stargz/toc.digest"
#define ESTARGZ_NAME   "stargz.index.json"
#define FOOTER         51U /* an empty gzip member whose extra field says where the table is */

/* As containers/storage calls them now, and as it did until 2022. */
static const char *const chunked_prefixes[] = { "io.github.containers.zstd-chunked.",
	"io.containers.zstd-chunked." };

/* A text in memory. */
struct text {
	char *p; /* owned */
	size_t len;
};

static const char *annotation(const struct layer_opts *opts, const char *prefix, const char *name)
{
	char key[128];

	snprintf(key, sizeof(key), "%s%s", prefix, name);
	return opts->annotation ? opts->annotation(opts->ctx, key) : NULL;
}

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "the layer's table of contents: %s", what);
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int read_part(struct image *blob, uint64_t off, uint64_t len, uint8_t **ret, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	int r;

	if (len > TOC_MAX || !range_within(off, len, blob->size)) {
		return broken(e, "it is not within the layer, or too large");
	}
	buf = malloc(len ? len : 1);
	if (!buf) {
		return no_memory(e);
	}
	r = image_read_at(blob, buf, len, off, e);
	if (r == 0) {
		*ret = TAKE_PTR(buf);
	}
	return r;
}

/* Whether @buf has the digest @want, which is "sha256:HEX". */
static int check(
	const struct layer_opts *opts, const void *buf, size_t len, const char *want, struct err *e)
{
	uint8_t wanted[TOC_DIGEST];
	uint8_t got[TOC_DIGEST];

	if (!toc_digest(want, wanted)) {
		return err_set(
			e, -ENOTSUP, "the digest of the layer's table of contents is no SHA-256");
	}
	if (!opts->sha256(buf, len, got)) {
		return err_set(e, -EIO, "SHA-256 cannot be computed");
	}
	if (memcmp(wanted, got, TOC_DIGEST) != 0) {
		return err_set(e, -ENOKEY,
			"the layer's table of contents does not have the digest that the manifest "
			"says: the layer is damaged");
	}
	return 0;
}

/* --- eStargz --- */

static int footer_offset(const uint8_t footer[FOOTER], uint64_t *ret)
{
	char digits[17];
	char *end;

	if (memcmp(footer, "\x1f\x8b\x08\x04", 4) != 0 ||
		memcmp(footer + 10, "\x1a\0SG\x16\0", 6) != 0 ||
		memcmp(footer + 32, "STARGZ", 6) != 0) {
		return -ENOENT;
	}
	memcpy(digits, footer + 16, 16);
	digits[16] = '\0';
	*ret = strtoull(digits, &end, 16);
	return end == digits + 16 && digits[0] != '-' && digits[0] != '+' ? 0 : -ENOENT;
}

/* Appends what *z makes of its input to @out, member by member. */
static int inflate_all(z_stream *z, struct text *out, struct err *e)
{
	size_t room = 0;

	while (z->avail_in > 0) {
		int r;

		if (out->len == room) {
			char *more;

			room = room ? 2 * room : KIB(256);
			more = room > 2 * TOC_MAX ? NULL : realloc(out->p, room);
			if (!more) {
				return room > 2 * TOC_MAX ? broken(e, "it is too large")
							  : no_memory(e);
			}
			out->p = more;
		}
		z->next_out = (uint8_t *)out->p + out->len;
		z->avail_out = (uInt)(room - out->len);
		r = inflate(z, Z_NO_FLUSH);
		out->len = room - z->avail_out;
		if (r == Z_STREAM_END) {
			r = inflateReset(z);
		}
		if (r != Z_OK && !(r == Z_BUF_ERROR && z->avail_out == 0)) {
			return broken(e, "it is no gzip stream");
		}
	}
	return 0;
}

static int gunzip(uint8_t *buf, size_t len, struct text *ret, struct err *e)
{
	z_stream z = { .next_in = buf, .avail_in = (uInt)len };
	int r;

	if (inflateInit2(&z, 15 + 16) != Z_OK) {
		return no_memory(e);
	}
	r = inflate_all(&z, ret, e);
	inflateEnd(&z);
	return r;
}

/* The table is the file of a tar archive of its own. */
static int find_json(const struct text *tar, size_t *ret_len, struct err *e)
{
	struct tar_header h;

	if (tar->len < TAR_BLOCK || tar_header_parse((const uint8_t *)tar->p, &h, NULL) < 0 ||
		strcmp(h.name, ESTARGZ_NAME) != 0 || h.size > tar->len - TAR_BLOCK) {
		return broken(e, "it is not where the layer says");
	}
	*ret_len = h.size;
	return 0;
}

static int find_estargz(struct image *blob, const struct layer_opts *opts, const char *digest,
	struct toc *ret, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	uint8_t footer[FOOTER];
	struct text tar = { NULL, 0 };
	uint64_t at = 0;
	uint64_t end = blob->size - min_u64(blob->size, FOOTER);
	size_t len = 0;
	int r = blob->size > FOOTER ? image_read_at(blob, footer, FOOTER, end, e) : -ENOENT;

	if (r == 0) {
		r = footer_offset(footer, &at);
	}
	if (r == -ENOENT) {
		return err_set(e, r, "the layer has no table of contents at its end");
	}
	if (r == 0) {
		r = at <= end ? read_part(blob, at, end - at, &buf, e)
			      : broken(e, "it is not within the layer");
	}
	if (r == 0) {
		r = gunzip(buf, end - at, &tar, e);
	}
	if (r == 0) {
		r = find_json(&tar, &len, e);
	}
	if (r == 0) {
		r = check(opts, tar.p + TAR_BLOCK, len, digest, e);
	}
	if (r == 0) {
		r = toc_parse(tar.p + TAR_BLOCK, len, at, ret, e);
	}
	free(tar.p);
	return r;
}

/* --- zstd:chunked --- */

/* "OFFSET:STORED:SIZE:1" */
static int chunked_position(const char *text, uint64_t ret[3], struct err *e)
{
	unsigned int type = 0;
	char junk;

	/* NOLINTNEXTLINE(cert-err34-c): what overflows cannot be within the layer */
	if (sscanf(text, "%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%u%c", &ret[0], &ret[1], &ret[2],
		    &type, &junk) != 4) {
		return broken(e, "the manifest does not say where it is");
	}
	if (type != 1) {
		return err_set(e, -ENOTSUP,
			"the layer's table of contents is of kind %u, which is not supported",
			type);
	}
	return 0;
}

static int find_chunked(struct image *blob, const struct layer_opts *opts, const char *position,
	const char *digest, struct toc *ret, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	CLEANUP_FREE char *json = NULL;
	uint64_t where[3] = { 0 };
	size_t n;
	int r = chunked_position(position, where, e);

	if (r == 0 && where[2] > TOC_MAX) {
		return broken(e, "it is too large");
	}
	if (r == 0) {
		r = read_part(blob, where[0], where[1], &buf, e);
	}
	if (r == 0) {
		r = check(opts, buf, where[1], digest, e);
	}
	if (r < 0) {
		return r;
	}
	json = malloc(where[2] + 1);
	if (!json) {
		return no_memory(e);
	}
	n = ZSTD_decompress(json, where[2], buf, where[1]);
	if (ZSTD_isError(n) || n != where[2]) {
		return broken(e, "it cannot be decompressed");
	}
	return toc_parse(json, n, where[0] > 8 ? where[0] - 8 : 0, ret, e);
}

bool layer_has_toc(const struct layer_opts *opts)
{
	bool has = annotation(opts, "", ESTARGZ_DIGEST) != NULL;

	for (size_t i = 0; i < ARRAY_SIZE(chunked_prefixes); i++) {
		has = has || annotation(opts, chunked_prefixes[i], "manifest-checksum");
	}
	return has;
}

/* The digest was checked: it is 64 digits behind a colon. */
static void name_table(struct toc *toc, const char *digest)
{
	snprintf(toc->id, sizeof(toc->id), "%s", strchr(digest, ':') + 1);
}

int toc_find(struct image *blob, const struct layer_opts *opts, struct toc *ret,
	enum toc_kind *ret_kind, struct err *e)
{
	const char *digest = annotation(opts, "", ESTARGZ_DIGEST);
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(chunked_prefixes); i++) {
		const char *position = annotation(opts, chunked_prefixes[i], "manifest-position");
		const char *sum = annotation(opts, chunked_prefixes[i], "manifest-checksum");

		if (position && sum) {
			r = find_chunked(blob, opts, position, sum, ret, e);
			if (r == 0) {
				*ret_kind = TOC_ZSTD_CHUNKED;
				name_table(ret, sum);
			}
			return r;
		}
	}
	if (!digest) {
		return err_set(e, -ENOENT, "the manifest says nothing of a table of contents");
	}
	r = find_estargz(blob, opts, digest, ret, e);
	if (r == 0) {
		*ret_kind = TOC_ESTARGZ;
		name_table(ret, digest);
	}
	return r;
}
