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

#endif
