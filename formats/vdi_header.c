/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and validates one sector. */
#include "formats/vdi_header.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"

#define SIGNATURE   0xbeda107fU
#define VERSION_1_1 0x00010001U

#define TYPE_DYNAMIC 1U
#define TYPE_FIXED   2U
#define TYPE_UNDO    3U
#define TYPE_DIFF    4U

#define BLOCK_MAX MIB(256)

static int corrupt(struct err *e, const char *what, uint64_t value)
{
	return err_set(e, -EBADMSG, "vdi header: %s (%" PRIu64 ")", what, value);
}

static int check_kind(const uint8_t *b, size_t len, struct err *e)
{
	uint32_t version;
	uint32_t type;

	if (len < VDI_HEADER || load_le32(b + 64) != SIGNATURE) {
		return err_set(e, -EBADMSG, "not a vdi image: no vdi header at its beginning");
	}
	version = load_le32(b + 68);
	if (version != VERSION_1_1) {
		return err_set(e, -ENOTSUP,
			"vdi version %" PRIu32 ".%" PRIu32 " is not supported, only 1.1",
			version >> 16, version & 0xffff);
	}
	type = load_le32(b + 76);
	if (type == TYPE_DIFF || type == TYPE_UNDO || !is_zero(b + 424, 32)) {
		return err_set(e, -ENOTSUP,
			"the image is only what changed over its parent (a vdi %s image), which "
			"is not supported",
			type == TYPE_UNDO ? "undo" : "differencing");
	}
	if (type != TYPE_DYNAMIC && type != TYPE_FIXED) {
		return err_set(e, -ENOTSUP, "unknown vdi image type %" PRIu32, type);
	}
	return 0;
}

static int check_sizes(const struct vdi_header *h, const uint8_t *b, struct err *e)
{
	if (load_le32(b + 360) != 512) {
		return err_set(e, -ENOTSUP, "vdi sectors of %" PRIu32 " bytes are not supported",
			load_le32(b + 360));
	}
	if (!is_pow2(h->block_size) || h->block_size < 512 || h->block_size > BLOCK_MAX) {
		return corrupt(e, "block size invalid", h->block_size);
	}
	if (load_le32(b + 380) != 0) {
		return err_set(e, -ENOTSUP, "vdi blocks with data of their own are not supported");
	}
	if (h->size > h->blocks * h->block_size) {
		return corrupt(e, "the block map is too small for the size of the disk", h->blocks);
	}
	return 0;
}

int vdi_header_parse(
	const uint8_t *buf, size_t len, uint64_t file_size, struct vdi_header *ret, struct err *e)
{
	struct vdi_header h;
	int r = check_kind(buf, len, e);

	if (r < 0) {
		return r;
	}
	if (load_le64(buf + 368) > INT64_MAX - 512) {
		return corrupt(e, "the disk is too big", load_le64(buf + 368));
	}
	h = (struct vdi_header){
		.fixed = load_le32(buf + 76) == TYPE_FIXED,
		.size = round_up(load_le64(buf + 368), 512),
		.block_size = load_le32(buf + 376),
		.blocks = load_le32(buf + 384),
		.map = load_le32(buf + 340),
		.data = load_le32(buf + 344),
	};
	r = check_sizes(&h, buf, e);
	if (r < 0) {
		return r;
	}
	if (h.map % 512 != 0 || h.data % 512 != 0 || h.map < VDI_HEADER) {
		return corrupt(e, "the block map or the data lie at an odd place", h.map);
	}
	if (!range_within(h.map, h.blocks * 4, file_size)) {
		return corrupt(e, "the block map lies beyond the end of the file", h.map);
	}
	*ret = h;
	return 0;
}
