/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificate authorities are believed. */
#ifndef SOURCES_HTTP_TLS_H
#define SOURCES_HTTP_TLS_H

#include <stddef.h>

#include "core/err.h"

/* The system's authorities plus those of @cacert (a file) and @cert_dir (all its files), as one PEM
 * bundle; either may be NULL. *ret is malloc()ed. Files in @cert_dir that hold no certificate are
 * passed over; @cacert must hold one. -EINVAL names the file. */
int http_tls_bundle(
	const char *cacert, const char *cert_dir, char **ret, size_t *ret_len, struct err *e);

#endif
