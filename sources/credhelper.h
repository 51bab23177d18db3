/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that keep credentials: docker-credential-NAME, found on PATH, speaks over its standard
 * input and output (github.com/docker/docker-credential-helpers). Nothing secret is in its
 * arguments.
 */
#ifndef SOURCES_CREDHELPER_H
#define SOURCES_CREDHELPER_H

#include "core/err.h"

/* Asks helper @name for @server. Both results are malloc()ed, @ret_secret is to be wiped. -ENOENT:
 * it has none for that server; -EACCES: it fails; the text names it. Waits 10 s at most. */
int credhelper_get(
	const char *name, const char *server, char **ret_user, char **ret_secret, struct err *e);

#endif
