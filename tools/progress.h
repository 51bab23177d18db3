/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a copy is: a bar on a terminal, now and then a line in a log, objects for a program.
 * The bar and the lines go to stderr, the objects to stdout. Not thread-safe.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum progress_mode {
	PROGRESS_AUTO, /* a bar when stderr is a terminal, else lines */
	PROGRESS_PLAIN,
	PROGRESS_JSON,
	PROGRESS_NONE,
	PROGRESS_BAR,
};

/* "auto", "plain", "json" or "none"; NULL is auto. -EINVAL for anything else. */
int progress_parse(const char *text, enum progress_mode *ret, struct err *e);

/* What is shown. Bytes of the disk that are data, seconds. */
struct progress_state {
	const char *phase; /* "copy", "verify", "flush", "done" */
	uint64_t done;
	uint64_t total; /* may be an estimate, which shows when `done` is more: then it is not told
			 */
	double rate;    /* bytes a second, of late; 0: not known yet */
	double seconds;
};

/* Seconds until the end at this rate; negative when nobody knows. */
double progress_eta(const struct progress_state *s);

/* The text of one mode without line end; at least 100 bytes of @ret are needed for all of it. */
void progress_format(
	enum progress_mode mode, const struct progress_state *s, char *ret, size_t room);

struct progress {
	enum progress_mode mode;
	double begun;
	double shown;     /* when, last */
	double sampled;   /* when, last */
	uint64_t sample;  /* bytes done then */
	bool bar_is_open; /* the cursor stands behind a bar */
	struct progress_state state;
};

void progress_begin(struct progress *p, enum progress_mode mode, uint64_t total);

/* Shows it when it is time to. */
void progress_tell(struct progress *p, const char *phase, uint64_t done);

/* What was begun with an estimate turned out to be @total. */
void progress_measured(struct progress *p, uint64_t total);

/* Leaves the line of the bar, so that something else can be printed. */
void progress_break(struct progress *p);

/* The last object, for programs; nothing in the other modes. */
void progress_end(struct progress *p, bool ok);

#endif
