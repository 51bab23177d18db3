/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and validates headers, region tables and metadata. */
#include "formats/vhdx_header.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"

#define ENTRIES_MAX 2047U
#define ENTRY_SIZE  32U

#define ITEM_REQUIRED  (1U << 2)
#define REGION_NEEDED  (1U << 0)
#define PARAM_FIXED    (1U << 0)
#define PARAM_PARENT   (1U << 1)
#define SECTORS_CHUNK  (1ULL << 23)
#define SIZE_MAX_TIB64 (64ULL << 40)

/* GUIDs as they lie in the file. */
static const uint8_t guid_bat[VHDX_GUID] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d,
	0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const uint8_t guid_metadata[VHDX_GUID] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
	0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };

/* What follows VHDX_ITEMS is known and does not matter for reading. */
static const uint8_t guid_items[][VHDX_GUID] = {
	[VHDX_ITEM_PARAMETERS] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33,
		0xf0, 0xaa, 0x44, 0xe7, 0x6b },
	[VHDX_ITEM_SIZE] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe,
		0xd8, 0x3b, 0xf4, 0xb8 },
	[VHDX_ITEM_SECTOR] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2,
		0x33, 0xa8, 0xfa, 0xab, 0x5f },
	/* physical sector size */
	{ 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5,
		0x56 },
	/* page 83 data */
	{ 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7,
		0x46 },
	/* parent locator: the parameters say whether there is a parent */
	{ 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab,
		0x0c },
};

static int corrupt(struct err *e, const char *what, uint64_t value)
{
	return err_set(e, -EBADMSG, "vhdx: %s (%" PRIu64 ")", what, value);
}

uint32_t vhdx_header_crc_more(uint32_t crc, const uint8_t *buf, size_t len)
{
	static const uint32_t table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6,
		0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };

	for (size_t i = 0; i < len; i++) {
		crc = (crc >> 4) ^ table[(crc ^ buf[i]) & 15];
		crc = (crc >> 4) ^ table[(crc ^ (uint32_t)(buf[i] >> 4)) & 15];
	}
	return crc;
}

uint32_t vhdx_header_crc(const uint8_t *buf, size_t len, size_t hole)
{
	static const uint8_t zeros[4];
	uint32_t crc = vhdx_header_crc_more(UINT32_MAX, buf, hole);

	crc = vhdx_header_crc_more(crc, zeros, sizeof(zeros));
	return ~vhdx_header_crc_more(crc, buf + hole + 4, len - hole - 4);
}

/* Sequence numbers are not 0; 0: the header is not valid. */
static uint64_t sequence_of(const uint8_t *b)
{
	if (memcmp(b, "head", 4) != 0 || load_le16(b + 66) != 1 ||
		load_le32(b + 4) != vhdx_header_crc(b, VHDX_HEADER_SIZE, 4)) {
		return 0;
	}
	/* QEMU begins at 0; the order stays. */
	return load_le64(b + 8) == UINT64_MAX ? UINT64_MAX : load_le64(b + 8) + 1;
}

int vhdx_header_choose(
	const uint8_t *first, const uint8_t *second, struct vhdx_header *ret, struct err *e)
{
	uint64_t a = sequence_of(first);
	uint64_t b = sequence_of(second);
	const uint8_t *h = a >= b ? first : second;

	if (a == 0 && b == 0) {
		return err_set(e, -EBADMSG, "vhdx: neither of the two headers is valid");
	}
	/* Disk2vhd writes the same header twice. */
	if (a == b && memcmp(first, second, VHDX_HEADER_SIZE) != 0) {
		return err_set(e, -EBADMSG, "vhdx: two different headers claim to be the newest");
	}
	*ret = (struct vhdx_header){
		.dirty = !is_zero(h + 48, VHDX_GUID),
		.log_length = load_le32(h + 68),
		.log_offset = load_le64(h + 72),
	};
	memcpy(ret->log_guid, h + 48, VHDX_GUID);
	if (ret->dirty && load_le16(h + 64) != 0) {
		return err_set(e, -ENOTSUP, "vhdx: log version %u is not supported, only 0",
			(unsigned)load_le16(h + 64));
	}
	return 0;
}

static int add_region(
	const uint8_t *entry, uint64_t file_size, struct vhdx_regions *g, struct err *e)
{
	uint64_t offset = load_le64(entry + 16);
	uint64_t length = load_le32(entry + 24);
	bool bat = memcmp(entry, guid_bat, VHDX_GUID) == 0;

	if (!bat && memcmp(entry, guid_metadata, VHDX_GUID) != 0) {
		return load_le32(entry + 28) & REGION_NEEDED
			       ? err_set(e, -ENOTSUP,
					 "vhdx: the image needs a region that is not known")
			       : 0;
	}
	if (bat ? g->bat_length > 0 : g->metadata_length > 0) {
		return corrupt(e, "a region is there twice", offset);
	}
	if (offset < VHDX_HEADERS_SIZE || offset % MIB(1) != 0 || length == 0 ||
		!range_within(offset, length, file_size)) {
		return corrupt(
			e, "a region lies beyond the end of the file or in the header", offset);
	}
	if (bat) {
		g->bat = offset;
		g->bat_length = length;
	} else {
		g->metadata = offset;
		g->metadata_length = length;
	}
	return 0;
}

int vhdx_header_regions(
	const uint8_t *buf, uint64_t file_size, struct vhdx_regions *ret, struct err *e)
{
	struct vhdx_regions g = { 0 };
	uint32_t count = load_le32(buf + 8);

	if (memcmp(buf, "regi", 4) != 0 ||
		load_le32(buf + 4) != vhdx_header_crc(buf, VHDX_TABLE_SIZE, 4)) {
		return err_set(e, -EBADMSG, "vhdx: wrong checksum of the region table");
	}
	if (count > ENTRIES_MAX) {
		return corrupt(e, "too many regions", count);
	}
	for (uint32_t i = 0; i < count; i++) {
		int r = add_region(buf + 16 + (size_t)i * ENTRY_SIZE, file_size, &g, e);

		if (r < 0) {
			return r;
		}
	}
	if (g.bat_length == 0 || g.metadata_length == 0) {
		return corrupt(e, "a required region is missing", count);
	}
	*ret = g;
	return 0;
}

/* The item that the entry is of; beyond VHDX_ITEMS: none that counts; -1: not known. */
static int item_of(const uint8_t *entry)
{
	for (size_t i = 0; i < ARRAY_SIZE(guid_items); i++) {
		if (memcmp(entry, guid_items[i], VHDX_GUID) == 0) {
			return (int)i;
		}
	}
	return -1;
}

static int add_item(
	const uint8_t *entry, uint64_t length, uint32_t ret_at[VHDX_ITEMS], struct err *e)
{
	int item = item_of(entry);
	uint32_t at = load_le32(entry + 16);
	uint32_t need = item == VHDX_ITEM_SECTOR ? 4 : 8;

	if (item < 0) {
		return load_le32(entry + 24) & ITEM_REQUIRED
			       ? err_set(e, -ENOTSUP,
					 "vhdx: the image needs metadata that is not known")
			       : 0;
	}
	if (item >= VHDX_ITEMS) {
		return 0;
	}
	if (ret_at[item] != 0) {
		return corrupt(e, "a piece of metadata is there twice", at);
	}
	if (at < VHDX_TABLE_SIZE || load_le32(entry + 20) < need ||
		!range_within(at, need, length)) {
		return corrupt(e, "a piece of metadata lies outside its region", at);
	}
	ret_at[item] = at;
	return 0;
}

int vhdx_header_items(
	const uint8_t *buf, uint64_t length, uint32_t ret_at[VHDX_ITEMS], struct err *e)
{
	uint32_t count = load_le16(buf + 10);

	if (memcmp(buf, "metadata", 8) != 0) {
		return err_set(e, -EBADMSG, "vhdx: no metadata where the region table says");
	}
	if (count > ENTRIES_MAX) {
		return corrupt(e, "too many pieces of metadata", count);
	}
	memset(ret_at, 0, VHDX_ITEMS * sizeof(*ret_at));
	for (uint32_t i = 0; i < count; i++) {
		int r = add_item(buf + (size_t)(i + 1) * ENTRY_SIZE, length, ret_at, e);

		if (r < 0) {
			return r;
		}
	}
	for (size_t i = 0; i < VHDX_ITEMS; i++) {
		if (ret_at[i] == 0) {
			return corrupt(e, "a required piece of metadata is missing", i);
		}
	}
	return 0;
}

int vhdx_header_metadata(
	const uint8_t items[VHDX_ITEMS][8], struct vhdx_metadata *ret, struct err *e)
{
	uint32_t parameters = load_le32(items[VHDX_ITEM_PARAMETERS] + 4);
	uint64_t blocks;
	struct vhdx_metadata m = {
		.size = load_le64(items[VHDX_ITEM_SIZE]),
		.block_size = load_le32(items[VHDX_ITEM_PARAMETERS]),
		.sector = load_le32(items[VHDX_ITEM_SECTOR]),
		.fixed = parameters & PARAM_FIXED,
	};

	if (parameters & PARAM_PARENT) {
		return err_set(e, -ENOTSUP,
			"the image is only what changed over its parent (a differencing vhdx), "
			"which is not supported");
	}
	if (!is_pow2(m.block_size) || m.block_size < MIB(1) || m.block_size > MIB(256)) {
		return corrupt(e, "block size invalid", m.block_size);
	}
	if (m.sector != 512 && m.sector != 4096) {
		return corrupt(e, "logical sector size invalid", m.sector);
	}
	if (m.size > SIZE_MAX_TIB64 || m.size % m.sector != 0) {
		return corrupt(e, "size of the disk invalid", m.size);
	}
	m.chunk = SECTORS_CHUNK * m.sector / m.block_size;
	blocks = div_round_up(m.size, m.block_size);
	m.bat_entries = blocks ? blocks + (blocks - 1) / m.chunk : 0;
	*ret = m;
	return 0;
}
