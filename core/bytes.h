/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from outside: endian loads, checked arithmetic, alignment, zero detection. Every number
 * that came from a server or a file goes through the checked_ functions before it is used as an
 * offset, a length or an index.
 */
#ifndef CORE_BYTES_H
#define CORE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define BYTES_LOAD(name, type, conv)                                                               \
	static inline type name(const void *p)                                                     \
	{                                                                                          \
		type v;                                                                            \
		memcpy(&v, p, sizeof(v));                                                          \
		return conv(v);                                                                    \
	}
BYTES_LOAD(load_be16, uint16_t, be16toh)
BYTES_LOAD(load_be32, uint32_t, be32toh)
BYTES_LOAD(load_be64, uint64_t, be64toh)
BYTES_LOAD(load_le16, uint16_t, le16toh)
BYTES_LOAD(load_le32, uint32_t, le32toh)
BYTES_LOAD(load_le64, uint64_t, le64toh)
#undef BYTES_LOAD

#define BYTES_STORE(name, type, conv)                                                              \
	static inline void name(void *p, type v)                                                   \
	{                                                                                          \
		v = conv(v);                                                                       \
		memcpy(p, &v, sizeof(v));                                                          \
	}
BYTES_STORE(store_be32, uint32_t, htobe32)
BYTES_STORE(store_be64, uint64_t, htobe64)
BYTES_STORE(store_le32, uint32_t, htole32)
BYTES_STORE(store_le64, uint64_t, htole64)
#undef BYTES_STORE

/* True and *ret set when the result fits 64 bits; false and *ret untouched when not. */
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum)) {
		return false;
	}
	*ret = sum;
	return true;
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product)) {
		return false;
	}
	*ret = product;
	return true;
}

/* Whether [off, off + len) lies within [0, size). An empty range at the very end does. */
static inline bool range_within(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline bool is_pow2(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* @align is a power of two. round_up() must not overflow: callers bound @n first. */
static inline uint64_t round_down(uint64_t n, uint64_t align)
{
	return n & ~(align - 1);
}

static inline uint64_t round_up(uint64_t n, uint64_t align)
{
	return round_down(n + align - 1, align);
}

static inline uint64_t div_round_up(uint64_t n, uint64_t d)
{
	return n / d + (n % d != 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Whether all @len bytes are zero. Comparing the buffer with itself, shifted, runs at memcmp speed.
 */
static inline bool is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t head = len < 16 ? len : 16;

	for (size_t i = 0; i < head; i++) {
		if (p[i]) {
			return false;
		}
	}
	return len <= 16 || memcmp(p, p + 16, len - 16) == 0;
}

/* @len bytes, up to the first that is 0, as a string; malloc()ed, NULL without memory. As
 * strndup(), of which checkers say that it wants a string. */
static inline char *bytes_text(const void *bytes, size_t len)
{
	const void *end = len > 0 ? memchr(bytes, 0, len) : NULL;
	size_t n = end ? (size_t)((const char *)end - (const char *)bytes) : len;
	char *text = (char *)malloc(n + 1);

	if (text) {
		if (n > 0) {
			memcpy(text, bytes, n);
		}
		text[n] = '\0';
	}
	return text;
}

#endif
