/* SPDX-License-Identifier: Apache-2.0 */
/* A scanner that never goes back; whatever is wrong ends it. */
#include "formats/jscan.h"

#include <string.h>

#include "core/bytes.h"

void jscan_init(struct jscan *j, const char *text, size_t len)
{
	*j = (struct jscan){ .p = text, .end = text + len };
}

bool jscan_failed(const struct jscan *j)
{
	return j->failed;
}

static void fail(struct jscan *j)
{
	j->failed = true;
	j->p = j->end;
}

/* The next character that is no white space; '\0' at the end. */
static char peek(struct jscan *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) {
		j->p++;
	}
	return j->p < j->end ? *j->p : '\0';
}

bool jscan_at_end(struct jscan *j)
{
	return peek(j) == '\0' && j->p == j->end;
}

static void expect(struct jscan *j, char c)
{
	if (peek(j) == c && j->p < j->end) {
		j->p++;
	} else {
		fail(j);
	}
}

void jscan_object(struct jscan *j)
{
	expect(j, '{');
}

void jscan_array(struct jscan *j)
{
	expect(j, '[');
}

/* Whether another one follows in what ends with @close. */
static bool another(struct jscan *j, bool *first, char close)
{
	char c = peek(j);
	bool was_first = *first;

	*first = false;
	if (c == close) {
		j->p++;
		return false;
	}
	if (!was_first) {
		expect(j, ',');
		if (peek(j) == close) {
			fail(j);
		}
	}
	if (j->p == j->end) {
		fail(j);
	}
	return !j->failed;
}

bool jscan_element(struct jscan *j, bool *first)
{
	return another(j, first, ']');
}

bool jscan_member(struct jscan *j, bool *first, char *name, size_t room)
{
	if (!another(j, first, '}')) {
		return false;
	}
	jscan_string(j, name, room);
	expect(j, ':');
	return !j->failed;
}

/* Four hexadecimal digits. */
static uint32_t hex4(struct jscan *j)
{
	uint32_t value = 0;

	if (j->end - j->p < 4) {
		fail(j);
		return 0;
	}
	for (unsigned int i = 0; i < 4; i++) {
		char c = *j->p++;

		value <<= 4;
		if (c >= '0' && c <= '9') {
			value |= (uint32_t)(c - '0');
		} else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
			value |= (uint32_t)((c | 0x20) - 'a' + 10);
		} else {
			fail(j);
			return 0;
		}
	}
	return value;
}

/* What follows "\u": one character, of which two escapes may be the halves. */
static uint32_t unicode(struct jscan *j)
{
	uint32_t c = hex4(j);
	uint32_t low;

	if (c < 0xd800 || c > 0xdfff) {
		return c;
	}
	if (c > 0xdbff || j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u') {
		fail(j);
		return 0;
	}
	j->p += 2;
	low = hex4(j);
	if (low < 0xdc00 || low > 0xdfff) {
		fail(j);
		return 0;
	}
	return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* Receives a string and counts what does not fit, too. */
struct out {
	char *p;
	size_t room;
	size_t n;
};

static void put(struct out *o, uint32_t byte)
{
	if (o->n + 1 < o->room) {
		o->p[o->n] = (char)byte;
	}
	o->n++;
}

static void put_utf8(struct out *o, uint32_t c)
{
	if (c < 0x80) {
		put(o, c);
	} else if (c < 0x800) {
		put(o, 0xc0 | c >> 6);
		put(o, 0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		put(o, 0xe0 | c >> 12);
		put(o, 0x80 | (c >> 6 & 0x3f));
		put(o, 0x80 | (c & 0x3f));
	} else {
		put(o, 0xf0 | c >> 18);
		put(o, 0x80 | (c >> 12 & 0x3f));
		put(o, 0x80 | (c >> 6 & 0x3f));
		put(o, 0x80 | (c & 0x3f));
	}
}

/* What follows a backslash. */
static void escape(struct jscan *j, struct out *o)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	char c = j->p < j->end ? *j->p++ : '\0';
	const char *at = c ? strchr(from, c) : NULL;
	uint32_t u;

	if (at) {
		put(o, (uint32_t)to[at - from]);
		return;
	}
	u = c == 'u' ? unicode(j) : 0;
	if (u == 0) {
		fail(j);
		return;
	}
	put_utf8(o, u);
}

size_t jscan_string(struct jscan *j, char *ret, size_t room)
{
	struct out o = { .p = ret, .room = room };

	expect(j, '"');
	while (!j->failed) {
		unsigned char c = j->p < j->end ? (unsigned char)*j->p++ : 0;

		if (c == '"') {
			break;
		}
		if (c < 0x20) {
			fail(j);
		} else if (c == '\\') {
			escape(j, &o);
		} else {
			put(&o, c);
		}
	}
	if (room > 0) {
		ret[j->failed ? 0 : min_u64(o.n, room - 1)] = '\0';
	}
	return j->failed ? 0 : o.n;
}

uint64_t jscan_number(struct jscan *j)
{
	uint64_t value = 0;
	const char *from;

	peek(j);
	from = j->p;
	while (j->p < j->end && *j->p >= '0' && *j->p <= '9') {
		if (!checked_mul(value, 10, &value) ||
			!checked_add(value, (uint64_t)(*j->p - '0'), &value) || value > INT64_MAX) {
			fail(j);
			return 0;
		}
		j->p++;
	}
	if (j->p == from || (j->p < j->end && strchr(".eE+-", *j->p)) ||
		(*from == '0' && j->p - from > 1)) {
		fail(j);
		return 0;
	}
	return value;
}

/* true, false, null, or any number: what they are does not matter. */
static void skip_word(struct jscan *j)
{
	const char *from = j->p;

	while (j->p < j->end && *j->p && !strchr(",:]}[{\" \t\r\n", *j->p)) {
		j->p++;
	}
	if (j->p == from) {
		fail(j);
	}
}

void jscan_skip(struct jscan *j)
{
	char closes[JSCAN_DEPTH_MAX];
	bool first[JSCAN_DEPTH_MAX];
	unsigned int depth = 0;

	do {
		char c = peek(j);

		if (c == '{' || c == '[') {
			if (depth == JSCAN_DEPTH_MAX) {
				fail(j);
				return;
			}
			j->p++;
			closes[depth] = c == '{' ? '}' : ']';
			first[depth++] = true;
		} else if (c == '"') {
			jscan_string(j, NULL, 0);
		} else {
			skip_word(j);
		}
		while (depth > 0 && !j->failed) {
			bool member = closes[depth - 1] == '}';

			if (member ? jscan_member(j, &first[depth - 1], NULL, 0)
				   : jscan_element(j, &first[depth - 1])) {
				break;
			}
			depth--;
		}
	} while (depth > 0 && !j->failed);
}
