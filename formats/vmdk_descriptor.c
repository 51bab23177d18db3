/* SPDX-License-Identifier: Apache-2.0 */
/* Line by line: KEY=VALUE, or an extent. */
#include "formats/vmdk_descriptor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/qcow2_header.h"

#define SECTOR    512U
#define NO_PARENT 0xffffffffU

struct parser {
	struct vmdk_descriptor *d;
	bool with_extents;
	unsigned int line;
	uint32_t parent;
	char hint[256]; /* printable */
};

static int bad_line(const struct parser *p, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "vmdk descriptor, line %u: %s", p->line, what);
}

/* If @line is KEY = VALUE: its value without quotes, in @room bytes at @ret, as printable text. */
static bool value_of(const char *line, const char *key, char *ret, size_t room)
{
	size_t n = strlen(key);
	char value[256];
	size_t len;

	if (strncasecmp(line, key, n) != 0) {
		return false;
	}
	line += n;
	line += strspn(line, " \t");
	if (*line++ != '=') {
		return false;
	}
	line += strspn(line, " \t");
	len = *line == '"' ? strcspn(++line, "\"") : strcspn(line, " \t");
	snprintf(value, sizeof(value), "%.*s", (int)(len < sizeof(value) ? len : sizeof(value) - 1),
		line);
	qcow2_header_safe_name(value, ret, room);
	return true;
}

/* The next word of *line, which moves behind it. */
static bool word(char **line, char *ret, size_t room)
{
	char *start = *line + strspn(*line, " \t");
	size_t n = strcspn(start, " \t");

	if (n == 0 || n >= room) {
		return false;
	}
	memcpy(ret, start, n);
	ret[n] = '\0';
	*line = start + n;
	return true;
}

static bool number(char **line, uint64_t *ret)
{
	char text[24];
	char *end;

	if (!word(line, text, sizeof(text)) || text[0] < '0' || text[0] > '9') {
		return false;
	}
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && !*end;
}

static bool quoted(char **line, char *ret, size_t room)
{
	char *start = *line + strspn(*line, " \t");
	size_t n;

	if (*start++ != '"') {
		return false;
	}
	n = strcspn(start, "\"");
	if (n == 0 || n >= room || start[n] != '"') {
		return false;
	}
	memcpy(ret, start, n);
	ret[n] = '\0';
	*line = start + n + 1;
	return true;
}

static int kind_of(
	const struct parser *p, const char *type, enum vmdk_extent_kind *ret, struct err *e)
{
	char safe[64];

	if (strcmp(type, "FLAT") == 0 || strcmp(type, "VMFS") == 0) {
		*ret = VMDK_FLAT;
	} else if (strcmp(type, "SPARSE") == 0) {
		*ret = VMDK_SPARSE;
	} else if (strcmp(type, "ZERO") == 0) {
		*ret = VMDK_ZEROS;
	} else {
		qcow2_header_safe_name(type, safe, sizeof(safe));
		return err_set(e, -ENOTSUP,
			"vmdk descriptor, line %u: extents of type %s are not supported", p->line,
			safe);
	}
	return 0;
}

static int add_extent(struct parser *p, const struct vmdk_extent *x, struct err *e)
{
	struct vmdk_descriptor *d = p->d;
	uint64_t size;
	void *more;

	if (!checked_add(d->size, x->size, &size) || size > INT64_MAX) {
		return bad_line(p, "the disk is too big", e);
	}
	if (d->count == VMDK_EXTENTS_MAX) {
		return err_set(e, -ENOTSUP, "more than %u extents", VMDK_EXTENTS_MAX);
	}
	more = realloc(d->extents, (d->count + 1) * sizeof(*d->extents));
	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	d->extents = more;
	d->extents[d->count++] = *x;
	d->size = size;
	return 0;
}

/* ACCESS SIZE TYPE ["NAME" [OFFSET]], sizes in sectors */
static int parse_extent(struct parser *p, char *line, struct err *e)
{
	struct vmdk_extent x = { 0 };
	char type[32];
	char name[VMDK_NAME_MAX + 1];
	uint64_t sectors = 0;
	uint64_t offset = 0;
	int r;

	if (!number(&line, &sectors) || sectors == 0 || !word(&line, type, sizeof(type)) ||
		!checked_mul(sectors, SECTOR, &x.size)) {
		return bad_line(p, "invalid extent", e);
	}
	r = kind_of(p, type, &x.kind, e);
	if (r < 0) {
		return r;
	}
	if (x.kind != VMDK_ZEROS && !quoted(&line, name, sizeof(name))) {
		return bad_line(p, "an extent names no file", e);
	}
	if (x.kind == VMDK_FLAT && line[strspn(line, " \t")] &&
		(!number(&line, &offset) || !checked_mul(offset, SECTOR, &x.offset))) {
		return bad_line(p, "invalid offset of an extent", e);
	}
	if (x.kind != VMDK_ZEROS) {
		x.name = strdup(name);
		if (!x.name) {
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	r = add_extent(p, &x, e);
	if (r < 0) {
		free(x.name);
	}
	return r;
}

static int parse_line(struct parser *p, char *line, struct err *e)
{
	char value[64];
	char access[16];
	char *rest = line;

	line += strspn(line, " \t");
	if (*line == '#' || !*line || value_of(line, "createType", p->d->type, 64) ||
		value_of(line, "parentFileNameHint", p->hint, sizeof(p->hint))) {
		return 0;
	}
	if (value_of(line, "parentCID", value, sizeof(value))) {
		p->parent = (uint32_t)strtoul(value, NULL, 16);
		return 0;
	}
	if (!p->with_extents || !word(&rest, access, sizeof(access))) {
		return 0;
	}
	if (strcmp(access, "NOACCESS") == 0) {
		return err_set(e, -ENOTSUP,
			"vmdk descriptor, line %u: the extent must not be accessed", p->line);
	}
	if (strcmp(access, "RW") == 0 || strcmp(access, "RDONLY") == 0) {
		return parse_extent(p, rest, e);
	}
	return 0;
}

static int check_type(const struct vmdk_descriptor *d, struct err *e)
{
	static const char *const known[] = { "monolithicFlat", "monolithicSparse",
		"twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "streamOptimized", "vmfs" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(d->type, known[i]) == 0) {
			return 0;
		}
	}
	return err_set(e, d->type[0] ? -ENOTSUP : -EBADMSG,
		d->type[0] ? "vmdk images of type %s are not supported"
			   : "vmdk descriptor: no createType%s",
		d->type);
}

static int check(const struct parser *p, struct err *e)
{
	int r = p->with_extents ? check_type(p->d, e) : 0;

	if (r < 0) {
		return r;
	}
	if (p->parent != NO_PARENT) {
		return err_set(e, -ENOTSUP,
			"the image is only what changed over its parent \"%s\" (a vmdk with a "
			"parentCID), which is not supported",
			p->hint);
	}
	if (p->with_extents && p->d->count == 0) {
		return err_set(e, -EBADMSG, "vmdk descriptor: there are no extents");
	}
	return 0;
}

int vmdk_descriptor_parse(
	const char *text, size_t len, bool with_extents, struct vmdk_descriptor *ret, struct err *e)
{
	struct parser p = { .d = ret, .with_extents = with_extents, .parent = NO_PARENT };
	CLEANUP_FREE char *copy = bytes_text(text, len);
	char *next = copy;
	int r = 0;

	*ret = (struct vmdk_descriptor){ 0 };
	if (!copy) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while (r == 0 && next) {
		char *line = strsep(&next, "\n");

		line[strcspn(line, "\r")] = '\0';
		p.line++;
		r = parse_line(&p, line, e);
	}
	return r < 0 ? r : check(&p, e);
}

void vmdk_descriptor_clear(struct vmdk_descriptor *d)
{
	for (size_t i = 0; i < d->count; i++) {
		free(d->extents[i].name);
	}
	free(d->extents);
	*d = (struct vmdk_descriptor){ 0 };
}
