/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials, TLS and proxies: from options to curl. */
#include "sources/http_conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "core/cleanup.h"

#define LIMIT_DEFAULT_S 60U
#define CONNECT_MS      10000L
/* Bytes that curl hands over at once; more gains nothing, and each connection has so much. */
#define BUFFER_BYTES 131072L

static int copy_string(const char *text, char **ret, struct err *e)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static bool is_header(const char *line, const char *name)
{
	size_t n = strlen(name);

	return strncasecmp(line, name, n) == 0 && line[n] == ':';
}

/* Those that the engine itself sets, and that would change the meaning of an answer. */
static bool is_reserved(const char *line)
{
	static const char *const names[] = { "Range", "If-Range", "If-Match", "If-None-Match",
		"If-Modified-Since", "If-Unmodified-Since", "Accept-Encoding", "Content-Length",
		"Transfer-Encoding", "TE", "Connection" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (is_header(line, names[i])) {
			return true;
		}
	}
	return false;
}

/* Never quotes the line: it may be a secret. */
static int add_header(struct http_conf *c, const char *line, unsigned int number, struct err *e)
{
	struct curl_slist *list;
	size_t name = strcspn(line, ":");

	if (name == 0 || !line[name] || strpbrk(line, "\r\n") || strcspn(line, " \t") < name) {
		return err_set(e, -EINVAL, "header %u is not of the form \"Name: value\"", number);
	}
	if (is_reserved(line)) {
		return err_set(e, -EINVAL, "header %u: %.*s is set by lazydisk itself", number,
			(int)min_u64(name, 40), line);
	}
	list = curl_slist_append(c->headers, line);
	if (!list) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->headers = list;
	c->authorization = c->authorization || is_header(line, "Authorization");
	return 0;
}

static int init_credentials(struct http_conf *c, const struct http_url *u,
	const struct source_opts *opts, struct err *e)
{
	bool given = opts->user || opts->password;
	int r = copy_string(given ? opts->user : u->user, &c->user, e);

	if (r == 0) {
		r = copy_string(given ? opts->password : u->password, &c->password, e);
	}
	for (unsigned int i = 0; r == 0 && opts->headers && opts->headers[i]; i++) {
		r = add_header(c, opts->headers[i], i + 1, e);
	}
	return r;
}

static int check_readable(const char *option, const char *path, struct err *e)
{
	if (path && access(path, R_OK) < 0) {
		return err_set(e, -EINVAL, "%s %s: %s", option, path, strerrordesc_np(errno));
	}
	return 0;
}

static int init_tls(struct http_conf *c, const struct source_opts *opts, struct err *e)
{
	int r = check_readable("--client-cert", opts->client_cert, e);

	if (r == 0) {
		r = check_readable("--client-key", opts->client_key, e);
	}
	if (r == 0) {
		r = copy_string(opts->client_cert, &c->client_cert, e);
	}
	if (r == 0) {
		r = copy_string(opts->client_key, &c->client_key, e);
	}
	if (r == 0 && (opts->cacert || opts->cert_dir || opts->ca_pem)) {
		r = http_trust_init(&c->trust, opts->cacert, opts->cert_dir, opts->ca_pem, e);
	}
	c->insecure = opts->insecure;
	return r;
}

/* curl reads http_proxy in lower case only, lest a CGI program take a header for it; we are none,
 * unless REQUEST_METHOD says so. NO_PROXY applies all the same. */
static const char *proxy_from_environment(void)
{
	const char *proxy = getenv("HTTP_PROXY");

	if (!proxy || !*proxy || getenv("http_proxy") || getenv("REQUEST_METHOD")) {
		return NULL;
	}
	return proxy;
}

static int fill(struct http_conf *c, const struct http_url *u, const struct source_opts *opts,
	struct err *e)
{
	int r;

	c->limit_ms = (uint64_t)(opts->timeout_s ? opts->timeout_s : LIMIT_DEFAULT_S) * 1000;
	c->tries = opts->tries;
	c->hard = opts->retry_hard;
	r = copy_string(u->origin, &c->origin, e);
	if (r == 0) {
		r = copy_string(opts->proxy, &c->proxy, e);
	}
	if (r == 0) {
		r = init_credentials(c, u, opts, e);
	}
	if (r == 0) {
		r = init_tls(c, opts, e);
	}
	return r;
}

static struct http_conf *conf_new(void)
{
	struct http_conf *c = calloc(1, sizeof(*c));

	if (c) {
		c->refs = 1;
	}
	return c;
}

int http_conf_new(const struct http_url *u, const struct source_opts *opts, struct http_conf **ret,
	struct err *e)
{
	struct http_conf *c = conf_new();
	int r = c ? fill(c, u, opts, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0) {
		http_conf_unref(c);
		return r;
	}
	*ret = c;
	return 0;
}

int http_conf_derive(const struct http_conf *c, const struct http_url *u, const char *user,
	const char *password, struct http_conf **ret, struct err *e)
{
	struct http_conf *mine = conf_new();
	int r = mine ? http_trust_copy(&c->trust, &mine->trust) : -ENOMEM;

	if (r < 0) {
		http_conf_unref(mine);
		return err_set(e, -ENOMEM, "out of memory");
	}
	mine->limit_ms = c->limit_ms;
	mine->tries = c->tries;
	mine->hard = c->hard;
	mine->insecure = c->insecure;
	r = copy_string(u->origin, &mine->origin, e);
	if (r == 0) {
		r = copy_string(c->proxy, &mine->proxy, e);
	}
	if (r == 0) {
		r = copy_string(user, &mine->user, e);
	}
	if (r == 0) {
		r = copy_string(password, &mine->password, e);
	}
	if (r < 0) {
		http_conf_unref(mine);
		return r;
	}
	*ret = mine;
	return 0;
}

struct http_conf *http_conf_ref(struct http_conf *c)
{
	c->refs++;
	return c;
}

void http_conf_unref(struct http_conf *c)
{
	if (!c || --c->refs > 0) {
		return;
	}
	if (c->auth) {
		c->auth->ops->free(c->auth);
	}
	for (struct curl_slist *h = c->headers; h; h = h->next) {
		explicit_bzero(h->data, strlen(h->data));
	}
	curl_slist_free_all(c->headers);
	free(c->origin);
	free(c->user);
	free_secret(c->password);
	free(c->client_cert);
	free(c->client_key);
	http_trust_clear(&c->trust);
	free_secret(c->proxy);
	free(c);
}

bool http_conf_trusts(const struct http_conf *c, const struct http_url *u)
{
	return strcmp(c->origin, u->origin) == 0;
}

static void apply_tls(const struct http_conf *c, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	http_trust_apply(&c->trust, easy);
	if (c->insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

/* The empty pass phrase keeps OpenSSL from asking on the terminal. */
static void apply_credentials(const struct http_conf *c, CURL *easy)
{
	if (c->user || c->password) {
		curl_easy_setopt(easy, CURLOPT_HTTPAUTH,
			(long)(c->digest ? CURLAUTH_DIGEST : CURLAUTH_BASIC));
		curl_easy_setopt(easy, CURLOPT_USERNAME, c->user ? c->user : "");
		curl_easy_setopt(easy, CURLOPT_PASSWORD, c->password ? c->password : "");
	}
	if (c->client_cert) {
		curl_easy_setopt(easy, CURLOPT_SSLCERT, c->client_cert);
		curl_easy_setopt(
			easy, CURLOPT_SSLKEY, c->client_key ? c->client_key : c->client_cert);
		curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
	}
}

void http_conf_apply(const struct http_conf *c, const struct http_url *u, CURL *easy)
{
	const char *proxy = c->proxy;

	if (!proxy && !u->tls) {
		proxy = proxy_from_environment();
	}
	curl_easy_setopt(easy, CURLOPT_URL, u->full);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "lazydisk");
	if (proxy) {
		curl_easy_setopt(easy, CURLOPT_PROXY, proxy);
	}
	apply_tls(c, easy);
	if (http_conf_trusts(c, u)) {
		apply_credentials(c, easy);
	}
}
