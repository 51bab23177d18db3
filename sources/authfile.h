/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that docker login and podman login write (containers-auth.json(5), docker's config.json
 * and the older .dockercfg). Pure.
 */
#ifndef SOURCES_AUTHFILE_H
#define SOURCES_AUTHFILE_H

#include <jansson.h>

#include "core/err.h"
#include "sources/registry_login.h"

/* @path is for messages. *ret is to be dropped. -EINVAL. */
int authfile_parse(const char *path, const char *text, size_t len, json_t **ret, struct err *e);

/* The name of the helper that is in charge of @ref's registry, or NULL. */
const char *authfile_helper(const json_t *file, const struct registry_ref *ref);

/* How helpers call @ref's registry. */
const char *authfile_server(const struct registry_ref *ref);

/* The most specific entry for @ref: of its repository, of what that lies in, of its host. -ENOENT:
 * none; -EINVAL: it is broken. */
int authfile_find(const char *path, const json_t *file, const struct registry_ref *ref,
	struct registry_login *ret, struct err *e);

#endif
