/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the records of extended headers. Pure. */
#include "formats/tar_pax.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

/* One record; not NUL-terminated. */
struct record {
	const char *key;
	size_t key_len;
	const char *value;
	size_t value_len;
};

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "a PAX header of the tar archive is broken: %s", what);
}

/* Digits up to @len or @stop; how many there are, 0 when it is no number of 64 bits. */
static size_t decimal(const char *p, size_t len, uint64_t *ret)
{
	uint64_t value = 0;
	size_t n = 0;

	for (; n < len && p[n] >= '0' && p[n] <= '9'; n++) {
		if (!checked_mul(value, 10, &value) ||
			!checked_add(value, (uint64_t)(p[n] - '0'), &value)) {
			return 0;
		}
	}
	if (n > 0) {
		*ret = value;
	}
	return n;
}

/* Takes the record at the front of @len bytes; how many bytes it has. */
static int take_record(const char *buf, size_t len, struct record *ret, struct err *e)
{
	uint64_t total = 0;
	size_t digits = decimal(buf, len, &total);
	const char *equals;

	if (digits == 0 || digits >= len || buf[digits] != ' ' || total > len ||
		total < digits + 3 || buf[total - 1] != '\n') {
		return broken(e, "the length of a record is wrong");
	}
	ret->key = buf + digits + 1;
	equals = memchr(ret->key, '=', total - digits - 2);
	if (!equals || equals == ret->key) {
		return broken(e, "a record has no keyword");
	}
	ret->key_len = (size_t)(equals - ret->key);
	ret->value = equals + 1;
	ret->value_len = (size_t)(buf + total - 1 - ret->value);
	return (int)total;
}

static bool is_key(const struct record *r, const char *key)
{
	return r->key_len == strlen(key) && memcmp(r->key, key, r->key_len) == 0;
}

static int set_text(const struct record *r, char **text, struct err *e)
{
	char *copy = NULL;

	if (memchr(r->value, '\0', r->value_len)) {
		return broken(e, "a name contains NUL");
	}
	if (r->value_len > 0) {
		copy = bytes_text(r->value, r->value_len);
		if (!copy) {
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	free(*text);
	*text = copy;
	return 0;
}

static int set_number(const struct record *r, bool *has, uint64_t *number, struct err *e)
{
	*has = r->value_len > 0;
	if (*has && decimal(r->value, r->value_len, number) != r->value_len) {
		return broken(e, "a size or an offset is not a number");
	}
	return 0;
}

/* 0.1: "OFFSET,LENGTH,OFFSET,LENGTH..." */
static int set_map(const struct record *r, struct tar_pax *pax, struct err *e)
{
	const char *p = r->value;
	const char *end = p + r->value_len;

	tar_map_clear(&pax->map);
	pax->has_map = r->value_len > 0;
	while (p < end) {
		uint64_t pair[2] = { 0, 0 };
		int err;

		for (unsigned int i = 0; i < 2; i++) {
			size_t n = decimal(p, (size_t)(end - p), &pair[i]);

			p += n;
			if (n == 0 || (p < end && *p != ',') || (p == end && i == 0)) {
				return broken(e, "GNU.sparse.map is not a list of pairs");
			}
			p += p < end;
		}
		err = tar_map_add(&pax->map, pair[0], pair[1], e);
		if (err < 0) {
			return err;
		}
	}
	return 0;
}

/* 0.0: an offset and a length in a record each. */
static int add_length(const struct record *r, struct tar_pax *pax, struct err *e)
{
	bool has = false;
	uint64_t length = 0;
	int err = set_number(r, &has, &length, e);

	if (err < 0) {
		return err;
	}
	if (!has || !pax->has_piece) {
		return broken(e, "GNU.sparse.numbytes without GNU.sparse.offset");
	}
	pax->has_piece = false;
	pax->has_map = true;
	return tar_map_add(&pax->map, pax->piece, length, e);
}

static int note_sparse(const struct record *r, struct tar_pax *pax, struct err *e)
{
	bool has;

	if (is_key(r, "GNU.sparse.name")) {
		return set_text(r, &pax->sparse_name, e);
	}
	if (is_key(r, "GNU.sparse.size") || is_key(r, "GNU.sparse.realsize")) {
		return set_number(r, &pax->has_real_size, &pax->real_size, e);
	}
	if (is_key(r, "GNU.sparse.major")) {
		return set_number(r, &has, &pax->major, e);
	}
	if (is_key(r, "GNU.sparse.minor")) {
		return set_number(r, &has, &pax->minor, e);
	}
	if (is_key(r, "GNU.sparse.map")) {
		return set_map(r, pax, e);
	}
	if (is_key(r, "GNU.sparse.offset")) {
		return set_number(r, &pax->has_piece, &pax->piece, e);
	}
	if (is_key(r, "GNU.sparse.numbytes")) {
		return add_length(r, pax, e);
	}
	return 0;
}

static int note(const struct record *r, struct tar_pax *pax, struct err *e)
{
	if (is_key(r, "path")) {
		return set_text(r, &pax->path, e);
	}
	if (is_key(r, "linkpath")) {
		return set_text(r, &pax->link, e);
	}
	if (is_key(r, "size")) {
		return set_number(r, &pax->has_size, &pax->size, e);
	}
	return note_sparse(r, pax, e);
}

int tar_pax_parse(const char *buf, size_t len, struct tar_pax *pax, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		struct record r;
		int n = take_record(buf + at, len - at, &r, e);

		if (n < 0) {
			return n;
		}
		at += (size_t)n;
		n = note(&r, pax, e);
		if (n < 0) {
			return n;
		}
	}
	return 0;
}

int tar_pax_check_global(const char *buf, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		struct record r;
		int n = take_record(buf + at, len - at, &r, e);

		if (n < 0) {
			return n;
		}
		at += (size_t)n;
		if (is_key(&r, "path") || is_key(&r, "linkpath") || is_key(&r, "size") ||
			(r.key_len > 11 && memcmp(r.key, "GNU.sparse.", 11) == 0)) {
			return err_set(e, -ENOTSUP,
				"the tar archive has a global PAX header that sets '%.*s' for all "
				"entries, which is not supported",
				(int)min_u64(r.key_len, 40), r.key);
		}
	}
	return 0;
}

void tar_pax_clear(struct tar_pax *pax)
{
	free(pax->path);
	free(pax->link);
	free(pax->sparse_name);
	tar_map_clear(&pax->map);
	*pax = (struct tar_pax){ 0 };
}
