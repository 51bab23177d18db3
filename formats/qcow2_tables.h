/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words of the L1 and L2 tables, paged in as they are needed: the file is seen as pages of 64 KiB,
 * of which the ones that hold tables stay in bounded memory. A page that several readers need is
 * read once, and no lock is held while it is.
 */
#ifndef FORMATS_QCOW2_TABLES_H
#define FORMATS_QCOW2_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/memo.h"

#define QCOW2_PAGE      65536U
#define QCOW2_PAGES_MAX MIB(16)

struct qcow2_tables {
	struct image *file; /* borrowed */
	struct memo *pages;
	_Atomic uint64_t loads; /* pages read one by one */
};

/* A run of table words that lie in one page; valid until qcow2_tables_put(). */
struct qcow2_words {
	const uint8_t *at; /* the word asked for, big-endian, and its followers */
	size_t bytes;      /* up to the end of the page or of the file; at least what was asked */
	struct memo_item *page;
};

/* -ENOMEM or 0. */
int qcow2_tables_init(struct qcow2_tables *t, struct image *file);
void qcow2_tables_clear(struct qcow2_tables *t);

/* The @need bytes (8 or 16, naturally aligned) at @off of the file. When the page is not here it is
 * read, or, with @wait false, asked for with image_prefetch() and -EAGAIN returned, without text.
 * -EBADMSG: beyond the end. */
int qcow2_tables_get(struct qcow2_tables *t, uint64_t off, size_t need, bool wait,
	struct qcow2_words *ret, struct err *e);
void qcow2_tables_put(struct qcow2_tables *t, struct qcow2_words *w);

/* Reads all pages of [off, off + len) with one read. Meant for an L1 table of
 * moderate size, before the first reader comes. */
int qcow2_tables_preload(struct qcow2_tables *t, uint64_t off, uint64_t len, struct err *e);

#endif
