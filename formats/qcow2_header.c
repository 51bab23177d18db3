/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and validates the first cluster of a qcow2 image. Pure: bytes in, struct or error out. */
#include "formats/qcow2_header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"

#define V2_LENGTH     72U
#define V3_MIN_LENGTH 104U

#define INCOMPAT_DIRTY       (1ULL << 0)
#define INCOMPAT_CORRUPT     (1ULL << 1)
#define INCOMPAT_DATA_FILE   (1ULL << 2)
#define INCOMPAT_COMPRESSION (1ULL << 3)
#define INCOMPAT_EXTENDED_L2 (1ULL << 4)
#define INCOMPAT_KNOWN                                                                             \
	(INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_DATA_FILE | INCOMPAT_COMPRESSION |           \
		INCOMPAT_EXTENDED_L2)
#define AUTOCLEAR_BITMAPS (1ULL << 0)

#define EXT_END            0U
#define EXT_BACKING_FORMAT 0xe2792acaU
#define EXT_FEATURE_NAMES  0x6803f857U
#define EXT_BITMAPS        0x23852875U
#define EXT_CRYPTO         0x0537be77U
#define EXT_DATA_FILE      0x44415441U

#define FEATURE_NAME_SIZE 48U /* type, bit, 46 bytes of name */

/* QEMU's limit, and ours: 32 MiB of L1 table. */
#define L1_MAX_ENTRIES (MIB(32) / 8)

/* What is needed while parsing and by nobody afterwards. */
struct parser {
	const uint8_t *buf;
	size_t len;
	uint64_t file_size;
	uint64_t cluster_size;
	uint64_t incompatible;
	uint64_t autoclear;
	uint32_t header_length;
	uint32_t crypt_method;
	uint32_t l1_size; /* as the header says */
	uint64_t backing_offset;
	uint32_t backing_size;
	uint64_t ext_end;
	const uint8_t *features; /* the table of feature names, or NULL */
	size_t features_size;
	const uint8_t *data_file; /* or NULL */
	size_t data_file_size;
	struct qcow2_header *h;
};

static int corrupt(struct err *e, const char *what, uint64_t value)
{
	return err_set(e, -EBADMSG, "qcow2 header: %s (%" PRIu64 ")", what, value);
}

static int parse_fixed(struct parser *p, struct err *e)
{
	const uint8_t *b = p->buf;
	struct qcow2_header *h = p->h;

	if (p->len < V2_LENGTH || memcmp(b, "QFI\xfb", 4) != 0) {
		return err_set(e, -EBADMSG, "not a qcow2 image: no qcow2 header at its beginning");
	}
	h->version = load_be32(b + 4);
	if (h->version == 1) {
		return err_set(e, -ENOTSUP, "format qcow (version 1) is not supported, only qcow2");
	}
	if (h->version != 2 && h->version != 3) {
		return err_set(e, -ENOTSUP,
			"qcow2 version %" PRIu32 " is not supported, only 2 and 3", h->version);
	}
	h->cluster_bits = load_be32(b + 20);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
		return corrupt(e, "unsupported cluster size: cluster_bits is not 9 to 21",
			h->cluster_bits);
	}
	p->cluster_size = 1ULL << h->cluster_bits;
	p->backing_offset = load_be64(b + 8);
	p->backing_size = load_be32(b + 16);
	h->size = load_be64(b + 24);
	p->crypt_method = load_be32(b + 32);
	p->l1_size = load_be32(b + 36);
	h->l1_offset = load_be64(b + 40);
	return 0;
}

/* The words that version 3 added. */
static int parse_v3(struct parser *p, struct err *e)
{
	const uint8_t *b = p->buf;

	p->header_length = V2_LENGTH;
	if (p->h->version < 3) {
		return 0;
	}
	if (p->len < V3_MIN_LENGTH) {
		return corrupt(e, "the file ends within the header", p->len);
	}
	p->incompatible = load_be64(b + 72);
	p->autoclear = load_be64(b + 88);
	p->header_length = load_be32(b + 100);
	if (load_be32(b + 96) > 6) {
		return corrupt(e, "refcount width too large: refcount_order", load_be32(b + 96));
	}
	if (p->header_length < V3_MIN_LENGTH) {
		return corrupt(e, "header too short: header_length", p->header_length);
	}
	if (p->header_length > p->cluster_size) {
		return corrupt(
			e, "header exceeds the cluster size: header_length", p->header_length);
	}
	if (p->header_length % 8 != 0) {
		return corrupt(e, "header_length is not a multiple of 8", p->header_length);
	}
	if (p->header_length > p->file_size) {
		return corrupt(e, "the file ends within the header", p->file_size);
	}
	return 0;
}

/* Where the header ends: nothing beyond the first cluster belongs to it. */
static int check_backing(struct parser *p, struct err *e)
{
	p->ext_end = p->cluster_size;
	if (p->backing_offset == 0) {
		return 0;
	}
	if (p->backing_size > QCOW2_NAME_MAX) {
		return corrupt(e, "backing file name too long", p->backing_size);
	}
	if (p->backing_offset < p->header_length ||
		!range_within(p->backing_offset, p->backing_size, p->cluster_size)) {
		return corrupt(e, "invalid backing file offset", p->backing_offset);
	}
	p->ext_end = p->backing_offset;
	return 0;
}

static int parse_bitmaps(const struct parser *p, const uint8_t *data, size_t n, struct err *e)
{
	if (!(p->autoclear & AUTOCLEAR_BITMAPS)) {
		return 0; /* stale: a program that does not know bitmaps wrote since */
	}
	if (n != 24) {
		return corrupt(e, "bitmaps extension of wrong length", n);
	}
	if (load_be32(data + 4) != 0) {
		return corrupt(
			e, "reserved field of the bitmaps extension is set", load_be32(data + 4));
	}
	return 0;
}

static int parse_extension(
	struct parser *p, uint32_t type, const uint8_t *data, size_t n, struct err *e)
{
	switch (type) {
	case EXT_BACKING_FORMAT:
		if (n >= sizeof(p->h->backing_format)) {
			return corrupt(e, "backing format name too long", n);
		}
		memcpy(p->h->backing_format, data, n);
		p->h->backing_format[n] = '\0';
		return 0;
	case EXT_FEATURE_NAMES:
		p->features = data;
		p->features_size = n;
		return 0;
	case EXT_DATA_FILE:
		p->data_file = data;
		p->data_file_size = n;
		return 0;
	case EXT_CRYPTO:
		if (p->crypt_method != 2) {
			return corrupt(e, "encryption header without LUKS encryption: crypt_method",
				p->crypt_method);
		}
		return 0;
	case EXT_BITMAPS:
		return parse_bitmaps(p, data, n, e);
	default:
		return 0; /* unknown extensions are to be skipped */
	}
}

/* 0, an error, or how many bytes of the file are needed. */
static int need_more(const struct parser *p, uint64_t end, struct err *e)
{
	if (end > p->file_size) {
		return corrupt(e, "the file ends within the header", p->file_size);
	}
	return (int)min_u64(p->cluster_size, p->file_size);
}

static int parse_extensions(struct parser *p, struct err *e)
{
	uint64_t pos = p->header_length;

	while (p->ext_end - pos >= 8) {
		uint32_t type;
		uint32_t n;
		int r;

		if (pos + 8 > p->len) {
			return p->len >= p->file_size ? 0 : need_more(p, pos, e);
		}
		type = load_be32(p->buf + pos);
		n = load_be32(p->buf + pos + 4);
		pos += 8;
		if (type == EXT_END) {
			return 0;
		}
		if (n > p->ext_end - pos) {
			return corrupt(e, "header extension too large", n);
		}
		if (pos + n > p->len) {
			return need_more(p, pos + n, e);
		}
		r = parse_extension(p, type, p->buf + pos, n, e);
		if (r < 0) {
			return r;
		}
		pos = min_u64(round_up(pos + n, 8), p->ext_end);
	}
	return 0;
}

/* How long the UTF-8 sequence at @s is; 0: there is none. */
static size_t utf8_length(const uint8_t *s)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t code = n == 1 ? s[0] : s[0] & (0x7fU >> n);

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
		return 0;
	}
	return n;
}

/* What an image says goes into messages and JSON: one line of UTF-8. */
static void make_printable(char *text)
{
	uint8_t *s = (uint8_t *)text;

	while (*s) {
		size_t n = utf8_length(s);

		if (n == 0 || *s < 0x20 || *s == 0x7f) {
			*s = '?';
			n = 1;
		}
		s += n;
	}
}

/* The name that the image itself gives to incompatible feature @bit, or "". */
static void feature_name(const struct parser *p, unsigned int bit, char ret[47])
{
	ret[0] = '\0';
	for (size_t i = 0; i + FEATURE_NAME_SIZE <= p->features_size; i += FEATURE_NAME_SIZE) {
		const uint8_t *f = p->features + i;

		if (f[0] == 0 && f[1] == bit) {
			memcpy(ret, f + 2, 46);
			ret[46] = '\0';
			make_printable(ret);
		}
	}
}

static int check_features(struct parser *p, struct err *e)
{
	uint64_t unknown = p->incompatible & ~INCOMPAT_KNOWN;
	bool typed = p->header_length > V3_MIN_LENGTH && p->len > V3_MIN_LENGTH;
	uint8_t type = typed ? p->buf[104] : QCOW2_ZLIB;
	bool flagged = p->incompatible & INCOMPAT_COMPRESSION;
	char name[47];

	if (unknown) {
		unsigned int bit = (unsigned int)__builtin_ctzll(unknown);

		feature_name(p, bit, name);
		return err_set(e, -ENOTSUP,
			"the image needs a qcow2 feature that is not supported: incompatible "
			"feature bit %u%s%s",
			bit, name[0] ? ", " : "", name);
	}
	if (type > QCOW2_ZSTD) {
		return err_set(e, -ENOTSUP, "unknown qcow2 compression type %u", type);
	}
	if (flagged != (type != QCOW2_ZLIB)) {
		return corrupt(e,
			flagged ? "the incompatible feature bit of the compression type must not "
				  "be set for zlib"
				: "the incompatible feature bit of the compression type must be set",
			type);
	}
	p->h->compression = type;
	p->h->dirty = p->incompatible & INCOMPAT_DIRTY;
	p->h->corrupt = p->incompatible & INCOMPAT_CORRUPT;
	p->h->extended_l2 = p->incompatible & INCOMPAT_EXTENDED_L2;
	if (p->h->extended_l2 && p->h->cluster_bits < 14) {
		return corrupt(
			e, "extended L2 entries need clusters of at least 16 KiB", p->cluster_size);
	}
	return 0;
}

/* Features that are understood and refused. */
static int check_refusals(struct parser *p, struct err *e)
{
	char name[QCOW2_NAME_MAX + 1];
	char safe[256];

	if (p->crypt_method == 1 || p->crypt_method == 2) {
		return err_set(e, -ENOTSUP, "the image is encrypted (%s), which is not supported",
			p->crypt_method == 1 ? "AES" : "LUKS");
	}
	if (p->crypt_method != 0) {
		return err_set(
			e, -ENOTSUP, "unknown qcow2 encryption method %" PRIu32, p->crypt_method);
	}
	if (!(p->incompatible & INCOMPAT_DATA_FILE)) {
		return 0;
	}
	if (!p->data_file || p->data_file_size == 0) {
		return err_set(e, -EBADMSG,
			"qcow2 header: the image needs an external data file and names none");
	}
	snprintf(name, sizeof(name), "%.*s", (int)min_u64(p->data_file_size, QCOW2_NAME_MAX),
		(const char *)p->data_file);
	qcow2_header_safe_name(name, safe, sizeof(safe));
	return err_set(e, -ENOTSUP,
		"the image keeps its data in an external data file, which is not supported: "
		"\"%s\"",
		safe);
}

static int check_l1(struct parser *p, struct err *e)
{
	struct qcow2_header *h = p->h;
	unsigned int entry_bits = h->extended_l2 ? 4 : 3;
	uint64_t per_l2 = 1ULL << (2 * h->cluster_bits - entry_bits);

	if (h->size > (uint64_t)INT64_MAX - p->cluster_size) {
		return corrupt(e, "image is too big", h->size);
	}
	h->l1_entries = div_round_up(h->size, per_l2);
	if (p->l1_size > L1_MAX_ENTRIES) {
		return corrupt(e, "active L1 table too large", p->l1_size);
	}
	if (p->l1_size < h->l1_entries) {
		return corrupt(e, "L1 table is too small for the size of the image", p->l1_size);
	}
	if (h->l1_offset % p->cluster_size != 0) {
		return corrupt(e, "L1 table offset invalid", h->l1_offset);
	}
	if (h->l1_entries == 0) {
		return 0;
	}
	if (h->l1_offset == 0) {
		return corrupt(e, "L1 table offset lies in the header", h->l1_offset);
	}
	if (!range_within(h->l1_offset, h->l1_entries * 8, p->file_size)) {
		return corrupt(e, "L1 table lies beyond the end of the file", h->l1_offset);
	}
	return 0;
}

static int parse_backing(struct parser *p, struct err *e)
{
	uint64_t end = p->backing_offset + p->backing_size;

	if (p->backing_offset == 0 || p->backing_size == 0) {
		return 0;
	}
	if (end > p->len) {
		return need_more(p, end, e);
	}
	memcpy(p->h->backing, p->buf + p->backing_offset, p->backing_size);
	p->h->backing[p->backing_size] = '\0';
	if (strlen(p->h->backing) != p->backing_size) {
		return corrupt(e, "backing file name holds a NUL byte", p->backing_offset);
	}
	return 0;
}

int qcow2_header_parse(
	const uint8_t *buf, size_t len, uint64_t file_size, struct qcow2_header *ret, struct err *e)
{
	static int (*const steps[])(struct parser *, struct err *) = {
		parse_fixed,
		parse_v3,
		check_backing,
		parse_extensions,
		check_features,
		check_refusals,
		check_l1,
		parse_backing,
	};
	struct qcow2_header h = { 0 };
	struct parser p = { .buf = buf, .len = len, .file_size = file_size, .h = &h };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i](&p, e);

		if (r != 0) {
			return r;
		}
	}
	*ret = h;
	return 0;
}

void qcow2_header_safe_name(const char *name, char *ret, size_t room)
{
	const char *scheme = strstr(name, "://");
	const char *host = scheme ? scheme + 3 : name;
	const char *at = scheme ? memrchr(host, '@', strcspn(host, "/?#")) : NULL;

	if (strncmp(name, "json:", 5) == 0) {
		snprintf(ret, room, "json:{...}");
	} else if (!scheme) {
		snprintf(ret, room, "%s", name);
	} else {
		host = at ? at + 1 : host;
		snprintf(ret, room, "%.*s://%.*s", (int)(scheme - name), name,
			(int)strcspn(host, "?#"), host);
	}
	make_printable(ret);
}
