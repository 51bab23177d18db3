/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of RFC 9110 for ranges and conditions, read strictly: where a server leaves room for
 * doubt whether these are the bytes that were asked for, they are not. */
#include "sources/http_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/bytes.h"

struct http_verdict http_verdict_error(enum http_answer answer, int code, const char *fmt, ...)
{
	struct http_verdict v = { .answer = answer, .code = code, .total = HTTP_UNKNOWN };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v.text, sizeof(v.text), fmt, ap);
	va_end(ap);
	return v;
}

static struct http_verdict accept_body(uint64_t off, uint64_t len, uint64_t total)
{
	return (struct http_verdict){
		.answer = HTTP_ACCEPT,
		.body_off = off,
		.body_len = len,
		.total = total,
	};
}

static struct http_verdict changed(const struct http_ask *ask, const struct http_headers *h)
{
	if (ask->version->addressed) {
		return http_verdict_error(HTTP_FATAL, -EBADMSG,
			"it has %" PRIu64 " bytes there, but %" PRIu64 " by the image's manifest",
			h->total, ask->version->size);
	}
	if (h->total != HTTP_UNKNOWN && h->total != ask->version->size) {
		return http_verdict_error(HTTP_CHANGED, -ESTALE,
			"the image changed on the server: it had %" PRIu64
			" bytes when it was opened, and has %" PRIu64 " now",
			ask->version->size, h->total);
	}
	return http_verdict_error(HTTP_CHANGED, -ESTALE,
		"the image changed on the server since it was opened (it was %s)",
		http_version_has_validator(ask->version) ? http_version_words(ask->version)
							 : "without a version");
}

static bool coded(const struct http_ask *ask, const struct http_headers *h)
{
	return h->coding == HTTP_CODING_OTHER || (h->coding == HTTP_CODING_GZIP && !ask->gzip_name);
}

static struct http_verdict refuse_coding(void)
{
	return http_verdict_error(HTTP_FATAL, -EPROTO,
		"the server sends it compressed (Content-Encoding), although it was asked not to; "
		"switch that off for this file");
}

/* What is wrong with a 206 whatever was asked for; HTTP_ACCEPT when nothing is. */
static struct http_verdict check_partial(const struct http_ask *ask, const struct http_headers *h)
{
	uint64_t last = ask->off + ask->len - 1;

	if (h->multipart) {
		return http_verdict_error(
			HTTP_FATAL, -EPROTO, "the server answers one range with several parts");
	}
	if (coded(ask, h)) {
		return refuse_coding();
	}
	if (!h->has_range || h->range_bad || h->unsatisfied) {
		return http_verdict_error(HTTP_FATAL, -EPROTO,
			"the server answers 206 without saying which range it sends "
			"(Content-Range)");
	}
	if (h->from != ask->off || h->to > last) {
		return http_verdict_error(HTTP_FATAL, -EPROTO,
			"the server sends bytes %" PRIu64 "-%" PRIu64 " when asked for %" PRIu64
			"-%" PRIu64,
			h->from, h->to, ask->off, last);
	}
	/* A shorter body is as good as one that breaks off. */
	if (h->length != HTTP_UNKNOWN && h->length > h->to - h->from + 1) {
		return http_verdict_error(HTTP_FATAL, -EPROTO,
			"the server announces %" PRIu64 " bytes for a range of %" PRIu64, h->length,
			h->to - h->from + 1);
	}
	return accept_body(h->from, h->to - h->from + 1, h->total);
}

static struct http_verdict check_range(const struct http_ask *ask, const struct http_headers *h)
{
	struct http_verdict v = check_partial(ask, h);

	if (v.answer != HTTP_ACCEPT) {
		return v;
	}
	if (!http_version_matches(ask->version, h) ||
		(h->total != HTTP_UNKNOWN && h->total != ask->version->size)) {
		return changed(ask, h);
	}
	return v;
}

static struct http_verdict check_whole(const struct http_ask *ask, const struct http_headers *h)
{
	struct http_headers seen = *h;

	if (coded(ask, h)) {
		return refuse_coding();
	}
	seen.total = h->length;
	if (!http_version_matches(ask->version, h) ||
		(h->length != HTTP_UNKNOWN && h->length != ask->version->size)) {
		return changed(ask, &seen);
	}
	return accept_body(0, ask->version->size, ask->version->size);
}

/* 200 to a range: certainly not the range. Why not? */
static struct http_verdict check_ignored(const struct http_ask *ask, const struct http_headers *h)
{
	struct http_headers seen = *h;

	if (ask->whole_ok) {
		return check_whole(ask, h);
	}
	seen.total = h->length;
	if (!http_version_matches(ask->version, h) ||
		(h->length != HTTP_UNKNOWN && h->length != ask->version->size)) {
		return changed(ask, &seen);
	}
	return http_verdict_error(HTTP_NO_RANGES, -EPROTO,
		"the server does not serve ranges of it (200 instead of 206)");
}

static struct http_verdict check_success(const struct http_ask *ask, const struct http_headers *h)
{
	bool partial = h->status == 206;

	switch (ask->kind) {
	case HTTP_RANGE:
		return partial ? check_range(ask, h) : check_ignored(ask, h);
	case HTTP_WHOLE:
		if (!partial) {
			return check_whole(ask, h);
		}
		break;
	case HTTP_PROBE:
		if (partial) {
			return check_partial(ask, h);
		}
		return coded(ask, h) ? refuse_coding() : accept_body(0, h->length, h->length);
	case HTTP_PROBE_PLAIN:
	case HTTP_DOCUMENT:
		if (!partial) {
			return coded(ask, h) ? refuse_coding()
					     : accept_body(0, h->length, h->length);
		}
		break;
	}
	return http_verdict_error(
		HTTP_FATAL, -EPROTO, "the server sends a range (206) that nobody asked for");
}

/* 416. An empty file has no range at all; some servers say nothing but 416 of it. */
static struct http_verdict check_unsatisfiable(
	const struct http_ask *ask, const struct http_headers *h)
{
	if (ask->kind == HTTP_PROBE) {
		if (h->has_range && !h->range_bad && h->total == 0) {
			return accept_body(0, 0, 0);
		}
		return http_verdict_error(HTTP_NO_RANGES, -EPROTO,
			"the server refuses the first range (416 Range Not Satisfiable)");
	}
	if (ask->version && h->has_range && !h->range_bad && h->total != ask->version->size) {
		return changed(ask, h);
	}
	return http_verdict_error(HTTP_FATAL, -EPROTO,
		"the server refuses bytes %" PRIu64 "-%" PRIu64 " (416 Range Not Satisfiable)",
		ask->off, ask->off + ask->len - 1);
}

static struct http_verdict check_unauthorized(
	const struct http_ask *ask, const struct http_headers *h)
{
	if (ask->credentials && (h->auth & HTTP_AUTH_DIGEST) && !(h->auth & HTTP_AUTH_BASIC)) {
		return http_verdict_error(HTTP_DIGEST, -EACCES,
			"the server does not accept this user and password (401 Unauthorized)");
	}
	if (ask->credentials) {
		return http_verdict_error(HTTP_REFUSED, -EACCES,
			"the server does not accept these credentials (401 Unauthorized)");
	}
	return http_verdict_error(HTTP_REFUSED, -EACCES,
		"the server asks for a user and password (401 Unauthorized): give --user and "
		"--password-file, or --secret");
}

/* 4xx that say more than that the request failed. */
static struct http_verdict check_client_error(
	const struct http_ask *ask, const struct http_headers *h)
{
	switch (h->status) {
	case 401:
		return check_unauthorized(ask, h);
	case 403:
		return http_verdict_error(HTTP_REFUSED, -EACCES,
			"the server refuses access (403 Forbidden)%s",
			ask->credentials ? ""
					 : ": it may want credentials, or the URL has expired");
	case 404:
	case 410:
		return http_verdict_error(HTTP_REFUSED, -ENOENT,
			"there is no such file on the server (%d %s)", h->status,
			http_status_words(h->status));
	case 400:
		return http_verdict_error(HTTP_REFUSED, -EPROTO,
			"the server does not understand the request (400 Bad Request)");
	case 407:
		return http_verdict_error(HTTP_FATAL, -EACCES,
			"the proxy asks for a user and password (407): put them into the proxy's "
			"URL");
	case 412:
		if (ask->kind == HTTP_RANGE) {
			return changed(ask, h);
		}
		break;
	case 416:
		return check_unsatisfiable(ask, h);
	default:
		break;
	}
	return http_verdict_error(HTTP_FATAL, -EPROTO, "the server answers %d %s", h->status,
		http_status_words(h->status));
}

/* Some stores behind registries know no ranges of what they serve, and say so. */
static bool refuses_ranges(const struct http_ask *ask, int status)
{
	return status == 501 && (ask->kind == HTTP_RANGE || ask->kind == HTTP_PROBE);
}

static bool may_pass(int status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

struct http_verdict http_check(const struct http_ask *ask, const struct http_headers *h)
{
	if (h->status == 200 || h->status == 206) {
		return check_success(ask, h);
	}
	if (is_redirect(h->status)) {
		if (!h->location) {
			return http_verdict_error(HTTP_FATAL, -EPROTO,
				"the server redirects (%d) without saying where to", h->status);
		}
		return (struct http_verdict){ .answer = HTTP_MOVED, .total = HTTP_UNKNOWN };
	}
	if (refuses_ranges(ask, h->status)) {
		return http_verdict_error(HTTP_NO_RANGES, -EPROTO,
			"the server does not serve ranges of it (501 Not Implemented)");
	}
	if (may_pass(h->status)) {
		return http_verdict_error(HTTP_AGAIN, -ETIMEDOUT, "the server answers %d %s",
			h->status, http_status_words(h->status));
	}
	if (h->status >= 400) {
		return check_client_error(ask, h);
	}
	return http_verdict_error(HTTP_FATAL, -EPROTO,
		"the server gives an answer that makes no sense here (status %d)", h->status);
}
