/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URL arithmetic for http and https (RFC 3986): what is sent, what may be shown, and where
 * credentials may go. Pure: no network, no state.
 */
#ifndef SOURCES_HTTP_URL_H
#define SOURCES_HTTP_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* All strings are owned; http_url_clear() frees them. */
struct http_url {
	char *full;  /* what is asked for: without user info and fragment */
	char *label; /* what people, keys and ids see: `full` without the parameters that sign it */
	char *origin; /* "https://host:port", lower case: where credentials belong to */
	char *host;   /* for messages */
	char *user;   /* decoded user info, or NULL */
	char *password;
	bool tls;
	int64_t expires; /* when a signed URL ends, seconds since the epoch; 0: not known */
};

/* -EINVAL unless @text is an absolute http or https URL. */
int http_url_parse(const char *text, struct http_url *ret, struct err *e);

/* Where a redirect to @location leads from @base. User info in @location is ignored. */
int http_url_resolve(
	const struct http_url *base, const char *location, struct http_url *ret, struct err *e);

/* The URL of @name (checked by the caller, not yet encoded) beside @text; keeps user info, drops
 * the query. malloc()ed. */
int http_url_sibling(const char *text, const char *name, char **ret, struct err *e);

/* The last part of @text's path, decoded and fit to be the name of a file (no slash, no control
 * characters), or its host when the path has none. malloc()ed. */
int http_url_path(const char *text, char **ret, struct err *e);

void http_url_clear(struct http_url *u);

#endif
