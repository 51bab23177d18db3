/* SPDX-License-Identifier: Apache-2.0 */
/* What a transfer without a usable answer means: may it pass, and what can the user do? Pure. */
#ifndef SOURCES_HTTP_ERROR_H
#define SOURCES_HTTP_ERROR_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "sources/http_check.h"
#include "sources/net.h"

struct http_failure {
	enum net_end end;
	CURLcode result;
	const char *detail;    /* curl's own words, "" without */
	const char *host;      /* "host" */
	const char *authority; /* "host:port" */
	int connect_status;    /* of a proxy's answer to CONNECT; 0 without */
	bool connected;        /* there was a connection to the server */
	uint64_t stall_ms;     /* how long it was allowed to be silent */
	uint64_t limit_ms;     /* the clock's */
	const char *user_cert; /* the client certificate that was used, or NULL */
};

struct http_verdict http_error(const struct http_failure *f);

#endif
