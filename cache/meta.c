/* SPDX-License-Identifier: Apache-2.0 */
/* The file `meta` of an object: lines of key=value, the checksum of all before it as the last one.
 * Values are percent-encoded, so that a value is one line whatever a server put into it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cache/atfile.h"
#include "cache/cache.h"
#include "cache/store.h"
#include "core/cleanup.h"

#define META_MAX   ((size_t)1 << 20)
#define META_TITLE "lazydisk-object 1"
#define SUM_LINE   "xxh3="

static void put_escaped(FILE *f, const char *name, const char *value)
{
	fprintf(f, "%s=", name);
	for (const char *p = value; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 0x21 || c == '%' || c >= 0x7f) {
			fprintf(f, "%%%02X", c);
		} else {
			fputc(c, f);
		}
	}
	fputc('\n', f);
}

int store_meta_write(int dirfd, const struct store_meta *m, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	bool failed;

	if (!f) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	fprintf(f, META_TITLE "\n");
	put_escaped(f, "key", m->key);
	put_escaped(f, "id", m->id);
	fprintf(f, "size=%" PRIu64 "\ngranule=%u\ngen=%016" PRIx64 "\n", m->size, CACHE_GRANULE,
		m->gen);
	failed = fflush(f) != 0;
	if (!failed) {
		fprintf(f, SUM_LINE "%016llx\n", (unsigned long long)XXH3_64bits(text, len));
	}
	failed |= ferror(f) != 0;
	failed |= fclose(f) != 0;
	return failed ? err_set(e, -ENOMEM, "out of memory")
		      : atfile_replace(dirfd, "meta", text, len, e);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789ABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

static char *unescape(const char *value)
{
	char *out = malloc(strlen(value) + 1);
	char *w = out;

	while (out && *value) {
		int high = *value == '%' ? hex_digit(value[1]) : -1;
		int low = high >= 0 ? hex_digit(value[2]) : -1;

		if (low >= 0) {
			*w++ = (char)(high * 16 + low);
			value += 3;
		} else {
			*w++ = *value++;
		}
	}
	if (out) {
		*w = '\0';
	}
	return out;
}

static bool parse_number(const char *text, int base, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, base);
	if (errno || end == text || *end || *text == '-') {
		return false;
	}
	*ret = v;
	return true;
}

static bool checksum_holds(char *text, size_t len)
{
	char *line =
		len > 0 && memchr(text, '\0', len) == NULL ? strstr(text, "\n" SUM_LINE) : NULL;
	char want[32];

	if (!line) {
		return false;
	}
	line++;
	snprintf(want, sizeof(want), SUM_LINE "%016llx\n",
		(unsigned long long)XXH3_64bits(text, (size_t)(line - text)));
	if (strcmp(line, want) != 0) {
		return false;
	}
	*line = '\0';
	return true;
}

static bool take_line(struct store_meta *m, const char *name, const char *value, unsigned int *seen)
{
	uint64_t granule;
	bool fine = true;

	if (strcmp(name, "key") == 0 && !m->key) {
		m->key = unescape(value);
		fine = m->key != NULL;
		*seen |= 1U;
	} else if (strcmp(name, "id") == 0 && !m->id) {
		m->id = unescape(value);
		fine = m->id != NULL;
		*seen |= 2U;
	} else if (strcmp(name, "size") == 0) {
		fine = parse_number(value, 10, &m->size);
		*seen |= 4U;
	} else if (strcmp(name, "gen") == 0) {
		fine = parse_number(value, 16, &m->gen);
		*seen |= 8U;
	} else if (strcmp(name, "granule") == 0) {
		fine = parse_number(value, 10, &granule) && granule == CACHE_GRANULE;
		*seen |= 16U;
	}
	return fine;
}

static bool parse(char *text, struct store_meta *m)
{
	unsigned int seen = 0;
	char *save = NULL;
	char *line = strtok_r(text, "\n", &save);

	if (!line || strcmp(line, META_TITLE) != 0) {
		return false;
	}
	while ((line = strtok_r(NULL, "\n", &save))) {
		char *value = strchr(line, '=');

		if (!value) {
			return false;
		}
		*value++ = '\0';
		if (!take_line(m, line, value, &seen)) {
			return false;
		}
	}
	return seen == 31U;
}

int store_meta_read(int dirfd, struct store_meta *ret, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	struct store_meta m = { 0 };
	size_t len;
	int r = atfile_read(dirfd, "meta", META_MAX, &text, &len, e);

	if (r < 0) {
		return r;
	}
	if (!checksum_holds(text, len) || !parse(text, &m)) {
		store_meta_clear(&m);
		return err_set(e, -EBADMSG, "cache: the file meta of an object is damaged");
	}
	*ret = m;
	return 0;
}

void store_meta_clear(struct store_meta *m)
{
	free(m->key);
	free(m->id);
	m->key = NULL;
	m->id = NULL;
}
