/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and validates one sector. Pure: bytes in, struct or error out. */
#include "formats/vmdk_header.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"

#define FLAG_NEWLINES   (1U << 0)
#define FLAG_ZERO_GRAIN (1U << 2)
#define FLAG_COMPRESSED (1U << 16)
#define FLAG_MARKERS    (1U << 17)

#define GD_AT_END UINT64_MAX

#define MARKER_END    0U
#define MARKER_FOOTER 3U

#define COMPRESSION_NONE    0U
#define COMPRESSION_DEFLATE 1U

/* QEMU's limit is 1 GiB; what is decompressed at once is bounded more tightly. */
#define GRAIN_MAX            GIB(1)
#define COMPRESSED_GRAIN_MAX MIB(2)

static int corrupt(struct err *e, const char *what, uint64_t value)
{
	return err_set(e, -EBADMSG, "vmdk header: %s (%" PRIu64 ")", what, value);
}

/* Bytes from sectors; false: more than a file can have. */
static bool bytes_of(uint64_t sectors, uint64_t *ret)
{
	return checked_mul(sectors, VMDK_SECTOR, ret) && *ret <= INT64_MAX;
}

static int check_magic(const uint8_t *b, size_t len, struct err *e)
{
	if (len >= 4 && memcmp(b, "COWD", 4) == 0) {
		return err_set(e, -ENOTSUP,
			"the image is a sparse extent of ESX (vmfsSparse), which is not supported");
	}
	if (len < VMDK_SECTOR || memcmp(b, "KDMV", 4) != 0) {
		return err_set(e, -EBADMSG, "not a vmdk extent: no header at its beginning");
	}
	if (load_le32(b + 4) < 1 || load_le32(b + 4) > 3) {
		return err_set(e, -ENOTSUP,
			"vmdk version %" PRIu32 " is not supported, only 1 to 3", load_le32(b + 4));
	}
	/* A transfer as text, which replaces these, has replaced bytes elsewhere, too. */
	if ((load_le32(b + 8) & FLAG_NEWLINES) && memcmp(b + 73, "\n \r\n", 4) != 0) {
		return err_set(e, -EBADMSG,
			"vmdk header: the file was damaged by a transfer in text mode");
	}
	return 0;
}

static int parse_grains(const uint8_t *b, struct vmdk_header *h, struct err *e)
{
	uint64_t grain = load_le64(b + 20);

	h->grains_per_table = load_le32(b + 44);
	if (!is_pow2(grain) || grain > GRAIN_MAX / VMDK_SECTOR) {
		return corrupt(e, "grain size invalid", grain);
	}
	h->grain_size = grain * VMDK_SECTOR;
	if (h->compressed && h->grain_size > COMPRESSED_GRAIN_MAX) {
		return corrupt(e, "compressed grains are too large", h->grain_size);
	}
	if (h->grains_per_table == 0 || h->grains_per_table > 512) {
		return corrupt(e, "entries of a grain table invalid", h->grains_per_table);
	}
	h->tables = div_round_up(h->size, h->grain_size * h->grains_per_table);
	return 0;
}

static int parse_compression(const uint8_t *b, struct vmdk_header *h, struct err *e)
{
	uint32_t flags = load_le32(b + 8);
	uint16_t algorithm = load_le16(b + 77);

	if (algorithm > COMPRESSION_DEFLATE) {
		return err_set(
			e, -ENOTSUP, "unknown vmdk compression algorithm %u", (unsigned)algorithm);
	}
	h->compressed = algorithm == COMPRESSION_DEFLATE;
	if (!h->compressed && (flags & FLAG_COMPRESSED)) {
		return corrupt(e, "compressed by no algorithm", flags);
	}
	h->markers = flags & FLAG_MARKERS;
	h->zero_grains = flags & FLAG_ZERO_GRAIN;
	return 0;
}

static int parse_descriptor(
	const uint8_t *b, uint64_t file_size, struct vmdk_header *h, struct err *e)
{
	if (!bytes_of(load_le64(b + 28), &h->descriptor) ||
		!bytes_of(load_le64(b + 36), &h->descriptor_length) ||
		!range_within(h->descriptor, h->descriptor_length, file_size)) {
		return corrupt(
			e, "the descriptor lies beyond the end of the file", load_le64(b + 28));
	}
	return 0;
}

static int parse_directory(
	const uint8_t *b, uint64_t file_size, struct vmdk_header *h, struct err *e)
{
	uint64_t sector = load_le64(b + 56);

	if (sector == 0) {
		return corrupt(e, "there is no grain directory", sector);
	}
	if (!bytes_of(sector, &h->directory) ||
		!range_within(h->directory, h->tables * 4, file_size)) {
		return corrupt(e, "the grain directory lies beyond the end of the file", sector);
	}
	return 0;
}

int vmdk_header_parse(
	const uint8_t *buf, size_t len, uint64_t file_size, struct vmdk_header *ret, struct err *e)
{
	struct vmdk_header h = { 0 };
	int r = check_magic(buf, len, e);

	if (r < 0) {
		return r;
	}
	h.version = load_le32(buf + 4);
	if (!bytes_of(load_le64(buf + 12), &h.size)) {
		return corrupt(e, "the disk is too big", load_le64(buf + 12));
	}
	r = parse_compression(buf, &h, e);
	if (r == 0) {
		r = parse_descriptor(buf, file_size, &h, e);
	}
	if (r == 0 && h.size > 0) {
		r = parse_grains(buf, &h, e);
	}
	h.footer = h.size > 0 && load_le64(buf + 56) == GD_AT_END;
	if (r == 0 && h.size > 0 && !h.footer) {
		r = parse_directory(buf, file_size, &h, e);
	}
	if (r == 0) {
		*ret = h;
	}
	return r;
}

static bool is_marker(const uint8_t *b, uint32_t type)
{
	return load_le32(b + 8) == 0 && load_le32(b + 12) == type;
}

int vmdk_header_footer(const uint8_t *buf, uint64_t file_size, struct vmdk_header *h, struct err *e)
{
	const uint8_t *head = buf + VMDK_SECTOR;
	struct vmdk_header f;
	int r;

	if (!is_marker(buf, MARKER_FOOTER) || !is_marker(head + VMDK_SECTOR, MARKER_END) ||
		load_le64(head + VMDK_SECTOR) != 0 || memcmp(head, "KDMV", 4) != 0) {
		return err_set(e, -EBADMSG,
			"vmdk: the footer, which says where the grain directory is, does not stand "
			"at the end of the file: it is truncated or corrupt");
	}
	r = vmdk_header_parse(head, VMDK_SECTOR, file_size, &f, e);
	if (r < 0) {
		return err_wrap(e, r, "footer");
	}
	if (f.footer || f.size != h->size || f.grain_size != h->grain_size ||
		f.grains_per_table != h->grains_per_table || f.compressed != h->compressed ||
		f.markers != h->markers) {
		return err_set(e, -EBADMSG, "vmdk: header and footer contradict each other");
	}
	h->directory = f.directory;
	h->zero_grains = f.zero_grains;
	return 0;
}
