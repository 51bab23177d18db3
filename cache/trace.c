/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a boot, what several boots have in common, and which requests fetch it. */
#include "cache/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "cache/cache.h"
#include "core/bytes.h"

#define MAGIC       "LZDTRACE"
#define LAYOUT      1U
#define HEAD_BYTES  40U
#define ENTRY_BYTES 12U
#define SUM_BYTES   8U
/* A boot that touched less than one in so many of the usual granules was none. */
#define BOOT_SHARE 4U

const char *trace_version(const char *id)
{
	const char *blank = strchr(id, ' ');

	return blank ? blank + 1 : id;
}

void trace_clear(struct trace *t)
{
	free(t->version);
	free(t->entries);
	*t = (struct trace){ 0 };
}

bool trace_fits(const struct trace *t, const char *id, uint64_t size)
{
	return t->size == size && strcmp(t->version, trace_version(id)) == 0;
}

bool trace_is_usual(const struct trace *t, const struct trace_entry *x)
{
	return 2 * x->boots >= t->boots;
}

/* --- the record --- */

static int damaged(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "the boot trace is damaged: %s", what);
}

/* The fixed part, and whether all of it is here. */
static int parse_head(
	const uint8_t *p, size_t len, struct trace *ret, size_t *ret_text, struct err *e)
{
	uint64_t text;

	if (len < HEAD_BYTES + SUM_BYTES || memcmp(p, MAGIC, 8) != 0) {
		return err_set(e, -EINVAL, "it is no boot trace");
	}
	if (load_le32(p + 8) != LAYOUT) {
		return err_set(e, -ENOTSUP, "the boot trace is of layout %u, which is not known",
			load_le32(p + 8));
	}
	if (load_le64(p + len - SUM_BYTES) != XXH3_64bits(p, len - SUM_BYTES)) {
		return damaged(e, "its checksum is wrong");
	}
	ret->size = load_le64(p + 16);
	ret->boots = load_le32(p + 24);
	ret->count = load_le32(p + 28);
	text = load_le32(p + 32);
	if (load_le32(p + 12) != CACHE_GRANULE ||
		ret->size > (uint64_t)UINT32_MAX * CACHE_GRANULE || ret->boots == 0 ||
		ret->boots > TRACE_BOOTS_MAX || ret->count > TRACE_ENTRIES_MAX ||
		text > TRACE_VERSION_MAX) {
		return damaged(e, "its head is impossible");
	}
	if (len != HEAD_BYTES + text + ret->count * ENTRY_BYTES + SUM_BYTES) {
		return damaged(e, "its length is wrong");
	}
	*ret_text = text;
	return 0;
}

static bool parse_entries(const uint8_t *p, const struct trace *t)
{
	uint64_t granules = div_round_up(t->size, CACHE_GRANULE);

	for (size_t i = 0; i < t->count; i++, p += ENTRY_BYTES) {
		struct trace_entry *x = &t->entries[i];

		*x = (struct trace_entry){ load_le32(p), load_le32(p + 4), load_le32(p + 8) };
		if (x->granule >= granules || x->boots == 0 || x->boots > t->boots ||
			(i > 0 && x->ms < x[-1].ms)) {
			return false;
		}
	}
	return true;
}

int trace_parse(const void *data, size_t len, struct trace *ret, struct err *e)
{
	const uint8_t *p = data;
	struct trace t = { 0 };
	size_t text = 0;
	int r = parse_head(p, len, &t, &text, e);

	if (r < 0) {
		return r;
	}
	t.version = bytes_text(p + HEAD_BYTES, text);
	t.entries = calloc(t.count ? t.count : 1, sizeof(*t.entries));
	if (!t.version || !t.entries) {
		r = err_set(e, -ENOMEM, "out of memory");
	} else if (!parse_entries(p + HEAD_BYTES + text, &t)) {
		r = damaged(e, "an entry is impossible");
	}
	if (r < 0) {
		trace_clear(&t);
		return r;
	}
	*ret = t;
	return 0;
}

int trace_format(const struct trace *t, void **ret, size_t *ret_len, struct err *e)
{
	size_t text = strnlen(t->version, TRACE_VERSION_MAX);
	size_t len = HEAD_BYTES + text + t->count * ENTRY_BYTES + SUM_BYTES;
	uint8_t *data = calloc(1, len);
	uint8_t *p = data;

	if (!data) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(p, MAGIC, 8);
	store_le32(p + 8, LAYOUT);
	store_le32(p + 12, CACHE_GRANULE);
	store_le64(p + 16, t->size);
	store_le32(p + 24, t->boots);
	store_le32(p + 28, (uint32_t)t->count);
	store_le32(p + 32, (uint32_t)text);
	memcpy(p + HEAD_BYTES, t->version, text);
	p += HEAD_BYTES + text;
	for (size_t i = 0; i < t->count; i++, p += ENTRY_BYTES) {
		store_le32(p, t->entries[i].granule);
		store_le32(p + 4, t->entries[i].ms);
		store_le32(p + 8, t->entries[i].boots);
	}
	store_le64(p, XXH3_64bits(data, len - SUM_BYTES));
	*ret = data;
	*ret_len = len;
	return 0;
}

/* --- several boots --- */

static int by_granule(const void *a, const void *b)
{
	const struct trace_entry *x = a;
	const struct trace_entry *y = b;

	return x->granule < y->granule ? -1 : x->granule > y->granule;
}

static int by_time(const void *a, const void *b)
{
	const struct trace_entry *x = a;
	const struct trace_entry *y = b;

	if (x->ms != y->ms) {
		return x->ms < y->ms ? -1 : 1;
	}
	return by_granule(a, b);
}

static bool was_a_boot(const struct trace *old, size_t seen)
{
	size_t usual = 0;

	for (size_t i = 0; i < old->count; i++) {
		usual += trace_is_usual(old, &old->entries[i]);
	}
	return seen > 0 && seen >= usual / BOOT_SHARE;
}

/* Older boots weigh half from now on; what few of them touched is forgotten. */
static void age(struct trace *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct trace_entry x = t->entries[i];

		x.boots /= 2;
		if (x.boots > 0) {
			t->entries[kept++] = x;
		}
	}
	t->count = kept;
	t->boots /= 2;
}

/* Both are by granule. @ret has room for all; returns how many there are. The later boot says when.
 */
static size_t unite(const struct trace *old, const struct trace_entry *seen, size_t count,
	struct trace_entry *ret)
{
	size_t n = 0;
	size_t i = 0;
	size_t j = 0;

	while (i < old->count || j < count) {
		bool has_old = i < old->count &&
			       (j == count || old->entries[i].granule <= seen[j].granule);
		bool has_new =
			j < count && (!has_old || seen[j].granule == old->entries[i].granule);
		struct trace_entry x = has_new ? seen[j] : old->entries[i];

		x.boots = (has_old ? old->entries[i].boots : 0) + (has_new ? 1 : 0);
		i += has_old;
		j += has_new;
		ret[n++] = x;
	}
	return n;
}

static void sort(
	struct trace_entry *entries, size_t count, int (*order)(const void *a, const void *b))
{
	if (count > 0) {
		qsort(entries, count, sizeof(*entries), order);
	}
}

static int copy(const struct trace *t, struct trace *ret)
{
	struct trace c = *t;

	c.version = strdup(t->version);
	c.entries = calloc(t->count + 1, sizeof(*c.entries));
	if (!c.version || !c.entries) {
		trace_clear(&c);
		return -ENOMEM;
	}
	if (t->count > 0) {
		memcpy(c.entries, t->entries, t->count * sizeof(*c.entries));
	}
	*ret = c;
	return 0;
}

int trace_merge(
	const struct trace *old, const struct trace_entry *seen, size_t count, struct trace *ret)
{
	struct trace_entry *fresh;
	struct trace_entry *all;
	struct trace t;

	if (copy(old, &t) < 0) {
		return -ENOMEM;
	}
	if (!was_a_boot(old, count)) {
		*ret = t;
		return 0;
	}
	if (t.boots == TRACE_BOOTS_MAX) {
		age(&t);
	}
	fresh = calloc(count, sizeof(*fresh));
	all = calloc(t.count + count, sizeof(*all));
	if (!fresh || !all) {
		free(fresh);
		free(all);
		trace_clear(&t);
		return -ENOMEM;
	}
	memcpy(fresh, seen, count * sizeof(*fresh));
	sort(fresh, count, by_granule);
	sort(t.entries, t.count, by_granule);
	t.count = unite(&t, fresh, count, all);
	t.boots++;
	free(fresh);
	free(t.entries);
	t.entries = all;
	sort(t.entries, t.count, by_time);
	t.count = min_u64(t.count, TRACE_ENTRIES_MAX);
	*ret = t;
	return 0;
}

/* --- requests --- */

static int by_place(const void *a, const void *b)
{
	const struct trace_run *x = a;
	const struct trace_run *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Merges @n runs of one granule each. */
static size_t join(struct trace_run *runs, size_t n, uint32_t gap)
{
	size_t kept = 0;

	qsort(runs, n, sizeof(*runs), by_place);
	for (size_t i = 1; i < n; i++) {
		struct trace_run *last = &runs[kept];

		if (runs[i].first - last->first <= last->count + gap) {
			last->count =
				(uint32_t)max_u64(last->count, runs[i].first - last->first + 1);
		} else {
			runs[++kept] = runs[i];
		}
	}
	return kept + 1;
}

size_t trace_window(const struct trace *t, size_t *next, uint32_t ms, uint32_t gap,
	struct trace_run *ret, size_t room)
{
	size_t n = 0;
	uint32_t began = 0;
	size_t i;

	for (i = *next; i < t->count && n < room; i++) {
		const struct trace_entry *x = &t->entries[i];

		if (!trace_is_usual(t, x)) {
			continue;
		}
		if (n == 0) {
			began = x->ms;
		} else if (x->ms - began > ms) {
			break;
		}
		ret[n++] = (struct trace_run){ x->granule, 1 };
	}
	*next = i;
	return n > 0 ? join(ret, n, gap) : 0;
}
