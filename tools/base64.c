/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 of text. */
#include "tools/base64.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* -1: no digit of base64 (RFC 4648, section 4) */
static int digit_value(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

char *base64_decode_text(const char *text)
{
	char *out = malloc(strlen(text) + 1);
	uint32_t bits = 0;
	unsigned int count = 0;
	size_t n = 0;

	if (!out) {
		return NULL;
	}
	for (; *text && *text != '='; text++) {
		int digit = digit_value(*text);

		if (*text == '\n' || *text == '\r' || *text == ' ') {
			continue;
		}
		if (digit < 0) {
			goto bad;
		}
		bits = bits << 6 | (uint32_t)digit;
		if (++count % 4 != 1) {
			out[n] = (char)(bits >> (count % 4 == 2 ? 4 : count % 4 == 3 ? 2 : 0));
			if (!out[n++]) {
				goto bad;
			}
		}
	}
	if (count % 4 == 1 || strspn(text, "=\r\n ") != strlen(text)) {
		goto bad;
	}
	out[n] = '\0';
	return out;
bad:
	explicit_bzero(out, n);
	free(out);
	return NULL;
}
