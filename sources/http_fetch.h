/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting bytes, whatever it takes: requests, redirects, retries, resumption, within the time
 * limit. What is handed to the sink is of one version, in order, without gaps, once.
 */
#ifndef SOURCES_HTTP_FETCH_H
#define SOURCES_HTTP_FETCH_H

#include "core/image.h"
#include "sources/http_check.h"
#include "sources/http_remote.h"

struct http_fetch {
	struct http_remote *remote;
	struct http_ask ask;
	image_sink_fn *sink;
	void *ctx;
	uint64_t limit_ms; /* without progress */
	bool hard;         /* never give up on what may pass */
	bool opening;      /* an unreachable server is a mistake of the user's: say so soon */

	/* the answer, on success */
	struct http_headers head;    /* also of a refusal; the caller clears it in any case */
	struct http_verdict verdict; /* HTTP_DONE, HTTP_MORE (a probe without total) */
	uint64_t got;

	/* after a failure */
	bool temporary; /* it was one that may pass */
	int status;     /* of the last answer; 0: there was none */
	enum http_cause cause;
	bool elsewhere; /* it came from where redirects led to */
};

/* Blocks until @f is done, or failed for good: then a negative errno, and @e names the URL. */
int http_fetch_run(struct http_fetch *f, struct err *e);

#endif
