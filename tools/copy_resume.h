/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continuing a copy: where its journal lies, whether what is found there is of this very copy, and
 * what to add to it while the copy goes on.
 */
#ifndef TOOLS_COPY_RESUME_H
#define TOOLS_COPY_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "tools/copy_engine.h"
#include "tools/copy_journal.h"
#include "tools/options.h"

struct copy_resume {
	char *path; /* of the journal; NULL: this copy has none */
	struct copy_journal_key key;
	struct copy_journal_past past;
	struct copy_journal *journal;
	double least; /* seconds between two additions: how much work a kill may cost */
	bool trusts;  /* the target is said to be zero, which it is not any more after this copy */
	bool lasting; /* what was copied may be taken for granted by the next run */
	bool marks;   /* if not: the next run may all the same write over what this one leaves */
	bool made;    /* what is at `path` is ours */
	bool ours;    /* the target is what an interrupted copy left */
	bool resumes; /* and that was this very copy */
	uint64_t *known;
	uint8_t *listed; /* one a unit: it is in the journal */
	size_t low;      /* all units of data before it are listed */
	double next;     /* when to add to the journal again */
	double flush;    /* when to make durable again what it names */
	double sync;     /* and when to make it durable, too */
	struct copy_journal_entry *batch;
};

/* Looks for a journal, before the target is opened; `least` and the first three of the flags are
 * set. @id names the image. A copy that cannot be continued has a journal only where the next one
 * is to know that the target was written to. @shape: what else must be the same, as a sum. */
int copy_resume_find(struct copy_resume *r, const struct options *o, const char *target,
	const char *id, uint64_t shape, struct err *e);

/* After the target was opened and the plan made: begins or continues the journal and sets what the
 * engine knows. Without a journal (a warning says why) the copy cannot be continued. */
int copy_resume_begin(
	struct copy_resume *r, const char *target, struct copy_engine *engine, struct err *e);

/* Now and then: writes down what was copied and, less often, makes it durable. @last: at once.
 * Negative: the target failed. */
int copy_resume_tick(struct copy_resume *r, struct copy_engine *engine, bool last, struct err *e);

/* The copy is complete: nothing is left to continue. */
void copy_resume_done(struct copy_resume *r);

void copy_resume_clear(struct copy_resume *r);

#endif
