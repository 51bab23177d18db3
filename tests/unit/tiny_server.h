/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A web server in the test's own process, for what a scripted one outside cannot show: it counts,
 * waits for the test, and changes its mind at once. A thread a connection; bytes are fake_byte().
 */
#ifndef TESTS_UNIT_TINY_SERVER_H
#define TESTS_UNIT_TINY_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TINY_CONNECTIONS 128

struct tiny_server {
	/* the test's; may change at any time */
	_Atomic uint64_t size;
	_Atomic uint64_t seed;
	_Atomic int version;           /* ETag "vN"; 0: no validator at all */
	_Atomic bool ranges;           /* else 200 for everything */
	_Atomic unsigned int delay_us; /* before each answer */
	_Atomic bool silent;           /* requests are read and not answered */
	_Atomic int fail_next;         /* so many requests get ... */
	_Atomic int fail_status;       /* ... this */
	/* requests for .from are redirected to .to, or get 404 where that is NULL */
	struct {
		_Atomic(const char *) from;
		_Atomic(const char *) to;
	} redirects[3];
	_Atomic uint64_t cut_after;    /* bodies end after so many bytes; 0: never */
	_Atomic unsigned int requests; /* counts */
	_Atomic unsigned int connections;
	_Atomic unsigned int now; /* answers under way */
	_Atomic unsigned int most;
	unsigned int port;

	int fd;
	_Atomic bool quit;
	pthread_t acceptor;
	pthread_t threads[TINY_CONNECTIONS];
	int fds[TINY_CONNECTIONS];
	unsigned int count;
};

/* Aborts when it cannot. */
struct tiny_server *tiny_server_start(void);
void tiny_server_stop(struct tiny_server *s);

#endif
