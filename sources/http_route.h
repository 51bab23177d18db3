/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image is: the URL that the user gave, and the one that its redirects led to. It is
 * resolved once and kept, until it fails or is about to expire; then the way begins at the user's
 * URL again. Thread-safe.
 */
#ifndef SOURCES_HTTP_ROUTE_H
#define SOURCES_HTTP_ROUTE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "sources/http_url.h"

#define HTTP_REDIRECTS_MAX 10

/* A URL, shared by those who use it. */
struct http_place {
	struct http_url url;
	int64_t since; /* when a redirect to it was seen; seconds since the epoch */
	_Atomic unsigned int refs;
};

struct http_route {
	pthread_mutex_t lock;
	struct http_place *origin;
	struct http_place *kept; /* may be `origin` */
	bool plain_ok;           /* https may lead to http: the user asked for no safety */
};

/* Takes over @url, and clears it, also on failure. -ENOMEM. */
int http_route_init(struct http_route *r, struct http_url *url);
void http_route_clear(struct http_route *r);

/* The way of one request: where it began, and each redirect since. Not shared between threads. */
struct http_trail {
	struct http_place *places[HTTP_REDIRECTS_MAX + 1];
	unsigned int count;
	bool plain_ok;
};

/* Begins where the route says. Clears what was in @t. */
void http_trail_start(struct http_trail *t, struct http_route *r, int64_t now);
void http_trail_clear(struct http_trail *t);

/* Where the way has come to; valid until the trail is changed. */
struct http_place *http_trail_here(const struct http_trail *t);

/* Goes on to @location, which is relative to here. -EPROTO: too many redirects, a circle, or from
 * https to http. */
int http_trail_follow(struct http_trail *t, const char *location, int64_t now, struct err *e);

/* @p answered well: begin there from now on. */
void http_route_keep(struct http_route *r, struct http_place *p);

/* @p fails: begin at the user's URL again. False when it is the user's URL. */
bool http_route_forget(struct http_route *r, const struct http_place *p);

#endif
