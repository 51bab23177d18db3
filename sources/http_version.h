/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which version of a resource is meant: its validators (RFC 9110, 8.8) and its size. Pure.
 *
 * The id of an image is one line that names its URL and version, and can be read again:
 *   URL etag="abc" size=123
 *   URL last-modified="Tue, 15 Nov 1994 12:45:26 GMT" size=123      where there is no tag
 *   URL open=0123456789abcdef size=123         no validator: good for this process only
 */
#ifndef SOURCES_HTTP_VERSION_H
#define SOURCES_HTTP_VERSION_H

#include <stdbool.h>
#include <stdint.h>

#include "sources/http_headers.h"

struct http_version {
	char etag[HTTP_ETAG_MAX];          /* with quotes and W/; "" without */
	char last_modified[HTTP_DATE_MAX]; /* as the server wrote it; "" without or useless */
	bool if_range;                     /* last_modified is old enough to be sent as If-Range */
	bool addressed; /* the name is a digest of the bytes: what has the size is of this version
			 */
	uint64_t size;
};

/* What @h says of the resource, whose size the caller knows. */
struct http_version http_version_of(const struct http_headers *h, uint64_t size);

bool http_version_has_validator(const struct http_version *v);

/* Strong: the same tag means the same bytes. */
bool http_version_strong(const struct http_version *v);

/* Whether the validators of @h are of version @v: the strong tag is the same; or none differs, and
 * at least one that @v has is there. An unversioned @v matches anything. Says nothing about the
 * size. */
bool http_version_matches(const struct http_version *v, const struct http_headers *h);

/* malloc()ed; NULL without memory. @nonce is for versions without a validator. */
char *http_version_id(const struct http_version *v, const char *url, uint64_t nonce);

/* The reverse. False unless @id is of @url and has a validator. */
bool http_version_parse(const char *id, const char *url, struct http_version *ret);

/* For people: the ETag, else the date, else "". */
const char *http_version_words(const struct http_version *v);

#endif
