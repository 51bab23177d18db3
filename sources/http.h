/* SPDX-License-Identifier: Apache-2.0 */
/* An image that a web server has: opening it, and reading ranges of it. See sources/source.h for
 * the meaning of the arguments and the errors. */
#ifndef SOURCES_HTTP_H
#define SOURCES_HTTP_H

#include "core/err.h"
#include "core/image.h"
#include "sources/source.h"

int http_open(struct net *net, const char *spec, const struct source_opts *opts, struct image **ret,
	struct err *e);

struct http_conf;

/* What a registry keeps by its digest. All borrowed but a reference to @conf. */
struct http_blob {
	struct http_conf *conf;
	const char *url;
	const char *name; /* for messages */
	const char *id;
	uint64_t size;
	bool known; /* bytes of it are in a cache, and the server has ranges: it is not asked now */
};

/* The image fails reads with -EBADMSG when the server has another size. */
int http_blob_open(
	struct net *net, const struct http_blob *blob, struct image **ret, struct err *e);

#endif
