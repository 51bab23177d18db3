/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References of images: docker://[host[:port]/]repo[:tag][@digest]. Pure.
 *
 * The grammar is that of the distribution project's reference package: the first part is a host if
 * it has a '.', a ':' or an upper-case letter or is "localhost"; without a host it is docker.io,
 * where a repository of one part lies in library/. Without tag and digest it is the tag "latest";
 * of both, the digest counts.
 */
#ifndef SOURCES_REGISTRY_REF_H
#define SOURCES_REGISTRY_REF_H

#include <stdbool.h>

#include "core/err.h"

#define REGISTRY_SCHEME "docker://"

/* All strings are owned. */
struct registry_ref {
	char *domain; /* "docker.io", "host:5000": what credentials and certificates are kept by */
	char *host;   /* the "host[:port]" to connect to */
	char *path;   /* the repository */
	char *tag;    /* NULL: there is a digest */
	char *digest; /* NULL: there is a tag only */
	char *text;   /* to show: docker://domain/path:tag or @digest */
};

/* -EINVAL names what is wrong, without quoting what might be a password. */
int registry_ref_parse(const char *spec, struct registry_ref *ret, struct err *e);
int registry_ref_copy(const struct registry_ref *ref, struct registry_ref *ret, struct err *e);
void registry_ref_clear(struct registry_ref *ref);

/* Whether the host is this machine, seen from itself: plain HTTP is no risk there. */
bool registry_ref_is_loopback(const struct registry_ref *ref);

#endif
