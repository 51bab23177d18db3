/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of an answer, taken apart line by line (RFC 9110, 9112). Pure: what a server sends is
 * judged elsewhere. A field that is broken or too long counts as absent, except Content-Range,
 * which is then `range_bad`.
 */
#ifndef SOURCES_HTTP_HEADERS_H
#define SOURCES_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_ETAG_MAX     512
#define HTTP_DATE_MAX     64
#define HTTP_LOCATION_MAX 16384
#define HTTP_TYPE_MAX     256
#define HTTP_DIGEST_MAX   256
#define HTTP_UNKNOWN      UINT64_MAX

enum http_coding {
	HTTP_CODING_NONE, /* or identity */
	HTTP_CODING_GZIP,
	HTTP_CODING_OTHER,
};

/* Answers to "who are you?" that the server would accept. */
#define HTTP_AUTH_BASIC  0x1U
#define HTTP_AUTH_DIGEST 0x2U

struct http_headers {
	int status;    /* 0: nothing yet */
	bool complete; /* the empty line came, and it was not of a 1xx answer */
	bool has_range;
	bool range_bad;
	bool unsatisfied;     /* "bytes * / total" */
	uint64_t from;        /* first byte */
	uint64_t to;          /* last byte */
	uint64_t total;       /* HTTP_UNKNOWN: "*" */
	uint64_t length;      /* Content-Length, HTTP_UNKNOWN without */
	uint64_t retry_after; /* seconds, HTTP_UNKNOWN without */
	int64_t date;         /* seconds since the epoch; 0 without */
	enum http_coding coding;
	bool multipart;    /* multipart/byteranges */
	unsigned int auth; /* HTTP_AUTH_* */
	char etag[HTTP_ETAG_MAX];
	char last_modified[HTTP_DATE_MAX];
	char type[HTTP_TYPE_MAX];     /* Content-Type without its parameters, lower case */
	char digest[HTTP_DIGEST_MAX]; /* Docker-Content-Digest */
	char *location;               /* owned; NULL without */
	char *challenges; /* owned: WWW-Authenticate, several joined by ", "; NULL without */
};

#define HTTP_HEADERS_INIT                                                                          \
	((struct http_headers){                                                                    \
		.total = HTTP_UNKNOWN, .length = HTTP_UNKNOWN, .retry_after = HTTP_UNKNOWN })

/* One line, with or without its CRLF. A status line starts over. @now: seconds since the epoch, for
 * a Retry-After that is a date. */
void http_headers_line(struct http_headers *h, const char *line, size_t len, int64_t now);

void http_headers_clear(struct http_headers *h);

/* Decimal digits only. False on anything else, and on overflow. */
bool http_parse_number(const char *text, uint64_t *ret);

/* The value of Content-Range into from, to, total, unsatisfied. False when it is broken. */
bool http_parse_content_range(const char *value, struct http_headers *ret);

/* An HTTP date as seconds since the epoch; 0 when it is none. */
int64_t http_parse_date(const char *text);

/* Seconds or a date, as seconds from @now; HTTP_UNKNOWN when it is neither. */
uint64_t http_parse_retry_after(const char *value, int64_t now);

/* The standard's words for a status, or "". */
const char *http_status_words(int status);

#endif
