/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and validates the two structures. */
#include "formats/vhd_header.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"

#define SECTOR 512U

#define TYPE_FIXED        2U
#define TYPE_DYNAMIC      3U
#define TYPE_DIFFERENCING 4U

/* A geometry cannot say more. */
#define CHS_MAX (65535ULL * 16 * 255)

#define SECTORS_MAX 0xff000000ULL
#define BLOCK_MAX   MIB(256)

static int corrupt(struct err *e, const char *what, uint64_t value)
{
	return err_set(e, -EBADMSG, "vhd header: %s (%" PRIu64 ")", what, value);
}

/* The complement of the sum of all bytes but those of the checksum itself. */
static bool sum_is_right(const uint8_t *buf, size_t len, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += i >= at && i < at + 4 ? 0 : buf[i];
	}
	return load_be32(buf + at) == ~sum;
}

bool vhd_header_is_footer(const uint8_t *buf)
{
	return memcmp(buf, "conectix", 8) == 0;
}

/* Hyper-V, Disk2vhd, Xen and Azure go by the current size, as QEMU does in what it marks "qem2";
 * Virtual PC and QEMU otherwise go by the geometry. */
static bool has_own_size(const uint8_t *creator)
{
	static const char *const own[] = { "win ", "qem2", "d2v ", "CTXS" };

	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		if (memcmp(creator, own[i], 4) == 0) {
			return true;
		}
	}
	return memcmp(creator, "tap", 3) == 0 || memcmp(creator, "wa\0\0", 4) == 0;
}

static uint64_t sectors_of(const uint8_t *b)
{
	uint64_t chs = (uint64_t)load_be16(b + 56) * b[58] * b[59];

	return has_own_size(b + 28) || chs == CHS_MAX ? load_be64(b + 48) / SECTOR : chs;
}

static void set_creator(const uint8_t *b, struct vhd_header *h)
{
	for (size_t i = 0; i < 4; i++) {
		h->creator[i] = (char)(b[28 + i] >= ' ' && b[28 + i] < 0x7f ? b[28 + i] : ' ');
	}
	for (size_t i = 4; i > 0 && h->creator[i - 1] == ' '; i--) {
		h->creator[i - 1] = '\0';
	}
}

int vhd_header_footer(const uint8_t *buf, struct vhd_header *ret, struct err *e)
{
	struct vhd_header h = { 0 };
	uint32_t type = load_be32(buf + 60);
	uint64_t sectors = sectors_of(buf);

	if (!vhd_header_is_footer(buf)) {
		return err_set(e, -EBADMSG, "not a vhd image: no footer at its beginning or end");
	}
	if (!sum_is_right(buf, VHD_FOOTER, 64)) {
		return corrupt(e, "wrong checksum of the footer", load_be32(buf + 64));
	}
	if (type == TYPE_DIFFERENCING) {
		return err_set(e, -ENOTSUP,
			"the image is only what changed over its parent (a differencing vhd), "
			"which is not supported");
	}
	if (type != TYPE_FIXED && type != TYPE_DYNAMIC) {
		return err_set(e, -ENOTSUP, "unknown vhd disk type %" PRIu32, type);
	}
	if (load_be32(buf + 12) >> 16 != 1) {
		return err_set(e, -ENOTSUP, "vhd version %" PRIu32 " is not supported, only 1",
			load_be32(buf + 12) >> 16);
	}
	if (sectors > SECTORS_MAX) {
		return corrupt(e, "the disk is too big", sectors);
	}
	h.dynamic = type == TYPE_DYNAMIC;
	h.size = sectors * SECTOR;
	h.dynamic_at = load_be64(buf + 16);
	set_creator(buf, &h);
	*ret = h;
	return 0;
}

int vhd_header_dynamic(const uint8_t *buf, uint64_t file_size, struct vhd_header *h, struct err *e)
{
	if (memcmp(buf, "cxsparse", 8) != 0) {
		return corrupt(e, "no dynamic header where the footer says", h->dynamic_at);
	}
	if (!sum_is_right(buf, VHD_DYNAMIC, 36)) {
		return corrupt(e, "wrong checksum of the dynamic header", load_be32(buf + 36));
	}
	h->table = load_be64(buf + 16);
	h->blocks = load_be32(buf + 28);
	h->block_size = load_be32(buf + 32);
	if (!is_pow2(h->block_size) || h->block_size < SECTOR || h->block_size > BLOCK_MAX) {
		return corrupt(e, "block size invalid", h->block_size);
	}
	if (h->size > h->blocks * h->block_size) {
		return corrupt(
			e, "the allocation table is too small for the size of the disk", h->blocks);
	}
	if (h->table % 4 != 0 || !range_within(h->table, h->blocks * 4, file_size)) {
		return corrupt(e, "the allocation table lies beyond the end of the file", h->table);
	}
	/* A bit a sector, in whole sectors. */
	h->bitmap = round_up(h->block_size / SECTOR / 8, SECTOR);
	h->bitmap = max_u64(h->bitmap, SECTOR);
	return 0;
}
