/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, forth and back. */
#include "core/base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -1: no digit of base64 */
static int digit_value(char c)
{
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* Decodes into @out, which has room; how many bytes, or -1. */
static ptrdiff_t decode(const char *text, char *out)
{
	uint32_t bits = 0;
	unsigned int count = 0;
	ptrdiff_t n = 0;

	for (; *text && *text != '='; text++) {
		int digit = digit_value(*text);

		if (*text == '\n' || *text == '\r' || *text == ' ') {
			continue;
		}
		if (digit < 0) {
			return -1;
		}
		bits = bits << 6 | (uint32_t)digit;
		if (++count % 4 != 1) {
			out[n++] = (char)(bits >> (count % 4 == 2 ? 4 : count % 4 == 3 ? 2 : 0));
		}
	}
	return count % 4 == 1 || strspn(text, "=\r\n ") != strlen(text) ? -1 : n;
}

char *base64_decode(const char *text, size_t *ret_len)
{
	size_t room = strlen(text) + 1;
	char *out = malloc(room);
	ptrdiff_t n = out ? decode(text, out) : -1;

	if (n < 0) {
		if (out) {
			explicit_bzero(out, room);
		}
		free(out);
		return NULL;
	}
	out[n] = '\0';
	*ret_len = (size_t)n;
	return out;
}

char *base64_decode_text(const char *text)
{
	size_t len = 0;
	char *out = base64_decode(text, &len);

	if (out && strlen(out) != len) {
		explicit_bzero(out, len);
		free(out);
		return NULL;
	}
	return out;
}

char *base64_encode(const void *data, size_t len)
{
	const uint8_t *in = data;
	char *ret = malloc((len + 2) / 3 * 4 + 1);
	char *out = ret;

	for (size_t i = 0; ret && i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t bits = (uint32_t)in[i] << 16 | (n > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
				(n > 2 ? in[i + 2] : 0);

		*out++ = digits[bits >> 18];
		*out++ = digits[bits >> 12 & 63];
		*out++ = n > 1 ? digits[bits >> 6 & 63] : '=';
		*out++ = n > 2 ? digits[bits & 63] : '=';
	}
	if (ret) {
		*out = '\0';
	}
	return ret;
}
