/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of the file that hold tables. */
#include "formats/tables.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"

int tables_init(struct tables *t, struct image *file, size_t memory)
{
	t->file = file;
	return memo_new(TABLES_PAGE, memory, &t->pages);
}

void tables_clear(struct tables *t)
{
	memo_free(t->pages);
	t->pages = NULL;
}

void tables_forget(struct tables *t)
{
	memo_forget(t->pages);
}

/* Reads *len bytes at @off, or what there is of them: the last page of a file whose size was only
 * assumed is as long as it turns out to be. */
static int read_pages(struct tables *t, uint8_t *buf, uint64_t *len, uint64_t off, struct err *e)
{
	uint64_t real;
	int r;

	*len = min_u64(*len, t->file->size - off);
	r = image_read_at(t->file, buf, *len, off, e);
	if (r < 0 && t->file->flags & IMAGE_SIZE_PROVISIONAL &&
		image_final_size(t->file, &real) == 0 && real > off && real - off < *len) {
		*len = real - off;
		r = image_read_at(t->file, buf, *len, off, e);
	}
	return r;
}

static int fill_page(struct tables *t, struct memo_item *page, struct err *e)
{
	uint64_t off = page->key * TABLES_PAGE;
	uint64_t len = TABLES_PAGE;
	struct err err = { 0 };
	int r = read_pages(t, page->data, &len, off, &err);

	if (r < 0) {
		err_wrap(&err, r, "cannot read tables at offset %" PRIu64, off);
		memo_fail(t->pages, page, &err);
		if (e) {
			*e = err;
		}
		return r;
	}
	t->loads++;
	memo_publish(t->pages, page, len);
	return 0;
}

static int load_page(struct tables *t, uint64_t number, struct memo_item **ret, struct err *e)
{
	switch (memo_claim(t->pages, number, ret)) {
	case MEMO_READY:
		return 0;
	case MEMO_MINE:
		return fill_page(t, *ret, e);
	case MEMO_THEIRS:
		return memo_wait(t->pages, *ret, e);
	case MEMO_NOMEM:
		break;
	}
	return err_set(e, -ENOMEM, "out of memory");
}

static int beyond_end(uint64_t off, uint64_t size, struct err *e)
{
	return err_set(e, -EBADMSG,
		"table entry at offset %" PRIu64 ", beyond the end of the file (%" PRIu64 " bytes)",
		off, size);
}

/* Where that is far ahead, getting it may cost what lies in between. */
static void hint_page(struct tables *t, uint64_t number)
{
	if (!(t->file->flags & IMAGE_FORWARD) && !memo_has(t->pages, number)) {
		image_prefetch(t->file, number * TABLES_PAGE, TABLES_PAGE);
	}
}

int tables_get(struct tables *t, uint64_t off, size_t need, bool wait, struct table_words *ret,
	struct err *e)
{
	size_t in_page = off % TABLES_PAGE;
	struct memo_item *page;
	int r;

	if (!range_within(off, need, t->file->size)) {
		return beyond_end(off, t->file->size, e);
	}
	if (wait) {
		r = load_page(t, off / TABLES_PAGE, &page, e);
		if (r < 0) {
			return r;
		}
	} else {
		page = memo_find(t->pages, off / TABLES_PAGE);
		if (!page) {
			hint_page(t, off / TABLES_PAGE);
			return -EAGAIN;
		}
	}
	if (page->len < in_page + need) {
		uint64_t end = round_down(off, TABLES_PAGE) + page->len;

		memo_put(t->pages, page);
		return beyond_end(off, end, e);
	}
	ret->at = page->data + in_page;
	ret->bytes = page->len - in_page;
	ret->page = page;
	return 0;
}

void tables_put(struct tables *t, struct table_words *w)
{
	memo_put(t->pages, w->page);
	w->page = NULL;
}

int tables_preload(struct tables *t, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t start = round_down(off, TABLES_PAGE);
	uint64_t end = round_up(off + len, TABLES_PAGE);
	uint64_t got = end - start;
	CLEANUP_FREE uint8_t *buf = malloc(got);
	int r;

	if (!buf) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = read_pages(t, buf, &got, start, e);
	if (r < 0) {
		return err_wrap(e, r, "cannot read tables at offset %" PRIu64, start);
	}
	end = start + got;
	for (uint64_t at = start; at < end; at += TABLES_PAGE) {
		size_t n = min_u64(TABLES_PAGE, end - at);
		struct memo_item *page;
		enum memo_claim c = memo_claim(t->pages, at / TABLES_PAGE, &page);

		assert(c != MEMO_THEIRS);
		if (c == MEMO_MINE) {
			memcpy(page->data, buf + (at - start), n);
			memo_publish(t->pages, page, n);
		}
		if (c != MEMO_NOMEM) {
			memo_put(t->pages, page);
		}
	}
	return 0;
}
