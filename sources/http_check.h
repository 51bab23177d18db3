/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an answer is what was asked for. Pure: from a question and a header to a verdict. No byte
 * of a body is used before its header passed here.
 */
#ifndef SOURCES_HTTP_CHECK_H
#define SOURCES_HTTP_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "sources/http_headers.h"
#include "sources/http_version.h"

enum http_kind {
	HTTP_PROBE,       /* the first bytes, of whatever version there is */
	HTTP_PROBE_PLAIN, /* the same without asking for a range */
	HTTP_RANGE,       /* a range of a known version */
	HTTP_WHOLE,       /* all of a known version, from a server without ranges */
	HTTP_DOCUMENT,    /* an answer to a question, of at most `len` bytes */
};

#define HTTP_PROBE_BYTES 65536U

/* A question that is not for the bytes of a file. Strings are borrowed. */
struct http_question {
	const char *method; /* "GET", "HEAD" or "POST" */
	const char *accept; /* media types; NULL: any */
	const char *form;   /* what is posted, application/x-www-form-urlencoded; a secret */
	char *said;         /* gets the beginning of the body of a refusal */
	size_t said_room;   /* with its NUL */
};

struct http_ask {
	enum http_kind kind;
	uint64_t off; /* what is wanted; off + len <= size of the version */
	uint64_t len;
	const struct http_version *version; /* of RANGE and WHOLE */
	bool credentials;                   /* some were sent */
	bool gzip_name;                     /* the URL says that the file itself is gzip */
	bool whole_ok;                      /* of RANGE: an answer that is all of it will do, too */
	bool drain; /* ... and is read to its end, for the sake of a cache on the way */
	const struct http_question *question; /* of DOCUMENT */
};

enum http_answer {
	HTTP_ACCEPT,    /* take the body: it begins at `body_off` and has `body_len` bytes */
	HTTP_MOVED,     /* see location */
	HTTP_AGAIN,     /* may pass: try again */
	HTTP_REFUSED,   /* final, unless the URL came from a redirect that has expired */
	HTTP_DIGEST,    /* credentials, but by Digest */
	HTTP_NO_RANGES, /* the right version, but all of it */
	HTTP_CHANGED,   /* another version */
	HTTP_FATAL,

	/* of whole transfers, not of headers: */
	HTTP_DONE, /* all that was wanted came */
	HTTP_MORE, /* what the server had announced came, but it is less than was wanted */
};

enum http_cause {
	HTTP_CAUSE_ANSWER,      /* the server said so */
	HTTP_CAUSE_BROKEN,      /* the transfer broke */
	HTTP_CAUSE_UNREACHABLE, /* no connection */
	HTTP_CAUSE_NOT_TLS,     /* what answered does not speak TLS */
	HTTP_CAUSE_STALL,
	HTTP_CAUSE_LATE, /* the clock of the read ran out */
};

struct http_verdict {
	enum http_answer answer;
	enum http_cause cause;
	uint64_t body_off;
	uint64_t body_len; /* HTTP_UNKNOWN: until it ends */
	uint64_t total;    /* of the resource; HTTP_UNKNOWN */
	int code;          /* negative errno, where it is an error */
	char text[256];    /* likewise; follows "URL: " */
};

/* @h is complete. */
struct http_verdict http_check(const struct http_ask *ask, const struct http_headers *h);

/* A verdict that is an error. */
struct http_verdict http_verdict_error(enum http_answer answer, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
