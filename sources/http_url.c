/* SPDX-License-Identifier: Apache-2.0 */
/* URL arithmetic on top of curl's own parser, so that what is checked is what curl connects to. */
#include "sources/http_url.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/cleanup.h"

static void cleanup_curlu(CURLU **h)
{
	curl_url_cleanup(*h);
}

static void cleanup_curl_str(char **s)
{
	curl_free(*s);
}

/* Parameters that carry a signature or a token and not the name of a file. Those of the second list
 * are common words: they go only where one of the first list shows that the URL is signed. */
static const char *const secret_prefix[] = { "x-amz-", "x-goog-", "x-oss-", "x-ms-" };
static const char *const secret_name[] = { "sig", "signature", "token", "access_token",
	"private_token", "auth_token", "jwt", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid",
	"security-token", "key-pair-id", "hdnts", "hdnea", "__token__" };
static const char *const signed_name[] = { "expires", "policy", "se", "sp", "sr", "sv", "st", "spr",
	"sip", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv", "rscc", "rscd", "rsce",
	"rscl", "rsct" };

static bool in_list(const char *const *list, size_t count, const char *p, size_t len)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(list[i]) == len && strncasecmp(list[i], p, len) == 0) {
			return true;
		}
	}
	return false;
}

static bool is_secret(const char *p, size_t len)
{
	for (size_t i = 0; i < sizeof(secret_prefix) / sizeof(*secret_prefix); i++) {
		size_t n = strlen(secret_prefix[i]);

		if (len >= n && strncasecmp(secret_prefix[i], p, n) == 0) {
			return true;
		}
	}
	return in_list(secret_name, sizeof(secret_name) / sizeof(*secret_name), p, len);
}

static bool is_signed_word(const char *p, size_t len)
{
	return in_list(signed_name, sizeof(signed_name) / sizeof(*signed_name), p, len);
}

static bool has_secret(const char *query)
{
	while (*query) {
		size_t len = strcspn(query, "&");

		if (is_secret(query, strcspn(query, "=&"))) {
			return true;
		}
		query += len + (query[len] == '&');
	}
	return false;
}

/* The query without its secrets, in place. */
static void redact(char *query)
{
	bool is_signed = has_secret(query);
	char *out = query;
	const char *in = query;

	while (*in) {
		size_t len = strcspn(in, "&");
		size_t name = strcspn(in, "=&");
		bool more = in[len] == '&';

		if (!is_secret(in, name) && !(is_signed && is_signed_word(in, name))) {
			if (out != query) {
				*out++ = '&';
			}
			memmove(out, in, len);
			out += len;
		}
		in += len + more;
	}
	*out = '\0';
}

/* The value of parameter @name in @query, copied into @ret; false when it is not there or does not
 * fit. */
static bool query_value(const char *query, const char *name, char *ret, size_t room)
{
	size_t want = strlen(name);

	while (*query) {
		size_t len = strcspn(query, "&");
		size_t key = strcspn(query, "=&");

		if (key == want && strncasecmp(query, name, want) == 0 && key < len &&
			len - key - 1 < room) {
			memcpy(ret, query + key + 1, len - key - 1);
			ret[len - key - 1] = '\0';
			return true;
		}
		query += len + (query[len] == '&');
	}
	return false;
}

static int64_t number(const char *text)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	return errno || *end || v <= 0 || v > INT64_MAX / 2 ? 0 : v;
}

static int64_t utc(const char *text, const char *format)
{
	struct tm tm = { 0 };

	return strptime(text, format, &tm) ? timegm(&tm) : 0;
}

/* AWS and Google: date + lifetime; CloudFront and older S3: Expires; Azure: se. */
static int64_t find_expiry(const char *query)
{
	static const char *const vendor[][2] = { { "x-amz-date", "x-amz-expires" },
		{ "x-goog-date", "x-goog-expires" } };
	char date[64];
	char life[32];

	for (size_t i = 0; i < sizeof(vendor) / sizeof(*vendor); i++) {
		if (query_value(query, vendor[i][0], date, sizeof(date)) &&
			query_value(query, vendor[i][1], life, sizeof(life))) {
			int64_t from = utc(date, "%Y%m%dT%H%M%SZ");

			return from && number(life) ? from + number(life) : 0;
		}
	}
	if (!has_secret(query)) {
		return 0;
	}
	if (query_value(query, "expires", life, sizeof(life))) {
		return number(life);
	}
	if (query_value(query, "se", date, sizeof(date))) {
		for (char *colon = strstr(date, "%3"); colon; colon = strstr(colon, "%3")) {
			*colon++ = ':';
			memmove(colon, colon + 2, strlen(colon + 2) + 1);
		}
		return utc(date, "%Y-%m-%dT%H:%M:%SZ");
	}
	return 0;
}

/* A part of @h as a string of our own; NULL when it has none. */
static char *part(CURLU *h, CURLUPart what, unsigned int flags)
{
	CLEANUP(cleanup_curl_str) char *text = NULL;

	if (curl_url_get(h, what, &text, flags) != CURLUE_OK || !text) {
		return NULL;
	}
	return strdup(text);
}

/* Host names are ASCII, whatever the locale. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static void lower_host(CURLU *h)
{
	CLEANUP_FREE char *host = part(h, CURLUPART_HOST, 0);

	for (char *p = host; p && *p; p++) {
		*p = lower(*p);
	}
	if (host) {
		curl_url_set(h, CURLUPART_HOST, host, 0);
	}
}

static int fill_names(CURLU *h, struct http_url *u)
{
	CLEANUP_FREE char *scheme = part(h, CURLUPART_SCHEME, 0);
	CLEANUP_FREE char *port = part(h, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	CLEANUP_FREE char *query = part(h, CURLUPART_QUERY, 0);

	u->host = part(h, CURLUPART_HOST, 0);
	u->full = part(h, CURLUPART_URL, CURLU_NO_DEFAULT_PORT);
	if (!scheme || !port || !u->host || !u->full) {
		return -ENOMEM;
	}
	u->tls = strcmp(scheme, "https") == 0;
	if (asprintf(&u->origin, "%s://%s:%s", scheme, u->host, port) < 0) {
		u->origin = NULL;
		return -ENOMEM;
	}
	if (query) {
		u->expires = find_expiry(query);
		redact(query);
		curl_url_set(h, CURLUPART_QUERY, *query ? query : NULL, 0);
	}
	u->label = part(h, CURLUPART_URL, CURLU_NO_DEFAULT_PORT);
	return u->label ? 0 : -ENOMEM;
}

static bool is_web(CURLU *h)
{
	CLEANUP_FREE char *scheme = part(h, CURLUPART_SCHEME, 0);

	return scheme && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
}

/* Takes the user info and the fragment off @h and the rest apart. */
static int take_apart(CURLU *h, struct http_url *ret, struct err *e)
{
	struct http_url u = { 0 };

	u.user = part(h, CURLUPART_USER, CURLU_URLDECODE);
	u.password = part(h, CURLUPART_PASSWORD, CURLU_URLDECODE);
	curl_url_set(h, CURLUPART_USER, NULL, 0);
	curl_url_set(h, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(h, CURLUPART_FRAGMENT, NULL, 0);
	lower_host(h);
	if (fill_names(h, &u) < 0) {
		http_url_clear(&u);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = u;
	return 0;
}

/* The text is not repeated: there may be a password in it. */
static int set_text(CURLU *h, const char *text, unsigned int flags, struct err *e)
{
	CURLUcode c;

	if (!h) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	c = curl_url_set(h, CURLUPART_URL, text, CURLU_URLENCODE | flags);
	if (c != CURLUE_OK) {
		return err_set(e, -EINVAL, "not a usable URL: %s", curl_url_strerror(c));
	}
	return is_web(h) ? 0 : err_set(e, -EINVAL, "not an http or https URL");
}

int http_url_parse(const char *text, struct http_url *ret, struct err *e)
{
	CLEANUP(cleanup_curlu) CURLU *h = curl_url();
	int r = set_text(h, text, CURLU_NON_SUPPORT_SCHEME, e);

	return r < 0 ? r : take_apart(h, ret, e);
}

int http_url_resolve(
	const struct http_url *base, const char *location, struct http_url *ret, struct err *e)
{
	CLEANUP(cleanup_curlu) CURLU *h = curl_url();
	struct http_url u;
	CURLUcode c;
	int r;

	if (!h || curl_url_set(h, CURLUPART_URL, base->full, 0) != CURLUE_OK) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	c = curl_url_set(h, CURLUPART_URL, location, CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME);
	if (c != CURLUE_OK || !is_web(h)) {
		return err_set(e, -EPROTO,
			"%s: the server redirects to what is not an http or https URL",
			base->label);
	}
	r = take_apart(h, &u, e);
	if (r < 0) {
		return r;
	}
	free(u.user);
	free(u.password);
	u.user = NULL;
	u.password = NULL;
	*ret = u;
	return 0;
}

/* @name with all but unreserved characters and slashes as percent escapes. malloc()ed. */
static char *encode_path(const char *name)
{
	static const char hex[] = "0123456789abcdef";
	char *ret = malloc(strlen(name) * 3 + 1);
	char *out = ret;

	if (!ret) {
		return NULL;
	}
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (isalnum(c) || strchr("-._~/", c)) {
			*out++ = (char)c;
		} else {
			*out++ = '%';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
		}
	}
	*out = '\0';
	return ret;
}

int http_url_sibling(const char *text, const char *name, char **ret, struct err *e)
{
	CLEANUP(cleanup_curlu) CURLU *h = curl_url();
	CLEANUP_FREE char *encoded = encode_path(name);
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *joined = NULL;
	char *slash;
	int r = encoded ? set_text(h, text, 0, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0) {
		return r;
	}
	path = part(h, CURLUPART_PATH, 0);
	slash = path ? strrchr(path, '/') : NULL;
	if (!slash) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	slash[1] = '\0';
	if (asprintf(&joined, "%s%s", path, encoded) < 0) {
		joined = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	curl_url_set(h, CURLUPART_QUERY, NULL, 0);
	curl_url_set(h, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_set(h, CURLUPART_PATH, joined, 0) != CURLUE_OK) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = part(h, CURLUPART_URL, CURLU_NO_DEFAULT_PORT);
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* The last part of @path with its escapes decoded; bytes that no file name has become '_'. */
static char *last_part(char *path)
{
	CLEANUP(cleanup_curl_str) char *plain = NULL;
	size_t len = strlen(path);
	const char *last;
	char *ret;
	int n = 0;

	while (len > 0 && path[len - 1] == '/') {
		path[--len] = '\0';
	}
	last = strrchr(path, '/');
	last = last ? last + 1 : path;
	plain = curl_easy_unescape(NULL, last, (int)strnlen(last, INT_MAX - 1), &n);
	ret = plain ? malloc((size_t)n + 1) : NULL;
	if (!ret) {
		return NULL;
	}
	for (int i = 0; i < n; i++) {
		unsigned char c = (unsigned char)plain[i];

		ret[i] = c < 0x20 || c == 0x7f || c == '/' ? '_' : (char)c;
	}
	ret[n] = '\0';
	return ret;
}

int http_url_path(const char *text, char **ret, struct err *e)
{
	CLEANUP(cleanup_curlu) CURLU *h = curl_url();
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *name = NULL;
	int r = set_text(h, text, 0, e);

	if (r < 0) {
		return r;
	}
	path = part(h, CURLUPART_PATH, 0);
	name = path ? last_part(path) : NULL;
	if (name && !*name) {
		free(name);
		name = part(h, CURLUPART_HOST, 0);
	}
	if (!name) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = TAKE_PTR(name);
	return 0;
}

void http_url_clear(struct http_url *u)
{
	free(u->full);
	free(u->label);
	free(u->origin);
	free(u->host);
	free(u->user);
	free_secret(u->password);
	*u = (struct http_url){ 0 };
}
