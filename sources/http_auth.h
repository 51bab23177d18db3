/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorization that changes over time (tokens), for the requests to one origin. What is asked for
 * blocks on the network, on the thread of whoever makes the request; implementations are
 * thread-safe. Redirects to elsewhere never see it.
 */
#ifndef SOURCES_HTTP_AUTH_H
#define SOURCES_HTTP_AUTH_H

#include <stdbool.h>

#include "core/err.h"

struct http_auth;

struct http_auth_ops {
	/* The value of Authorization for the next request; malloc()ed, a secret; NULL: none. Ends
	 * with -ECANCELED soon after *@cancel. */
	int (*authorize)(
		struct http_auth *a, const _Atomic bool *cancel, char **ret, struct err *e);

	/* The origin answered 401 to a request with @used (NULL: none), and @challenges
	 * (WWW-Authenticate; NULL: none). 0: ask again with what authorize() says now; negative:
	 * there is nothing better. */
	int (*refused)(struct http_auth *a, const char *used, const char *challenges,
		const _Atomic bool *cancel, struct err *e);

	/* The origin took a request with @used. */
	void (*accepted)(struct http_auth *a, const char *used);

	void (*free)(struct http_auth *a);
};

struct http_auth {
	const struct http_auth_ops *ops;
};

#endif
