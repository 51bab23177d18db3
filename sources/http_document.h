/* SPDX-License-Identifier: Apache-2.0 */
/* A small answer to a question, in memory: manifests, tokens. By the rules of http_fetch.h. */
#ifndef SOURCES_HTTP_DOCUMENT_H
#define SOURCES_HTTP_DOCUMENT_H

#include "sources/http_fetch.h"

struct http_document {
	/* the question; all borrowed */
	struct net *net;
	struct http_conf *conf;
	const char *url;
	const char *name; /* for messages */
	struct http_question question;
	size_t limit;      /* of the body; one that is longer is cut after limit + 1 bytes */
	uint64_t limit_ms; /* 0: as configured */
	bool opening;      /* as in struct http_fetch */
	bool patient;      /* may wait for ever, where the user says so */
	const _Atomic bool *cancel;

	/* the answer; http_document_clear() frees it, also after a failure */
	char *body; /* with a NUL behind */
	size_t len;
	struct http_headers head;

	/* after a failure, as in struct http_fetch */
	int status;
	bool temporary;
	bool elsewhere;
	enum http_cause cause;
};

int http_document_get(struct http_document *d, struct err *e);

/* Wipes it, too. */
void http_document_clear(struct http_document *d);

#endif
