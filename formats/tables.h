/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words of tables that say where in a file the blocks of a disk are, paged in as they are needed:
 * the file is seen as pages of 64 KiB, of which the ones that hold tables stay in bounded memory. A
 * page that several readers need is read once, and no lock is held while it is.
 */
#ifndef FORMATS_TABLES_H
#define FORMATS_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/memo.h"

#define TABLES_PAGE      65536U
#define TABLES_PAGES_MAX MIB(16)

struct tables {
	struct image *file; /* borrowed */
	struct memo *pages;
	_Atomic uint64_t loads; /* pages read one by one */
};

/* A run of table words that lie in one page; valid until tables_put(). */
struct table_words {
	const uint8_t *at; /* the word asked for and its followers */
	size_t bytes;      /* up to the end of the page or of the file; at least what was asked */
	struct memo_item *page;
};

/* The pages take at most @memory bytes. -ENOMEM or 0. */
int tables_init(struct tables *t, struct image *file, size_t memory);
void tables_clear(struct tables *t);

/* The pages that are here are read anew before anybody who asks from now on gets them. */
void tables_forget(struct tables *t);

/* The @need bytes (4 to 16, naturally aligned) at @off of the file. When the page is not here it is
 * read, or, with @wait false, asked for with image_prefetch() (but of an IMAGE_FORWARD) and -EAGAIN
 * returned, without text.
 * -EBADMSG: beyond the end. */
int tables_get(struct tables *t, uint64_t off, size_t need, bool wait, struct table_words *ret,
	struct err *e);
void tables_put(struct tables *t, struct table_words *w);

/* Reads all pages of [off, off + len) with one read. Meant for a table of
 * moderate size, before the first reader comes. */
int tables_preload(struct tables *t, uint64_t off, uint64_t len, struct err *e);

#endif
