/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its answer: no retries, no redirects. */
#ifndef SOURCES_HTTP_REQUEST_H
#define SOURCES_HTTP_REQUEST_H

#include "core/image.h"
#include "sources/http_check.h"
#include "sources/http_remote.h"

struct http_request {
	/* the question */
	struct http_remote *remote;
	const struct http_url *url;
	struct http_ask ask;
	image_sink_fn *sink; /* gets the wanted bytes, in order, on the transfer thread */
	void *ctx;
	struct net_clock *clock;
	uint64_t stall_ms;
	const char *authorization; /* for the origin; NULL: what the configuration says */

	/* the answer */
	struct http_headers head;
	struct http_verdict verdict;
	uint64_t received; /* bytes of an accepted body, wanted or not */
	uint64_t got;      /* wanted bytes that the sink had, from ask.off on */
};

/* Blocks until it is answered or failed. Clear @q->head with http_headers_clear() afterwards. */
void http_request_run(struct http_request *q);

#endif
