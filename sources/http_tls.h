/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which certificate authorities are believed, beyond those of the system. They are read once an
 * image and shared by its connections: a parsed bundle takes more than a megabyte.
 */
#ifndef SOURCES_HTTP_TLS_H
#define SOURCES_HTTP_TLS_H

#include <curl/curl.h>
#include <openssl/x509.h>
#include <stddef.h>

#include "core/err.h"

struct http_trust {
	X509_STORE *store; /* the system's authorities and the extra ones; NULL: curl's default */
	char *extra;       /* PEM of the extra ones: by it curl tells connections apart */
	size_t extra_len;
};

/* The system's authorities plus those of @cacert (a file), @cert_dir (all its files) and @ca_pem
 * (text); any may be NULL. Files in @cert_dir that hold no certificate are passed over; @cacert and
 * @ca_pem must hold one. -EINVAL names the file. */
int http_trust_init(struct http_trust *t, const char *cacert, const char *cert_dir,
	const char *ca_pem, struct err *e);
/* The same authorities; -ENOMEM. */
int http_trust_copy(const struct http_trust *t, struct http_trust *ret);
void http_trust_clear(struct http_trust *t);

/* @t must outlive the transfer. */
void http_trust_apply(const struct http_trust *t, CURL *easy);

#endif
