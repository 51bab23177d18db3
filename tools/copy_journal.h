/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an unfinished copy has put on its target, for the run that continues it. A file:
 *
 *	head	magic, what is copied onto what, a sum over it
 *	batch	magic, number of entries, a sum over them; entries: offset and sum of a unit
 *	...
 *
 * Little-endian. Batches are only added. One that a crash has torn does not have its sum and ends
 * the journal. Nothing in it is a secret, and nothing in it is believed: a unit that it names is
 * read back from the target and copied again when its sum is another. So it may well be ahead of
 * what the target has durably.
 */
#ifndef TOOLS_COPY_JOURNAL_H
#define TOOLS_COPY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* Sums that tell one copy from another. */
struct copy_journal_key {
	uint64_t source; /* the version of the image */
	uint64_t target;
	uint64_t shape; /* sizes, options */
};

struct copy_journal_entry {
	uint64_t off; /* of the unit */
	uint64_t sum;
};

/* What an earlier run left. */
struct copy_journal_past {
	struct copy_journal_key key;
	struct copy_journal_entry *entries; /* by offset; one an offset */
	size_t count;
	uint64_t length; /* of the file that can be continued */
};

/* -ENOENT: there is none, or none that can be used. */
int copy_journal_load(const char *path, struct copy_journal_past *ret, struct err *e);
void copy_journal_past_clear(struct copy_journal_past *past);

/* The sum of the entry at @off, or 0. */
uint64_t copy_journal_find(const struct copy_journal_past *past, uint64_t off);

struct copy_journal;

/* A new journal in the place of whatever is at @path, or @past continued when it is not NULL. A new
 * one is durable when it was synced once. */
int copy_journal_open(const char *path, const struct copy_journal_key *key,
	const struct copy_journal_past *past, struct copy_journal **ret, struct err *e);

/* What the entries name was written. It survives the end of the process; a crash of the machine may
 * take some of it, and some of what it names, each without the other: see above. */
int copy_journal_add(struct copy_journal *j, const struct copy_journal_entry *entries, size_t count,
	struct err *e);

/* What was added is durable when it returns. */
int copy_journal_sync(struct copy_journal *j, struct err *e);

/* NULL is nothing. */
void copy_journal_close(struct copy_journal *j);

#endif
