/* SPDX-License-Identifier: Apache-2.0 */
/* From entries to runs: as far as one page of the table shows. */
#include "formats/blocks.h"

#include <errno.h>
#include <inttypes.h>

#include "core/bytes.h"

/* What the table says from @off to the end of its block. */
static int piece_at(const struct mapped *m, const struct blocks *b, const uint8_t *entry,
	uint64_t off, struct run *ret, struct err *e)
{
	uint64_t in_block = (off - b->start) & (b->block_size - 1);
	uint64_t size = m->tables.file->size;
	enum run_kind kind = RUN_UNALLOCATED;
	uint64_t host = EXTENT_NO_HOST;
	int r = b->decode(m, entry, &kind, &host, e);

	if (r < 0) {
		return r;
	}
	*ret = (struct run){
		.kind = kind,
		.offset = off,
		.length = b->block_size - in_block,
		.host = EXTENT_NO_HOST,
	};
	if (kind == RUN_ZERO || kind == RUN_UNALLOCATED) {
		return 0;
	}
	if (host >= size || (kind == RUN_DATA && in_block >= size - host)) {
		return err_set(e, -EBADMSG,
			"data at offset %" PRIu64 ", beyond the end of the file (%" PRIu64
			" bytes): the image is truncated or corrupt",
			host, size);
	}
	ret->host = kind == RUN_DATA ? host + in_block : host;
	ret->host_length = size - ret->host;
	if (kind == RUN_DATA) {
		ret->length = min_u64(ret->length, ret->host_length);
	}
	return 0;
}

static bool continues(const struct run *run, const struct run *p)
{
	return run->kind == p->kind && run->kind != RUN_COMPRESSED &&
	       (run->kind != RUN_DATA || p->host == run->host + run->length);
}

/* Appends to @run what the entries behind the first one add to it. */
static void extend(const struct mapped *m, const struct blocks *b, const struct table_words *w,
	uint64_t len, struct run *run)
{
	uint64_t end = min_u64(b->end, run->offset + len);
	uint64_t first = (run->offset - b->start) / b->block_size;

	for (uint64_t off = run->offset + run->length; off < end;) {
		size_t at = ((off - b->start) / b->block_size - first) * b->entry_size;
		struct run p;

		if (at + b->entry_size > w->bytes ||
			piece_at(m, b, w->at + at, off, &p, NULL) < 0) {
			break;
		}
		if (run->kind == RUN_COMPRESSED && p.kind == RUN_COMPRESSED && p.host > run->host) {
			run->host_length = p.host - run->host;
		}
		if (!continues(run, &p)) {
			break;
		}
		run->length += p.length;
		off += p.length;
	}
	run->length = min_u64(run->length, end - run->offset);
}

int blocks_map(struct mapped *m, const struct blocks *b, uint64_t off, uint64_t len, bool wait,
	struct run *ret, struct err *e)
{
	uint64_t pos = b->table + (off - b->start) / b->block_size * b->entry_size;
	struct table_words w;
	struct run run;
	int r = tables_get(&m->tables, pos, b->entry_size, wait, &w, e);

	if (r < 0) {
		return r == -EAGAIN ? r : err_wrap(e, r, "guest offset %" PRIu64, off);
	}
	r = piece_at(m, b, w.at, off, &run, e);
	if (r == 0) {
		extend(m, b, &w, len, &run);
	}
	tables_put(&m->tables, &w);
	if (r < 0) {
		return err_wrap(
			e, r, "guest offset %" PRIu64 ", entry at offset %" PRIu64, off, pos);
	}
	*ret = run;
	return 0;
}
