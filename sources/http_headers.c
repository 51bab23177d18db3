/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of the fields that the engine needs; everything else is skipped. */
#include "sources/http_headers.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"

/* Longer lines are of no field that we want. */
#define LINE_MAX_BYTES (HTTP_LOCATION_MAX + 64)

bool http_parse_number(const char *text, uint64_t *ret)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*text)) {
		return false;
	}
	for (; isdigit((unsigned char)*text); text++) {
		if (!checked_mul(v, 10, &v) || !checked_add(v, (uint64_t)(*text - '0'), &v)) {
			return false;
		}
	}
	if (*text) {
		return false;
	}
	*ret = v;
	return true;
}

/* The number at *@p, which must end at @end; moves *@p behind @end. */
static bool take_number(const char **p, char end, uint64_t *ret)
{
	char digits[24];
	const char *stop = strchr(*p, end);
	size_t n = stop ? (size_t)(stop - *p) : sizeof(digits);

	if (n >= sizeof(digits)) {
		return false;
	}
	memcpy(digits, *p, n);
	digits[n] = '\0';
	*p = stop + 1;
	return http_parse_number(digits, ret);
}

/* RFC 9110, 14.4: bytes FROM-TO/TOTAL, bytes FROM-TO/, bytes * /TOTAL. */
bool http_parse_content_range(const char *value, struct http_headers *ret)
{
	uint64_t from = 0;
	uint64_t to = 0;
	uint64_t total = HTTP_UNKNOWN;
	bool unsatisfied;

	if (strncasecmp(value, "bytes", 5) != 0 || (value[5] != ' ' && value[5] != '\t')) {
		return false;
	}
	value += 5 + strspn(value + 5, " \t");
	unsatisfied = value[0] == '*' && value[1] == '/';
	if (unsatisfied) {
		value += 2;
	} else if (!take_number(&value, '-', &from) || !take_number(&value, '/', &to) ||
		   to < from) {
		return false;
	}
	if (strcmp(value, "*") != 0 && !http_parse_number(value, &total)) {
		return false;
	}
	if (unsatisfied ? total == HTTP_UNKNOWN : to >= total) {
		return false;
	}
	ret->unsatisfied = unsatisfied;
	ret->from = from;
	ret->to = to;
	ret->total = total;
	return true;
}

int64_t http_parse_date(const char *text)
{
	int64_t t = curl_getdate(text, NULL);

	return t > 0 ? t : 0;
}

uint64_t http_parse_retry_after(const char *value, int64_t now)
{
	uint64_t seconds;
	int64_t date;

	if (http_parse_number(value, &seconds)) {
		return seconds;
	}
	date = http_parse_date(value);
	if (date == 0) {
		return HTTP_UNKNOWN;
	}
	return date > now ? (uint64_t)(date - now) : 0;
}

/* The field's value when @line is of field @name, else NULL. */
static const char *value_of(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0 || line[n] != ':') {
		return NULL;
	}
	return line + n + 1 + strspn(line + n + 1, " \t");
}

/* An opaque tag in quotes, perhaps weak (RFC 9110, 8.8.3); anything else is no validator. */
static void take_etag(struct http_headers *h, const char *v)
{
	const char *quote = strncmp(v, "W/", 2) == 0 ? v + 2 : v;
	size_t len = strlen(v);

	h->etag[0] = '\0';
	if (len >= sizeof(h->etag) || strlen(quote) < 2 || quote[0] != '"' || v[len - 1] != '"' ||
		strchr(quote + 1, '"') != v + len - 1) {
		return;
	}
	memcpy(h->etag, v, len + 1);
}

static void take_last_modified(struct http_headers *h, const char *v)
{
	size_t len = strlen(v);

	h->last_modified[0] = '\0';
	if (len < sizeof(h->last_modified) && http_parse_date(v) > 0) {
		memcpy(h->last_modified, v, len + 1);
	}
}

static void take_range(struct http_headers *h, const char *v)
{
	if (h->has_range || !http_parse_content_range(v, h)) {
		h->range_bad = true;
	}
	h->has_range = true;
}

static void take_coding(struct http_headers *h, const char *v)
{
	if (strcasecmp(v, "gzip") == 0 || strcasecmp(v, "x-gzip") == 0) {
		h->coding = HTTP_CODING_GZIP;
	} else if (*v && strcasecmp(v, "identity") != 0) {
		h->coding = HTTP_CODING_OTHER;
	}
}

static void take_location(struct http_headers *h, const char *v)
{
	free(h->location);
	h->location = *v ? strdup(v) : NULL;
}

static void take_auth(struct http_headers *h, const char *v)
{
	if (strcasestr(v, "basic")) {
		h->auth |= HTTP_AUTH_BASIC;
	}
	if (strcasestr(v, "digest")) {
		h->auth |= HTTP_AUTH_DIGEST;
	}
}

/* RFC 9110, 5.3: several lines are one list. */
static void take_challenge(struct http_headers *h, const char *v)
{
	char *joined = NULL;

	take_auth(h, v);
	if (h->challenges && strlen(h->challenges) + strlen(v) > HTTP_LOCATION_MAX) {
		return;
	}
	if (asprintf(&joined, "%s%s%s", h->challenges ? h->challenges : "",
		    h->challenges ? ", " : "", v) >= 0) {
		free(h->challenges);
		h->challenges = joined;
	}
}

static void take_type(struct http_headers *h, const char *v)
{
	size_t n = strcspn(v, "; \t");

	h->multipart = strncasecmp(v, "multipart/byteranges", 20) == 0;
	n = n < sizeof(h->type) ? n : 0;
	for (size_t i = 0; i < n; i++) {
		h->type[i] = (char)(v[i] >= 'A' && v[i] <= 'Z' ? v[i] - 'A' + 'a' : v[i]);
	}
	h->type[n] = '\0';
}

static void take_digest(struct http_headers *h, const char *v)
{
	size_t n = strlen(v);

	n = n < sizeof(h->digest) ? n : 0;
	memcpy(h->digest, v, n);
	h->digest[n] = '\0';
}

static void take_field(struct http_headers *h, const char *line, int64_t now)
{
	const char *v;

	if ((v = value_of(line, "content-range"))) {
		take_range(h, v);
	} else if ((v = value_of(line, "content-length"))) {
		if (!http_parse_number(v, &h->length)) {
			h->length = HTTP_UNKNOWN;
		}
	} else if ((v = value_of(line, "etag"))) {
		take_etag(h, v);
	} else if ((v = value_of(line, "last-modified"))) {
		take_last_modified(h, v);
	} else if ((v = value_of(line, "date"))) {
		h->date = http_parse_date(v);
	} else if ((v = value_of(line, "retry-after"))) {
		h->retry_after = http_parse_retry_after(v, now);
	} else if ((v = value_of(line, "location"))) {
		take_location(h, v);
	} else if ((v = value_of(line, "content-encoding"))) {
		take_coding(h, v);
	} else if ((v = value_of(line, "content-type"))) {
		take_type(h, v);
	} else if ((v = value_of(line, "www-authenticate"))) {
		take_challenge(h, v);
	} else if ((v = value_of(line, "docker-content-digest"))) {
		take_digest(h, v);
	}
}

/* "HTTP/1.1 206 Partial Content" */
static void take_status(struct http_headers *h, const char *line)
{
	const char *space = strchr(line, ' ');

	http_headers_clear(h);
	if (space && isdigit((unsigned char)space[1]) && isdigit((unsigned char)space[2]) &&
		isdigit((unsigned char)space[3])) {
		h->status = (space[1] - '0') * 100 + (space[2] - '0') * 10 + (space[3] - '0');
	}
}

void http_headers_line(struct http_headers *h, const char *line, size_t len, int64_t now)
{
	char text[LINE_MAX_BYTES];

	while (len > 0 && strchr("\r\n \t", line[len - 1]) && line[len - 1]) {
		len--;
	}
	if (len >= sizeof(text) || memchr(line, '\0', len)) {
		return;
	}
	memcpy(text, line, len);
	text[len] = '\0';
	if (strncmp(text, "HTTP/", 5) == 0) {
		take_status(h, text);
	} else if (h->complete) {
		return; /* a trailer */
	} else if (len == 0) {
		h->complete = h->status >= 200;
	} else {
		take_field(h, text, now);
	}
}

void http_headers_clear(struct http_headers *h)
{
	free(h->location);
	free(h->challenges);
	*h = HTTP_HEADERS_INIT;
}

const char *http_status_words(int status)
{
	static const struct {
		int status;
		const char *words;
	} table[] = {
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 407, "Proxy Authentication Required" },
		{ 408, "Request Timeout" },
		{ 410, "Gone" },
		{ 412, "Precondition Failed" },
		{ 416, "Range Not Satisfiable" },
		{ 429, "Too Many Requests" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].status == status) {
			return table[i].words;
		}
	}
	return "";
}
