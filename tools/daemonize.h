/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going to the background once it is known that all is well. The fork comes first, because threads
 * do not survive one: the child does the work with the terminal still attached, and the parent
 * waits for its word. What fails before that is told on stderr by the child, and its exit status
 * becomes the parent's.
 */
#ifndef TOOLS_DAEMONIZE_H
#define TOOLS_DAEMONIZE_H

#include <stdint.h>

#include "core/err.h"

/* Descriptors above are not looked at. */
#define DAEMONIZE_FDS 1024U

struct daemonize {
	int pipe;                               /* the child's end; -1 when nobody waits */
	uint64_t inherited[DAEMONIZE_FDS / 64]; /* a bit for each descriptor of the caller's */
};

/* Call before the first thread starts. In the child: returns 0, *d is set; until it is ready it
 * gets SIGTERM when the parent dies. In the parent: returns 1 when the child is ready or has ended,
 * *ret_exit is the exit status to end with. */
int daemonize_start(struct daemonize *d, int *ret_exit, struct err *e);

/* In the child, on the thread that called daemonize_start(): leaves the terminal (session,
 * directory, stdio) and what the caller had open besides, logs to syslog from now on, and lets the
 * parent go. When the parent was killed, nobody wants this daemon: SIGTERM to ourselves.
 */
void daemonize_ready(struct daemonize *d);

#endif
