/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How one source is reached: credentials, TLS, proxy, limits; copied from source_opts, constant
 * once it is in use (but `digest`), shared by those who use it, and put onto easy handles.
 *
 * User, password, client certificate and custom headers go to the origin (scheme, host, port) of
 * the URL that the user gave, and nowhere else, wherever redirects lead.
 */
#ifndef SOURCES_HTTP_CONF_H
#define SOURCES_HTTP_CONF_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "sources/http_auth.h"
#include "sources/http_tls.h"
#include "sources/http_url.h"
#include "sources/source.h"

struct http_conf {
	_Atomic unsigned int refs;
	char *origin;
	char *user;
	char *password;
	struct curl_slist *headers;
	bool authorization; /* one of the headers is that */
	char *client_cert;
	char *client_key;
	struct http_trust trust;
	bool insecure;
	char *proxy;
	uint64_t limit_ms;
	unsigned int tries; /* in a row without progress; 0: no limit but the time */
	bool hard;
	_Atomic bool digest;    /* the server wants Digest instead of Basic */
	struct http_auth *auth; /* NULL: user and password, if any; owned */
};

/* @u is the URL of the source; its user info is the default for user and password. -EINVAL names
 * what is wrong. */
int http_conf_new(const struct http_url *u, const struct source_opts *opts, struct http_conf **ret,
	struct err *e);

/* How to reach @u on behalf of @c: the same authorities, proxy and limits, other credentials (both
 * may be NULL), no headers, no client certificate. -ENOMEM. */
int http_conf_derive(const struct http_conf *c, const struct http_url *u, const char *user,
	const char *password, struct http_conf **ret, struct err *e);

struct http_conf *http_conf_ref(struct http_conf *c);
/* NULL is nothing. */
void http_conf_unref(struct http_conf *c);

/* Whether @u is where the credentials belong to. */
bool http_conf_trusts(const struct http_conf *c, const struct http_url *u);

/* Sets all that does not depend on the range. @c and @u must outlive the transfer. */
void http_conf_apply(const struct http_conf *c, const struct http_url *u, CURL *easy);

#endif
