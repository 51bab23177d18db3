/* SPDX-License-Identifier: Apache-2.0 */
/* JSON into packed records, then the arithmetic between them. */
#include "formats/toc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/jscan.h"

/* One object of the array, as it stands there. */
struct raw_entry {
	char name[TREE_PATH_MAX];
	char link[TREE_PATH_MAX];
	char type[16];
	char chunk_type[16];
	char digest[80];
	char chunk_digest[80];
	uint64_t size;
	uint64_t offset;
	uint64_t end_offset;
	uint64_t chunk_offset;
	uint64_t chunk_size;
	uint64_t inner_offset;
	bool too_long; /* a name was */
};

struct parser {
	struct toc *toc;
	uint64_t data_end;
	struct toc_file *file; /* that chunks are added to, or NULL */
	bool no_digest;        /* of its only chunk: the file's may do */
	uint64_t *starts;      /* of all streams, and where the last one ends */
	size_t start_count;
};

static int broken(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "the layer's table of contents is broken: %s", what);
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int hex(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool toc_digest(const char *text, uint8_t ret[TOC_DIGEST])
{
	uint8_t out[TOC_DIGEST];
	const char *p = text + 7;

	if (strncmp(text, "sha256:", 7) != 0 || strlen(p) != (size_t)2 * TOC_DIGEST) {
		return false;
	}
	for (size_t i = 0; i < TOC_DIGEST; i++) {
		int hi = hex(p[2 * i]);
		int lo = hex(p[2 * i + 1]);

		if (hi < 0 || lo < 0) {
			return false;
		}
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	memcpy(ret, out, TOC_DIGEST);
	return true;
}

/* Makes room for one more of @size bytes each behind @count. */
static bool reserve(void **array, size_t count, size_t *room, size_t size)
{
	size_t wanted = *room ? 2 * *room : 64;
	void *more;

	if (count < *room) {
		return true;
	}
	more = realloc(*array, wanted * size);
	if (!more) {
		return false;
	}
	*array = more;
	*room = wanted;
	return true;
}

static int keep_text(struct toc *t, const char *text, size_t *ret, struct err *e)
{
	size_t n = strlen(text) + 1;

	while (t->text_room - t->text_len < n) {
		size_t room = t->text_room ? 2 * t->text_room : KIB(16);
		char *more = realloc(t->text, room);

		if (!more) {
			return no_memory(e);
		}
		t->text = more;
		t->text_room = room;
	}
	memcpy(t->text + t->text_len, text, n);
	*ret = t->text_len;
	t->text_len += n;
	return 0;
}

/* --- chunks --- */

/* The file is complete: its chunks tile it. */
static int end_file(struct parser *p, struct err *e)
{
	const struct toc_file *f = p->file;
	uint64_t at = 0;

	if (!f) {
		return 0;
	}
	for (size_t i = f->first; i < f->first + f->count; i++) {
		if (p->toc->chunks[i].offset != at) {
			return broken(e, "the chunks of a file have gaps");
		}
		at += p->toc->chunks[i].size;
	}
	p->file = NULL;
	if (at != f->size) {
		return broken(e, "the chunks of a file are not all of it");
	}
	if (p->no_digest) {
		return err_set(
			e, -ENOTSUP, "the layer's table of contents has chunks without a digest");
	}
	return 0;
}

/* Where the chunk lies in its file, from 0 to its size. */
static int measure(
	const struct parser *p, const struct raw_entry *raw, struct toc_chunk *c, struct err *e)
{
	uint64_t left;

	if (raw->chunk_offset > p->file->size) {
		return broken(e, "a chunk begins behind the end of its file");
	}
	left = p->file->size - raw->chunk_offset;
	c->offset = raw->chunk_offset;
	c->size = raw->chunk_size ? raw->chunk_size : left;
	if (c->size == 0 || c->size > left) {
		return broken(e, "a chunk is longer than its file");
	}
	return 0;
}

static int add_chunk(struct parser *p, const struct raw_entry *raw, struct err *e)
{
	struct toc *t = p->toc;
	struct toc_chunk c = { .host = UINT64_MAX };
	int r = measure(p, raw, &c, e);

	if (r < 0) {
		return r;
	}
	/* That of the file is as good when it has but one. */
	if (p->file->count > 0 && p->no_digest) {
		return err_set(
			e, -ENOTSUP, "the layer's table of contents has chunks without a digest");
	}
	if (strcmp(raw->chunk_type, "zeros") != 0) {
		bool whole = c.size == p->file->size;

		c.host = raw->offset;
		c.inner = raw->inner_offset;
		c.stored = raw->end_offset > raw->offset ? raw->end_offset - raw->offset : 0;
		p->no_digest = !toc_digest(raw->chunk_digest, c.digest) &&
			       !(whole && toc_digest(raw->digest, c.digest));
		if (c.size > TOC_CHUNK_MAX || c.inner > TOC_CHUNK_MAX) {
			return err_set(e, -ENOTSUP,
				"the layer's table of contents has chunks of more than %llu bytes",
				(unsigned long long)TOC_CHUNK_MAX);
		}
		if (c.host >= p->data_end) {
			return broken(e, "a chunk begins behind the end of the layer");
		}
	}
	if (!reserve((void **)&t->chunks, t->chunk_count, &t->chunk_room, sizeof(c))) {
		return no_memory(e);
	}
	t->chunks[t->chunk_count++] = c;
	p->file->count++;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Where the stream that begins at @host ends: where the next one does begin. */
static uint64_t next_start(const struct parser *p, uint64_t host)
{
	size_t low = 0;
	size_t high = p->start_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (p->starts[middle] > host) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low < p->start_count ? p->starts[low] : p->data_end;
}

/* The end of each stream follows from where the others begin. A file's "endOffset" is the end of
 * its last chunk's and stands in its first entry. */
static int place_chunks(struct parser *p, struct err *e)
{
	struct toc *t = p->toc;

	p->starts = malloc((t->chunk_count + 1) * sizeof(*p->starts));
	if (!p->starts) {
		return no_memory(e);
	}
	for (size_t i = 0; i < t->chunk_count; i++) {
		if (t->chunks[i].host != UINT64_MAX) {
			p->starts[p->start_count++] = t->chunks[i].host;
		}
	}
	qsort(p->starts, p->start_count, sizeof(*p->starts), compare);
	for (size_t i = 0; i < t->chunk_count; i++) {
		struct toc_chunk *c = &t->chunks[i];
		uint64_t stored;

		if (c->host == UINT64_MAX) {
			continue;
		}
		stored = next_start(p, c->host) - c->host;
		c->stored = c->stored ? min_u64(c->stored, stored) : stored;
		if (c->stored > TOC_CHUNK_MAX + MIB(1)) {
			return err_set(e, -ENOTSUP,
				"the layer's table of contents has a chunk that is stored in "
				"%llu bytes",
				(unsigned long long)c->stored);
		}
	}
	return 0;
}

/* --- entries --- */

static enum tree_kind kind_of(const char *type)
{
	static const struct {
		const char *type;
		enum tree_kind kind;
	} kinds[] = {
		{ "dir", TREE_DIR },
		{ "reg", TREE_FILE },
		{ "symlink", TREE_SYMLINK },
		{ "hardlink", TREE_HARDLINK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].type, type) == 0) {
			return kinds[i].kind;
		}
	}
	return TREE_OTHER;
}

static int begin_file(struct parser *p, uint64_t size, struct err *e)
{
	struct toc *t = p->toc;

	if (size > INT64_MAX) {
		return broken(e, "a file is too large");
	}
	if (!reserve((void **)&t->files, t->file_count, &t->file_room, sizeof(*t->files))) {
		return no_memory(e);
	}
	p->file = &t->files[t->file_count++];
	*p->file = (struct toc_file){ .size = size, .first = t->chunk_count };
	p->no_digest = false;
	return 0;
}

static int add_entry(struct parser *p, const struct raw_entry *raw, struct err *e)
{
	struct toc *t = p->toc;
	struct toc_entry entry = { .kind = kind_of(raw->type), .file = t->file_count };
	int r = end_file(p, e);

	if (r == 0) {
		r = keep_text(t, raw->name, &entry.name, e);
	}
	if (r == 0) {
		r = keep_text(t, raw->link, &entry.link, e);
	}
	if (r == 0 &&
		!reserve((void **)&t->entries, t->entry_count, &t->entry_room, sizeof(entry))) {
		r = no_memory(e);
	}
	if (r < 0) {
		return r;
	}
	t->entries[t->entry_count++] = entry;
	if (entry.kind != TREE_FILE) {
		return 0;
	}
	r = begin_file(p, raw->size, e);
	return r == 0 && raw->size > 0 ? add_chunk(p, raw, e) : r;
}

static void read_member(struct jscan *j, const char *name, struct raw_entry *raw)
{
	const struct {
		const char *name;
		char *text;
		size_t room;
		uint64_t *number;
	} members[] = {
		{ "name", raw->name, sizeof(raw->name), NULL },
		{ "linkName", raw->link, sizeof(raw->link), NULL },
		{ "type", raw->type, sizeof(raw->type), NULL },
		{ "chunkType", raw->chunk_type, sizeof(raw->chunk_type), NULL },
		{ "digest", raw->digest, sizeof(raw->digest), NULL },
		{ "chunkDigest", raw->chunk_digest, sizeof(raw->chunk_digest), NULL },
		{ "size", NULL, 0, &raw->size },
		{ "offset", NULL, 0, &raw->offset },
		{ "endOffset", NULL, 0, &raw->end_offset },
		{ "chunkOffset", NULL, 0, &raw->chunk_offset },
		{ "chunkSize", NULL, 0, &raw->chunk_size },
		{ "innerOffset", NULL, 0, &raw->inner_offset },
	};

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		if (strcmp(members[i].name, name) != 0) {
			continue;
		}
		if (members[i].number) {
			*members[i].number = jscan_number(j);
		} else if (jscan_string(j, members[i].text, members[i].room) >= members[i].room) {
			raw->too_long = true;
		}
		return;
	}
	jscan_skip(j);
}

static void clear_raw(struct raw_entry *raw)
{
	raw->name[0] = raw->link[0] = raw->type[0] = raw->chunk_type[0] = '\0';
	raw->digest[0] = raw->chunk_digest[0] = '\0';
	raw->size = raw->offset = raw->end_offset = raw->chunk_offset = 0;
	raw->chunk_size = raw->inner_offset = 0;
	raw->too_long = false;
}

static int read_entries(struct parser *p, struct jscan *j, struct raw_entry *raw, struct err *e)
{
	bool first = true;
	int r = 0;

	jscan_array(j);
	while (r == 0 && jscan_element(j, &first)) {
		bool first_member = true;
		char name[32];

		clear_raw(raw);
		jscan_object(j);
		while (jscan_member(j, &first_member, name, sizeof(name))) {
			read_member(j, name, raw);
		}
		if (jscan_failed(j)) {
			break;
		}
		if (raw->too_long) {
			return broken(e, "a name is too long");
		}
		if (strcmp(raw->type, "chunk") != 0) {
			r = add_entry(p, raw, e);
		} else if (!p->file) {
			r = broken(e, "a chunk belongs to no file");
		} else {
			r = add_chunk(p, raw, e);
		}
	}
	return r;
}

static int read_all(struct parser *p, struct jscan *j, struct raw_entry *raw, struct err *e)
{
	bool first = true;
	bool seen = false;
	char name[32];
	int r = 0;

	jscan_object(j);
	while (r == 0 && jscan_member(j, &first, name, sizeof(name))) {
		if (strcmp(name, "entries") == 0 && !seen) {
			seen = true;
			r = read_entries(p, j, raw, e);
		} else {
			jscan_skip(j);
		}
	}
	if (r == 0 && (jscan_failed(j) || !jscan_at_end(j) || !seen)) {
		r = broken(e, "it is not the JSON that it should be");
	}
	if (r == 0) {
		r = end_file(p, e);
	}
	return r == 0 ? place_chunks(p, e) : r;
}

int toc_parse(const char *json, size_t len, uint64_t data_end, struct toc *ret, struct err *e)
{
	struct toc toc = { 0 };
	struct parser p = { .toc = &toc, .data_end = data_end };
	struct raw_entry *raw = malloc(sizeof(*raw));
	struct jscan j;
	int r = raw ? 0 : no_memory(e);

	jscan_init(&j, json, len);
	if (r == 0) {
		r = read_all(&p, &j, raw, e);
	}
	free(raw);
	free(p.starts);
	if (r < 0) {
		toc_clear(&toc);
		return r;
	}
	*ret = toc;
	return 0;
}

void toc_clear(struct toc *t)
{
	free(t->entries);
	free(t->files);
	free(t->chunks);
	free(t->text);
	*t = (struct toc){ 0 };
}
