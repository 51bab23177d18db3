/* SPDX-License-Identifier: Apache-2.0 */
/* One recogniser a format; nothing here reads or allocates. */
#include "formats/probe.h"

#include <string.h>
#include <strings.h>

#include "core/bytes.h"

#define QCOW_MAGIC "QFI\xfb"

static bool holds(const struct probe_view *v, size_t at, const char *bytes, size_t n)
{
	return v->len >= at + n && memcmp(v->head + at, bytes, n) == 0;
}

bool probe_qcow2(const struct probe_view *v)
{
	return v->len >= 8 && holds(v, 0, QCOW_MAGIC, 4) && load_be32(v->head + 4) != 1;
}

bool probe_qcow(const struct probe_view *v)
{
	return holds(v, 0, QCOW_MAGIC "\0\0\0\1", 8);
}

bool probe_qed(const struct probe_view *v)
{
	return holds(v, 0, "QED\0", 4);
}

/* Where the line behind the one at @at begins. */
static size_t next_line(const struct probe_view *v, size_t at)
{
	while (at < v->len && v->head[at] != '\n') {
		at++;
	}
	return at + 1;
}

/* A descriptor begins with comments and empty lines and goes on with its version. */
static bool is_vmdk_descriptor(const struct probe_view *v)
{
	size_t at = 0;

	if (!holds(v, 0, "#", 1)) {
		return false;
	}
	while (at < v->len && strchr("# \t\r\n", v->head[at]) && v->head[at]) {
		at = next_line(v, at);
	}
	return holds(v, at, "version=", 8) && v->len > at + 8 && v->head[at + 8] >= '1' &&
	       v->head[at + 8] <= '3';
}

bool probe_vmdk(const struct probe_view *v)
{
	return holds(v, 0, "KDMV", 4) || holds(v, 0, "COWD", 4) ||
	       holds(v, 0, "# Disk DescriptorFile", 21) || is_vmdk_descriptor(v);
}

bool probe_vhdx(const struct probe_view *v)
{
	return holds(v, 0, "vhdxfile", 8);
}

bool probe_vhd(const struct probe_view *v)
{
	return holds(v, 0, "conectix", 8) || (v->tail && memcmp(v->tail, "conectix", 8) == 0);
}

bool probe_vdi(const struct probe_view *v)
{
	return holds(v, 64, "\x7f\x10\xda\xbe", 4);
}

bool probe_parallels(const struct probe_view *v)
{
	return holds(v, 0, "WithoutFreeSpace", 16) || holds(v, 0, "WithouFreSpacExt", 16);
}

bool probe_gzip(const struct probe_view *v)
{
	return holds(v, 0, "\x1f\x8b\x08", 3);
}

bool probe_xz(const struct probe_view *v)
{
	return holds(v, 0,
		"\xfd"
		"7zXZ\0",
		6);
}

bool probe_zstd(const struct probe_view *v)
{
	return holds(v, 0, "\x28\xb5\x2f\xfd", 4) ||
	       (v->len >= 4 && (load_le32(v->head) & 0xfffffff0U) == 0x184d2a50U);
}

bool probe_bzip2(const struct probe_view *v)
{
	return holds(v, 0, "BZh", 3) && v->len >= 10 && v->head[3] >= '1' && v->head[3] <= '9' &&
	       (holds(v, 4, "\x31\x41\x59\x26\x53\x59", 6) ||
		       holds(v, 4, "\x17\x72\x45\x38\x50\x90", 6));
}

/* The same test as liblzma's own: the dictionary is 2^n or 2^n + 2^(n-1), the size is unknown or
 * below 256 GiB; and the properties are the ones that every encoder writes by default. */
bool probe_lzma(const struct probe_view *v)
{
	uint32_t dict;
	uint64_t size;
	uint32_t top;

	if (v->len < 14 || v->head[0] != 0x5d || v->head[13] != 0) {
		return false;
	}
	dict = load_le32(v->head + 1);
	size = load_le64(v->head + 5);
	if (dict < 4096) {
		return false;
	}
	top = 1U << (31 - __builtin_clz(dict));
	return (dict == top || dict == top + top / 2) && (size == UINT64_MAX || size < GIB(256));
}

bool probe_lz4(const struct probe_view *v)
{
	return holds(v, 0, "\x04\x22\x4d\x18", 4);
}

bool probe_zip(const struct probe_view *v)
{
	return holds(v, 0, "PK\3\4", 4);
}

bool probe_7z(const struct probe_view *v)
{
	return holds(v, 0, "7z\xbc\xaf\x27\x1c", 6);
}

/* An octal number of up to @n digits; anything else is 0, which no checksum of a header is. */
static uint32_t octal(const uint8_t *p, size_t n)
{
	uint32_t value = 0;
	size_t i = 0;

	while (i < n && p[i] == ' ') {
		i++;
	}
	for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
		value = value * 8 + (p[i] - '0');
	}
	return value;
}

bool probe_tar(const struct probe_view *v)
{
	uint32_t sum = 0;

	if (v->len < 512 || !holds(v, 257, "ustar", 5)) {
		return false;
	}
	for (size_t i = 0; i < 512; i++) {
		sum += i >= 148 && i < 156 ? ' ' : v->head[i];
	}
	return sum == octal(v->head + 148, 8);
}

/* Whether the text begins with @word, ignoring case, after a byte order mark and white space. */
static bool text_begins(const struct probe_view *v, const char *word)
{
	size_t n = strlen(word);
	size_t i = holds(v, 0, "\xef\xbb\xbf", 3) ? 3 : 0;

	while (i < v->len && v->head[i] && strchr(" \t\r\n", v->head[i])) {
		i++;
	}
	return v->len - i >= n && strncasecmp((const char *)v->head + i, word, n) == 0;
}

bool probe_html(const struct probe_view *v)
{
	return text_begins(v, "<!doctype html") || text_begins(v, "<html");
}

bool probe_xml(const struct probe_view *v)
{
	return text_begins(v, "<?xml");
}
