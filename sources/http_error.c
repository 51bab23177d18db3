/* SPDX-License-Identifier: Apache-2.0 */
/* From curl's codes to errors that a user can act on. */
#include "sources/http_error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"

static struct http_verdict again(
	enum http_cause cause, int code, const char *what, const char *more)
{
	struct http_verdict v =
		http_verdict_error(HTTP_AGAIN, code, "%s%s%s", what, *more ? ": " : "", more);

	v.cause = cause;
	return v;
}

static struct http_verdict late(const struct http_failure *f)
{
	struct http_verdict v;

	if (f->end == NET_STALLED) {
		v = http_verdict_error(HTTP_AGAIN, -ETIMEDOUT,
			f->connected ? "the server sent nothing for %" PRIu64 " s"
				     : "the server did not answer within %" PRIu64 " s",
			(f->stall_ms + 999) / 1000);
		v.cause = f->connected ? HTTP_CAUSE_STALL : HTTP_CAUSE_UNREACHABLE;
		return v;
	}
	v = http_verdict_error(HTTP_AGAIN, -ETIMEDOUT,
		"the server sent less than %u KiB in %" PRIu64 " s", NET_PROGRESS / 1024,
		f->limit_ms / 1000);
	v.cause = HTTP_CAUSE_LATE;
	return v;
}

/* A rejected client certificate shows only after the handshake in TLS 1.3. */
static bool is_certificate_alert(const char *detail)
{
	static const char *const words[] = { "alert bad certificate", "certificate required",
		"alert unknown ca", "alert certificate", "alert unsupported certificate",
		"alert access denied", "alert handshake failure" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasestr(detail, words[i])) {
			return true;
		}
	}
	return false;
}

static struct http_verdict client_certificate(const struct http_failure *f)
{
	if (f->user_cert) {
		return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"the server does not accept the client certificate %s (%s)", f->user_cert,
			f->detail);
	}
	return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
		"the server refuses the TLS connection; it may want a client certificate: give "
		"--client-cert (%s)",
		f->detail);
}

static struct http_verdict server_certificate(const struct http_failure *f)
{
	if (strcasestr(f->detail, "issuer") || strcasestr(f->detail, "self-signed") ||
		strcasestr(f->detail, "self signed")) {
		return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"the certificate of %s is signed by an unknown authority; give its CA with "
			"--cacert or --cert-dir, or --insecure",
			f->host);
	}
	if (strcasestr(f->detail, "expired")) {
		return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"the certificate of %s has expired; it must be renewed (or use --insecure)",
			f->host);
	}
	return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
		"the certificate of %s is not accepted: %s", f->host, f->detail);
}

/* "OpenSSL/3.0.9: error:0A00010B:SSL routines::wrong version number" without its beginning. */
static const char *openssl_reason(const char *detail)
{
	const char *p = strstr(detail, "::");

	return p ? p + 2 : detail;
}

/* A handshake that the network broke may pass; one that failed by itself does not. */
static struct http_verdict handshake(const struct http_failure *f)
{
	if (is_certificate_alert(f->detail)) {
		return client_certificate(f);
	}
	if (strstr(f->detail, "error:")) {
		struct http_verdict v = http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"no TLS connection to %s: %s; does it speak https on this port?",
			f->authority, openssl_reason(f->detail));

		v.cause = HTTP_CAUSE_NOT_TLS;
		return v;
	}
	return again(HTTP_CAUSE_UNREACHABLE, -ECONNRESET, "the TLS handshake broke", f->detail);
}

static struct http_verdict tunnel(const struct http_failure *f)
{
	if (f->connect_status == 407) {
		return http_verdict_error(HTTP_FATAL, -EACCES,
			"the proxy asks for a user and password (407): put them into the proxy's "
			"URL");
	}
	if (f->connect_status >= 500) {
		return again(HTTP_CAUSE_UNREACHABLE, -ENXIO,
			"the proxy cannot connect to the server", f->detail);
	}
	return http_verdict_error(HTTP_FATAL, -EACCES,
		"the proxy refuses to connect to the server (status %d)", f->connect_status);
}

/* Whom curl could not connect to, if that was not the server but a proxy: "host:port". */
static bool failed_proxy(const struct http_failure *f, char *ret, size_t room)
{
	char host[256];
	char port[8];

	if (sscanf(f->detail, "Failed to connect to %255s port %7[0-9]", host, port) != 2) {
		return false;
	}
	snprintf(ret, room, "%s:%s", host, port);
	return strcasecmp(ret, f->authority) != 0;
}

static struct http_verdict unreachable(const struct http_failure *f)
{
	char proxy[270];
	struct http_verdict v;

	if (f->result == CURLE_COULDNT_RESOLVE_HOST) {
		v = http_verdict_error(HTTP_AGAIN, -ENXIO,
			"the host name %s cannot be resolved: check the URL and the DNS", f->host);
	} else if (f->result == CURLE_COULDNT_RESOLVE_PROXY) {
		v = http_verdict_error(HTTP_AGAIN, -ENXIO,
			"the name of the proxy cannot be resolved: check --proxy or HTTPS_PROXY");
	} else if (failed_proxy(f, proxy, sizeof(proxy))) {
		v = http_verdict_error(HTTP_AGAIN, -ENXIO,
			"the proxy %s refuses the connection or is out of reach: check --proxy or "
			"HTTPS_PROXY",
			proxy);
	} else {
		v = http_verdict_error(HTTP_AGAIN, -ENXIO,
			"%s refuses the connection or is out of reach: check the URL, and that the "
			"server runs",
			f->authority);
	}
	v.cause = HTTP_CAUSE_UNREACHABLE;
	return v;
}

static struct http_verdict certificates(const struct http_failure *f)
{
	switch ((int)f->result) {
	case CURLE_SSL_CERTPROBLEM:
		return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"the client certificate or key cannot be used: %s", f->detail);
	case CURLE_SSL_CACERT_BADFILE:
		return http_verdict_error(HTTP_FATAL, -EKEYREJECTED,
			"the certificate authorities cannot be read: %s", f->detail);
	case CURLE_PEER_FAILED_VERIFICATION:
		return server_certificate(f);
	default:
		return handshake(f);
	}
}

static struct http_verdict broken(const struct http_failure *f)
{
	if (f->connect_status >= 400) {
		return tunnel(f);
	}
	if (is_certificate_alert(f->detail)) {
		return client_certificate(f);
	}
	if (f->result == CURLE_OPERATION_TIMEDOUT) {
		struct http_verdict v = http_verdict_error(
			HTTP_AGAIN, -ETIMEDOUT, "no connection to %s: %s", f->authority, f->detail);

		v.cause = HTTP_CAUSE_UNREACHABLE;
		return v;
	}
	if (f->result == CURLE_OK || f->result == CURLE_PARTIAL_FILE) {
		return again(HTTP_CAUSE_BROKEN, -ECONNRESET,
			"the server ended the transfer before its end", "");
	}
	if (f->result == CURLE_GOT_NOTHING) {
		return again(HTTP_CAUSE_BROKEN, -ECONNRESET,
			"the server closed the connection without an answer", "");
	}
	return again(HTTP_CAUSE_BROKEN, -ECONNRESET, "the transfer broke off", f->detail);
}

struct http_verdict http_error(const struct http_failure *f)
{
	if (f->end == NET_STOPPED) {
		return http_verdict_error(HTTP_FATAL, -ECANCELED, "stopped");
	}
	if (f->end != NET_ENDED) {
		return late(f);
	}
	switch ((int)f->result) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return unreachable(f);
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
		return certificates(f);
	case CURLE_OUT_OF_MEMORY:
		return http_verdict_error(HTTP_FATAL, -ENOMEM, "out of memory");
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return http_verdict_error(
			HTTP_FATAL, -EPROTO, "the server does not speak HTTP: %s", f->detail);
	default:
		return broken(f);
	}
}
