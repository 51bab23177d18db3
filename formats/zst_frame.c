/* SPDX-License-Identifier: Apache-2.0 */
/* Headers are small and read byte by byte: none of their fields is where a struct would have it. */
#include "formats/zst_frame.h"

#include <errno.h>
#include <inttypes.h>

#include "core/bytes.h"

#define MAGIC 0xfd2fb528U
/* Versions 0.1 to 0.7, which nobody ever called stable. */
#define LEGACY_FIRST 0xfd2fb522U
#define LEGACY_V1    0x1eb52ffdU

#define SINGLE_SEGMENT 0x20U
#define RESERVED       0x08U
#define CHECKSUM       0x04U

static int ends_early(size_t n, uint64_t off, struct err *e)
{
	return err_set(e, -EBADMSG, "zstd: the file ends early, at offset %" PRIu64, off + n);
}

static bool is_legacy(uint32_t magic)
{
	return magic == LEGACY_V1 || (magic >= LEGACY_FIRST && magic < MAGIC);
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
	uint64_t value = 0;

	while (n > 0) {
		value = value << 8 | p[--n];
	}
	return value;
}

static int check_features(const struct zst_frame *f, uint64_t dictionary, uint8_t descriptor,
	uint64_t off, struct err *e)
{
	if (descriptor & RESERVED) {
		return err_set(e, -EBADMSG,
			"zstd: the frame at offset %" PRIu64 " sets a reserved bit", off);
	}
	if (dictionary) {
		return err_set(e, -ENOTSUP,
			"zstd: the frame at offset %" PRIu64 " needs dictionary %" PRIu64
			"; dictionaries are not supported",
			off, dictionary);
	}
	if (f->window > ZST_FRAME_WINDOW_MAX) {
		return err_set(e, -ENOTSUP,
			"zstd: the frame at offset %" PRIu64 " needs a window of %" PRIu64
			" MiB, more than the limit of %" PRIu64 " MiB",
			off, div_round_up(f->window, MIB(1)), ZST_FRAME_WINDOW_MAX >> 20);
	}
	return 0;
}

static int parse_data(
	const uint8_t *head, size_t n, uint64_t off, struct zst_frame *ret, struct err *e)
{
	static const uint8_t id_sizes[] = { 0, 1, 2, 4 };
	static const uint8_t content_sizes[] = { 0, 2, 4, 8 };
	uint8_t descriptor = n > 4 ? head[4] : 0;
	bool single = descriptor & SINGLE_SEGMENT;
	size_t id_at = single ? 5 : 6;
	size_t content_at = id_at + id_sizes[descriptor & 3];
	size_t content_len = content_sizes[descriptor >> 6];
	struct zst_frame f = { .content = UINT64_MAX, .checksum = descriptor & CHECKSUM };
	int r;

	if (single && content_len == 0) {
		content_len = 1;
	}
	f.len = content_at + content_len;
	if (n < 5 || n < f.len) {
		return ends_early(n, off, e);
	}
	if (content_len > 0) {
		f.content = load_le(head + content_at, content_len);
		f.content += content_len == 2 ? 256 : 0;
	}
	if (single) {
		f.window = f.content;
	} else {
		uint64_t base = 1ULL << (10 + (head[5] >> 3));

		f.window = base + base / 8 * (head[5] & 7);
	}
	r = check_features(&f, load_le(head + id_at, content_at - id_at), descriptor, off, e);
	if (r == 0) {
		*ret = f;
	}
	return r;
}

int zst_frame_parse(
	const uint8_t *head, size_t n, uint64_t off, struct zst_frame *ret, struct err *e)
{
	uint32_t magic;

	if (n < 4) {
		return ends_early(n, off, e);
	}
	magic = load_le32(head);
	if (magic == MAGIC) {
		return parse_data(head, n, off, ret, e);
	}
	if ((magic & 0xfffffff0U) == ZST_FRAME_SKIP_MAGIC) {
		if (n < 8) {
			return ends_early(n, off, e);
		}
		*ret = (struct zst_frame){ .skippable = true,
			.len = 8 + (uint64_t)load_le32(head + 4) };
		return 0;
	}
	if (is_legacy(magic)) {
		return err_set(e, -ENOTSUP,
			"zstd: the frame at offset %" PRIu64
			" is of a version before 0.8, which is not supported",
			off);
	}
	return err_set(e, -EBADMSG, "zstd: there is no frame at offset %" PRIu64, off);
}

uint32_t zst_frame_block(const uint8_t *head, bool *ret_last)
{
	uint32_t word = (uint32_t)load_le(head, ZST_FRAME_BLOCK_HEAD);

	*ret_last = word & 1;
	return (word >> 1 & 3) == 1 ? 1 : word >> 3; /* of a run, one byte is stored */
}
