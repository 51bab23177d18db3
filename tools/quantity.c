/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of sizes, times and counts. */
#include "tools/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"

/* A number as it is read: mantissa x 10^tens x 2^twos. */
struct number {
	uint64_t mantissa;
	int tens;
	unsigned int twos;
};

static const struct suffix {
	const char *text;
	int tens;
	unsigned int twos;
} suffixes[] = {
	{ "", 0, 0 },
	{ "n", -9, 0 },
	{ "u", -6, 0 },
	{ "m", -3, 0 },
	{ "k", 3, 0 },
	{ "M", 6, 0 },
	{ "G", 9, 0 },
	{ "T", 12, 0 },
	{ "P", 15, 0 },
	{ "E", 18, 0 },
	{ "Ki", 0, 10 },
	{ "Mi", 0, 20 },
	{ "Gi", 0, 30 },
	{ "Ti", 0, 40 },
	{ "Pi", 0, 50 },
	{ "Ei", 0, 60 },
};

static int not_a_quantity(const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len > 1 && text[len - 1] == 'K') {
		return err_set(
			e, -EINVAL, "'%s' is not a quantity: write Ki (1024) or k (1000)", text);
	}
	return err_set(
		e, -EINVAL, "'%s' is not a quantity: write it like 10Gi, 500M or 1073741824", text);
}

/* Digits with at most one point among them. Returns what follows, or NULL when there is no digit;
 * *overflow when the digits do not fit. */
static const char *read_digits(const char *p, struct number *n, bool *overflow)
{
	bool point = false;
	bool any = false;

	for (;; p++) {
		if (*p == '.' && !point) {
			point = true;
			continue;
		}
		if (!isdigit((unsigned char)*p)) {
			return any ? p : NULL;
		}
		any = true;
		if (!checked_mul(n->mantissa, 10, &n->mantissa) ||
			!checked_add(n->mantissa, (uint64_t)(*p - '0'), &n->mantissa)) {
			*overflow = true;
		}
		n->tens -= point ? 1 : 0;
	}
}

/* "e3", "E-3", "e+3"; a lone E is the suffix exa. */
static bool read_exponent(const char *p, struct number *n)
{
	bool negative;
	int value = 0;

	if (*p != 'e' && *p != 'E') {
		return false;
	}
	p++;
	negative = *p == '-';
	p += *p == '-' || *p == '+';
	if (!*p || strlen(p) > 3) {
		return false;
	}
	for (; *p; p++) {
		if (!isdigit((unsigned char)*p)) {
			return false;
		}
		value = value * 10 + (*p - '0');
	}
	n->tens += negative ? -value : value;
	return true;
}

static bool read_suffix(const char *p, struct number *n)
{
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		if (strcmp(p, suffixes[i].text) == 0) {
			n->tens += suffixes[i].tens;
			n->twos = suffixes[i].twos;
			return true;
		}
	}
	return read_exponent(p, n);
}

/* False when the result needs more than 64 bits. */
static bool to_bytes(const struct number *n, uint64_t *ret)
{
	unsigned __int128 value = (unsigned __int128)n->mantissa << n->twos;
	bool cut = false;

	if (value == 0) {
		*ret = 0;
		return true;
	}
	for (int i = n->tens; i < 0 && value > 0; i++) {
		cut = cut || value % 10 != 0;
		value /= 10;
	}
	for (int i = 0; i < n->tens && value <= UINT64_MAX; i++) {
		value *= 10;
	}
	value += cut ? 1 : 0;
	if (value > UINT64_MAX) {
		return false;
	}
	*ret = (uint64_t)value;
	return true;
}

int quantity_parse(const char *text, uint64_t *ret, struct err *e)
{
	struct number n = { 0 };
	bool overflow = false;
	const char *p = text;

	if (*p == '-') {
		return err_set(e, -EINVAL, "'%s' is negative", text);
	}
	p += *p == '+';
	p = read_digits(p, &n, &overflow);
	if (!p || !read_suffix(p, &n)) {
		return not_a_quantity(text, e);
	}
	if (overflow || !to_bytes(&n, ret)) {
		return err_set(e, -ERANGE, "'%s' is too large", text);
	}
	return 0;
}

char *quantity_format(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
	size_t unit = 0;

	while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, QUANTITY_MAX, "%" PRIu64 "%s", bytes, units[unit]);
	return buf;
}

/* The digits at the start of @text; returns what follows, or NULL for none or too many. */
static const char *read_count(const char *text, uint64_t *ret)
{
	uint64_t value = 0;
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 10) {
		return NULL;
	}
	for (size_t i = 0; i < digits; i++) {
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	*ret = value;
	return text + digits;
}

int quantity_parse_seconds(const char *text, unsigned int *ret, struct err *e)
{
	uint64_t value = 0;
	const char *unit = read_count(text, &value);

	if (unit && strcmp(unit, "m") == 0) {
		value *= 60;
	} else if (unit && strcmp(unit, "h") == 0) {
		value *= 3600;
	} else if (!unit || (*unit && strcmp(unit, "s") != 0)) {
		return err_set(
			e, -EINVAL, "'%s' is not a time: write seconds, or like 2m or 1h", text);
	}
	if (value == 0 || value > 365 * 24 * 3600) {
		return err_set(e, -ERANGE, "'%s' is not between a second and a year", text);
	}
	*ret = (unsigned int)value;
	return 0;
}

int quantity_parse_count(
	const char *text, unsigned int min, unsigned int max, unsigned int *ret, struct err *e)
{
	uint64_t value = 0;
	const char *end = read_count(text, &value);

	if (!end || *end || value < min || value > max) {
		return err_set(e, -EINVAL, "'%s' is not a number from %u to %u", text, min, max);
	}
	*ret = (unsigned int)value;
	return 0;
}
