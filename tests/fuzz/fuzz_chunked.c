/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a layer with a chunk in it whose digest is right: it decodes to all of its bytes,
 * the same each time, or is an error. An input: the kind (u8), how long the chunk is and how much
 * comes before it in its stream (u16 each, little-endian), and the stream. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/chunked.h"
#include "tests/fuzz/sparse.h"

#define HEAD 5U
#define MOST 65536U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool any_digest(const void *buf, size_t len, uint8_t ret[TOC_DIGEST])
{
	(void)buf;
	(void)len;
	memset(ret, 0, TOC_DIGEST);
	return true;
}

static int read_chunk(const struct toc *toc, const struct toc_file *file, enum toc_kind kind,
	struct image *blob, uint8_t *buf)
{
	const struct chunked_opts opts = {
		.kind = kind,
		.toc = toc,
		.file = file,
		.name = "file",
		.sha256 = any_digest,
	};
	struct image *img = NULL;
	struct err e = { 0 };
	int r = chunked_open(blob, &opts, &img, &e);

	assert(r == 0 && img->size == file->size);
	r = image_read_at(img, buf, file->size, 0, &e);
	assert(r == 0 || (r == -EBADMSG && e.code == r && e.text[0]));
	img->borrows_below = true;
	image_close(img);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t first[MOST];
	static uint8_t second[MOST];
	struct toc_chunk chunk = { 0 };
	struct toc_file file = { .count = 1 };
	const struct toc toc = { .chunks = &chunk, .chunk_count = 1 };
	struct image *blob;
	enum toc_kind kind;
	int again;
	int r;

	if (len <= HEAD) {
		return 0;
	}
	blob = sparse_image(data + HEAD, len - HEAD);
	kind = data[0] % 2 ? TOC_ZSTD_CHUNKED : TOC_ESTARGZ;
	chunk.size = max_u64(1, load_le16(data + 1));
	chunk.inner = load_le16(data + 3);
	chunk.stored = blob->size;
	file.size = chunk.size;
	if (blob->size > 0) {
		memset(first, 0x11, sizeof(first));
		memset(second, 0xee, sizeof(second));
		r = read_chunk(&toc, &file, kind, blob, first);
		again = read_chunk(&toc, &file, kind, blob, second);
		assert(again == r);
		assert(r < 0 || memcmp(first, second, chunk.size) == 0);
	}
	image_close(blob);
	return 0;
}
