/* SPDX-License-Identifier: Apache-2.0 */
/* One token. */
#include "sources/registry_token.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/http_document.h"
#include "sources/json_text.h"

#define TOKEN_MAX 1048576U
/* What a token lives where the server does not say, and what the shortest is taken for: servers let
 * them live a minute longer (distribution project, token.md). */
#define LIFE_DEFAULT_S 60U
#define LIFE_MAX_S     86400U
#define CLIENT         "lazydisk"

void registry_token_clear(struct registry_token *t)
{
	free_secret(t->text);
	free_secret(t->identity);
	*t = (struct registry_token){ 0 };
}

static bool is_private_v4(uint32_t a)
{
	return a >> 24 == 0 || a >> 24 == 10 || a >> 24 == 127 || a >> 20 == 0xac1 ||
	       a >> 16 == 0xc0a8 || a >> 16 == 0xa9fe;
}

/* An address that means another machine, or none, depending on who asks. */
static bool is_private(const char *host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;
	size_t n = strlen(host);

	if (strcasecmp(host, "localhost") == 0) {
		return true;
	}
	if (inet_pton(AF_INET, host, &four) == 1) {
		return is_private_v4(ntohl(four.s_addr));
	}
	if (n < 3 || host[0] != '[' || n - 2 >= sizeof(text)) {
		return false;
	}
	memcpy(text, host + 1, n - 2);
	text[n - 2] = '\0';
	if (inet_pton(AF_INET6, text, &six) != 1) {
		return false;
	}
	if (IN6_IS_ADDR_V4MAPPED(&six)) {
		return is_private_v4(load_be32(six.s6_addr + 12));
	}
	return IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_UNSPECIFIED(&six) ||
	       IN6_IS_ADDR_LINKLOCAL(&six) || (six.s6_addr[0] & 0xfe) == 0xfc;
}

int registry_token_check_realm(
	const struct http_url *registry, const struct http_url *realm, bool insecure, struct err *e)
{
	if (registry->tls && !realm->tls && !insecure) {
		return err_set(e, -EPROTO,
			"%s sends logins to %s, which speaks plain HTTP: refused", registry->host,
			realm->label);
	}
	if (is_private(realm->host) && !is_private(registry->host)) {
		return err_set(e, -EPROTO,
			"%s sends logins to %s, an address that is not public: refused",
			registry->host, realm->host);
	}
	return 0;
}

/* Appends "NAME=VALUE" to a query or a form, with what @glue says before it. */
static bool append(char **text, const char *glue, const char *name, const char *value)
{
	char *coded = curl_easy_escape(NULL, value, 0);
	char *joined = NULL;
	bool ok =
		coded && asprintf(&joined, "%s%s%s=%s", *text ? *text : "", glue, name, coded) >= 0;

	curl_free(coded);
	if (ok) {
		free_secret(*text);
		*text = joined;
	}
	return ok;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int make_url(const struct registry_token_ask *ask, char **ret, struct err *e)
{
	CLEANUP_FREE char *url = strdup(ask->realm);
	const char *glue = strchr(ask->realm, '?') ? "&" : "?";

	if (!url || !append(&url, glue, "scope", ask->scope) ||
		(ask->service && !append(&url, "&", "service", ask->service)) ||
		(ask->login->user && *ask->login->user &&
			!append(&url, "&", "account", ask->login->user))) {
		return no_memory(e);
	}
	*ret = TAKE_PTR(url);
	return 0;
}

static int make_form(const struct registry_token_ask *ask, char **ret, struct err *e)
{
	CLEANUP_SECRET char *form = NULL;

	if (!append(&form, "", "grant_type", "refresh_token") ||
		!append(&form, "&", "service", ask->service ? ask->service : "") ||
		!append(&form, "&", "scope", ask->scope) ||
		!append(&form, "&", "client_id", CLIENT) ||
		!append(&form, "&", "refresh_token", ask->login->identity)) {
		return no_memory(e);
	}
	*ret = TAKE_PTR(form);
	return 0;
}

static int take_answer(
	const char *name, const struct http_document *d, struct registry_token *ret, struct err *e)
{
	CLEANUP(json_text_dropp) json_t *json = NULL;
	const char *text;
	const char *identity;
	json_int_t life;
	int r;

	if (d->len > TOKEN_MAX) {
		return err_set(e, -EPROTO, "%s: the answer is larger than 1 MiB", name);
	}
	r = json_text_parse(name, d->body, d->len, &json, e);
	if (r < 0) {
		return e ? (e->code = -EPROTO) : -EPROTO;
	}
	text = json_text_get(json, "token");
	text = text && *text ? text : json_text_get(json, "access_token");
	identity = json_text_get(json, "refresh_token");
	life = json_integer_value(json_object_get(json, "expires_in"));
	if (!text || !*text || strpbrk(text, "\r\n")) {
		return err_set(e, -EPROTO, "%s: the answer holds no token", name);
	}
	ret->text = strdup(text);
	ret->identity = identity && *identity ? strdup(identity) : NULL;
	ret->life_s = life > 0 ? min_u64(max_u64((uint64_t)life, LIFE_DEFAULT_S), LIFE_MAX_S)
			       : LIFE_DEFAULT_S;
	return ret->text ? 0 : no_memory(e);
}

static int refused(
	const struct registry_token_ask *ask, const char *name, int status, struct err *e)
{
	if (registry_login_is_anonymous(ask->login)) {
		return err_set(e, -EACCES,
			"%s gives no access without credentials (%d): give --authfile, --user or "
			"--secret; or there is no such repository",
			name, status);
	}
	return err_set(e, -EACCES, "%s does not accept %s (%d)", name, ask->login->account, status);
}

/* @form: what is posted; NULL: a GET with what @conf knows. */
static int exchange(const struct registry_token_ask *ask, struct http_conf *conf, const char *url,
	const char *form, int *ret_status, struct registry_token *ret, struct err *e)
{
	char name[300];
	struct http_document d = {
		.net = ask->net,
		.conf = conf,
		.url = url,
		.name = name,
		.question = { .method = form ? "POST" : "GET", .form = form },
		.limit = TOKEN_MAX,
		.cancel = ask->cancel,
		.patient = true,
	};
	struct err why;
	int r;

	snprintf(name, sizeof(name), "%.200s, which hands out tokens,",
		strstr(conf->origin, "://") + 3);
	r = http_document_get(&d, &why);
	*ret_status = d.status;
	if (r == 0) {
		r = take_answer(name, &d, ret, e);
	} else if (d.status == 401 || d.status == 403) {
		r = refused(ask, name, d.status, e);
	} else {
		r = err_set(e, r, "%s", why.text);
	}
	http_document_clear(&d);
	return r;
}

static int by_identity(const struct registry_token_ask *ask, const struct http_url *realm,
	int *ret_status, struct registry_token *ret, struct err *e)
{
	CLEANUP_SECRET char *form = NULL;
	struct http_conf *conf = NULL;
	int r = make_form(ask, &form, e);

	if (r == 0) {
		r = http_conf_derive(ask->conf, realm, NULL, NULL, &conf, e);
	}
	if (r == 0) {
		r = exchange(ask, conf, ask->realm, form, ret_status, ret, e);
	}
	http_conf_unref(conf);
	return r;
}

static int by_password(const struct registry_token_ask *ask, const struct http_url *realm,
	struct registry_token *ret, struct err *e)
{
	CLEANUP_FREE char *url = NULL;
	const struct registry_login *l = ask->login;
	struct http_conf *conf = NULL;
	int status;
	int r = make_url(ask, &url, e);

	if (r == 0) {
		r = http_conf_derive(ask->conf, realm, l->identity ? "<token>" : l->user,
			l->identity ? l->identity : l->password, &conf, e);
	}
	if (r == 0) {
		r = exchange(ask, conf, url, NULL, &status, ret, e);
	}
	http_conf_unref(conf);
	return r;
}

int registry_token_fetch(
	const struct registry_token_ask *ask, struct registry_token *ret, struct err *e)
{
	struct registry_token token = { 0 };
	struct http_url realm;
	int status = 0;
	int r = http_url_parse(ask->realm, &realm, e);

	if (r < 0) {
		return err_wrap(e, -EPROTO, "%s names a server for tokens that is none",
			ask->registry->host);
	}
	r = registry_token_check_realm(ask->registry, &realm, ask->conf->insecure, e);
	if (r == 0 && ask->login->identity) {
		r = by_identity(ask, &realm, &status, &token, e);
	}
	if (r == 0 ? !token.text : status == 404 || status == 405) {
		r = by_password(ask, &realm, &token, e);
	}
	http_url_clear(&realm);
	if (r < 0) {
		registry_token_clear(&token);
		return r;
	}
	*ret = token;
	return 0;
}
