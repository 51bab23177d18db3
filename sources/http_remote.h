/* SPDX-License-Identifier: Apache-2.0 */
/* What all requests for one image share. */
#ifndef SOURCES_HTTP_REMOTE_H
#define SOURCES_HTTP_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "sources/http_conf.h"
#include "sources/http_route.h"
#include "sources/http_version.h"
#include "sources/net.h"

struct http_remote {
	struct net *net;
	struct http_conf *conf; /* a reference */
	struct http_route route;
	char *label;                 /* the user's URL, as it may be shown */
	char *name;                  /* what messages call it; NULL: by its URL */
	const _Atomic bool *cancel;  /* all requests are to end; mostly &stopped */
	bool gzip_name;              /* it ends in .gz: gzip is the file, not the way it travels */
	struct http_version version; /* fixed when the image is open */
	_Atomic bool changed;     /* the server has another version: nothing is fetched any more */
	_Atomic bool unconfirmed; /* the server was not reached yet; version is from before */
	_Atomic bool no_ranges;
	_Atomic bool streamed;       /* bytes of a transfer of all of it were handed over */
	_Atomic uint64_t gave_up_ms; /* net_now_ms() when retries were spent; 0 after a byte came */
	_Atomic bool stopped;        /* nobody waits any more: all requests end */
	_Atomic bool warming;        /* one transfer makes a cache on the way take all of it */
	_Atomic bool warmed;         /* that was tried */

	_Atomic uint64_t requests;
	_Atomic uint64_t bytes_fetched; /* of bodies */
	_Atomic uint64_t retries;
	_Atomic uint64_t redirects;
	_Atomic uint64_t stalls;
	_Atomic uint64_t connections; /* opened */
};

#endif
