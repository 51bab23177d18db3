/* SPDX-License-Identifier: Apache-2.0 */
/* Parses one block. Pure. */
#include "formats/tar_header.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"

#define CHECKSUM_AT  148U
#define CHECKSUM_LEN 8U

static bool base256(const uint8_t *field, size_t n, uint64_t *ret)
{
	uint64_t value = field[0] & 0x3f;

	if (field[0] & 0x40) {
		return false; /* negative */
	}
	for (size_t i = 1; i < n; i++) {
		if (value >> 56) {
			return false;
		}
		value = value << 8 | field[i];
	}
	*ret = value;
	return true;
}

bool tar_number(const uint8_t *field, size_t n, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		return base256(field, n, ret);
	}
	while (i < n && field[i] == ' ') {
		i++;
	}
	for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
		if (value >> 61) {
			return false;
		}
		value = value << 3 | (uint64_t)(field[i] - '0');
	}
	for (; i < n; i++) {
		if (field[i] != ' ' && field[i] != '\0') {
			return false;
		}
	}
	*ret = value;
	return true;
}

/* The sum of all bytes, its own field counted as blanks. Some old programs took bytes as signed. */
static bool checksum_matches(const uint8_t *block)
{
	uint64_t want;
	int64_t plain = 0;
	int64_t with_sign = 0;

	if (!tar_number(block + CHECKSUM_AT, CHECKSUM_LEN, &want) || want > INT32_MAX) {
		return false;
	}
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		uint8_t b = i >= CHECKSUM_AT && i < CHECKSUM_AT + CHECKSUM_LEN ? ' ' : block[i];

		plain += b;
		with_sign += (int8_t)b;
	}
	return plain == (int64_t)want || with_sign == (int64_t)want;
}

/* How much of the prefix field belongs to the name: GNU keeps other things there, star a part. */
static size_t prefix_length(const uint8_t *block)
{
	if (memcmp(block + 257, "ustar\0", 6) != 0) {
		return 0;
	}
	return strnlen((const char *)block + 345, memcmp(block + 508, "tar\0", 4) == 0 ? 131 : 155);
}

int tar_header_parse(const uint8_t block[TAR_BLOCK], struct tar_header *ret, struct err *e)
{
	struct tar_header h = { .type = (char)block[156] };
	size_t prefix = prefix_length(block);
	const char *name = (const char *)block;

	if (!checksum_matches(block)) {
		return err_set(e, -EBADMSG, "the checksum of a tar header is wrong");
	}
	if (!tar_number(block + 124, 12, &h.size)) {
		return err_set(e, -EBADMSG, "the size in a tar header is not a number");
	}
	snprintf(h.name, sizeof(h.name), "%.*s%s%.*s", (int)prefix, name + 345, prefix ? "/" : "",
		(int)strnlen(name, 100), name);
	snprintf(h.link, sizeof(h.link), "%.*s", (int)strnlen(name + 157, 100), name + 157);
	*ret = h;
	return 0;
}
