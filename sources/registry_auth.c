/* SPDX-License-Identifier: Apache-2.0 */
/* The state between challenges and headers. */
#include "sources/registry_auth.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base64.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/http_document.h"
#include "sources/registry_challenge.h"
#include "sources/registry_token.h"

/* How often somebody who waits for another's token looks whether to give up. */
#define LOOK_MS 100U
/* "repository:NAME:pull"; names have 255 characters. */
#define SCOPE_MAX 320U

enum mode {
	MODE_NONE,
	MODE_BASIC,
	MODE_BEARER
};

struct registry_auth {
	struct http_auth auth;
	struct net *net;
	struct registry_ref ref;
	struct registry_wallet *wallet;
	const struct http_conf *conf; /* whose we are */
	struct http_url url;          /* of the registry */

	pthread_mutex_t lock; /* protects what follows; not held while the network is asked */
	pthread_cond_t changed;
	bool busy; /* somebody asks the network */
	enum mode mode;
	struct registry_login login;
	char *realm;
	char *service;
	char *scope;
	char *header; /* the value of Authorization; NULL: none yet */
	bool worked;  /* a request with it was answered */
	uint64_t renew_ms;
	char *warning;
};

static struct registry_auth *of(struct http_auth *auth)
{
	return (struct registry_auth *)auth;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- under the lock --- */

static void drop_header(struct registry_auth *a)
{
	free_secret(a->header);
	a->header = NULL;
}

/* Waits until nobody asks the network. False: *@cancel. */
static bool wait_idle(struct registry_auth *a, const _Atomic bool *cancel)
{
	while (a->busy) {
		struct timespec until;

		if (*cancel) {
			return false;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)LOOK_MS * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&a->changed, &a->lock, &until);
	}
	return true;
}

static void set_idle(struct registry_auth *a)
{
	a->busy = false;
	pthread_cond_broadcast(&a->changed);
}

static int make_basic(struct registry_auth *a, struct err *e)
{
	char *plain = NULL;
	char *coded;

	if (asprintf(&plain, "%s:%s", a->login.user, a->login.password ? a->login.password : "") <
		0) {
		return no_memory(e);
	}
	coded = base64_encode(plain, strlen(plain));
	free_secret(plain);
	if (!coded || asprintf(&a->header, "Basic %s", coded) < 0) {
		a->header = NULL;
	}
	free_secret(coded);
	a->renew_ms = UINT64_MAX;
	a->worked = false;
	return a->header ? 0 : no_memory(e);
}

static int set_bearer(struct registry_auth *a, const char *token, uint64_t life_s, struct err *e)
{
	uint64_t life_ms = life_s * 1000;

	drop_header(a);
	if (asprintf(&a->header, "Bearer %s", token) < 0) {
		a->header = NULL;
		return no_memory(e);
	}
	a->worked = false;
	a->renew_ms =
		net_now_ms() + max_u64(life_ms * 4 / 5, life_ms > 30000 ? life_ms - 30000 : 0);
	return 0;
}

/* The login that was found does not work: none then, and say so. */
static bool leave_login_aside(struct registry_auth *a, const char *why)
{
	if (!a->login.ambient || registry_login_is_anonymous(&a->login)) {
		return false;
	}
	free(a->warning);
	if (asprintf(&a->warning, "%s; going on without credentials", why) < 0) {
		a->warning = NULL;
	}
	registry_login_clear(&a->login);
	return true;
}

/* Looks again for credentials: files change, and helpers hand out what does not last. Called
 * without the lock, by who is busy. */
static bool reload_login(struct registry_auth *a)
{
	struct registry_login now = { 0 };
	struct registry_login old;

	if (registry_login_is_anonymous(&a->login) ||
		registry_wallet_find(a->wallet, &a->ref, &now, NULL) < 0 ||
		registry_login_is_anonymous(&now) || registry_login_equals(&now, &a->login)) {
		registry_login_clear(&now);
		return false;
	}
	pthread_mutex_lock(&a->lock);
	old = a->login;
	a->login = now;
	pthread_mutex_unlock(&a->lock);
	registry_login_clear(&old);
	return true;
}

/* --- the network; by who is busy, without the lock --- */

static int fetch_token(struct registry_auth *a, const _Atomic bool *cancel,
	struct registry_token *ret, struct err *e)
{
	const struct registry_token_ask ask = {
		.net = a->net,
		.conf = a->conf,
		.registry = &a->url,
		.realm = a->realm,
		.service = a->service,
		.scope = a->scope,
		.login = &a->login,
		.cancel = cancel,
	};
	struct err why;
	int r = registry_token_fetch(&ask, ret, &why);

	if (r == -EACCES && reload_login(a)) {
		r = registry_token_fetch(&ask, ret, &why);
	}
	if (r == -EACCES) {
		bool again;

		pthread_mutex_lock(&a->lock);
		again = leave_login_aside(a, why.text);
		pthread_mutex_unlock(&a->lock);
		/* What is wrong in the end is that those credentials do not work. */
		r = again ? registry_token_fetch(&ask, ret, NULL) : r;
	}
	return r < 0 ? err_set(e, r, "%s", why.text) : 0;
}

/* Under the lock, which it lets go meanwhile. */
static int renew_token(struct registry_auth *a, const _Atomic bool *cancel, struct err *e)
{
	struct registry_token token = { 0 };
	int r;

	a->busy = true;
	pthread_mutex_unlock(&a->lock);
	r = fetch_token(a, cancel, &token, e);
	pthread_mutex_lock(&a->lock);
	if (r == 0) {
		r = set_bearer(a, token.text, token.life_s, e);
	}
	if (r == 0 && token.identity && a->login.identity) {
		free_secret(a->login.identity);
		a->login.identity = TAKE_PTR(token.identity);
	}
	set_idle(a);
	registry_token_clear(&token);
	return r;
}

static int auth_authorize(
	struct http_auth *auth, const _Atomic bool *cancel, char **ret, struct err *e)
{
	struct registry_auth *a = of(auth);
	LOCK_SCOPE(&a->lock);
	int r = 0;

	if (!wait_idle(a, cancel)) {
		return err_set(e, -ECANCELED, "stopped");
	}
	if (a->mode == MODE_BEARER && (!a->header || net_now_ms() >= a->renew_ms)) {
		r = renew_token(a, cancel, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = a->header ? strdup(a->header) : NULL;
	return a->header && !*ret ? no_memory(e) : 0;
}

static int deny(struct registry_auth *a, struct err *e)
{
	const char *host = strstr(a->url.origin, "://") + 3;

	if (registry_login_is_anonymous(&a->login)) {
		return err_set(e, -EACCES,
			"%s gives no access to %s without credentials (401): give --authfile, --user or "
			"--secret; or there is no such repository%s%s",
			host, a->ref.path, a->warning ? "; " : "", a->warning ? a->warning : "");
	}
	return err_set(e, -EACCES, "%s gives %s no access to %s (401)", host, a->login.account,
		a->ref.path);
}

static int replace(char **field, const char *text, const char *otherwise)
{
	const char *value = text ? text : otherwise;
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy) {
		return -ENOMEM;
	}
	free(*field);
	*field = copy;
	return 0;
}

static void default_scope(const struct registry_auth *a, char *ret, size_t room)
{
	snprintf(ret, room, "repository:%s:pull", a->ref.path);
}

static int take_bearer(struct registry_auth *a, const struct registry_challenge *c, struct err *e)
{
	char pull[SCOPE_MAX];
	/* One that never worked was not refused for its age. */
	bool useless = a->mode == MODE_BEARER && a->header && !a->worked;
	bool other = !a->scope || (c->scope && strcmp(c->scope, a->scope) != 0);

	default_scope(a, pull, sizeof(pull));
	if (a->login.bearer) {
		if (a->mode == MODE_BEARER) {
			return deny(a, e);
		}
		a->mode = MODE_BEARER;
		return set_bearer(a, a->login.bearer, UINT32_MAX, e);
	}
	if (!c->realm) {
		return err_set(
			e, -EPROTO, "%s wants a token and does not say from where", a->url.host);
	}
	if (useless && !other) {
		return deny(a, e);
	}
	if (replace(&a->realm, c->realm, NULL) < 0 || replace(&a->service, c->service, NULL) < 0 ||
		replace(&a->scope, c->scope, pull) < 0) {
		return no_memory(e);
	}
	a->mode = MODE_BEARER;
	drop_header(a);
	return 0;
}

static int take_basic(struct registry_auth *a, struct err *e)
{
	int r;

	if (!a->login.user) {
		return deny(a, e);
	}
	if (a->mode == MODE_BASIC && a->header) {
		const char *host = strstr(a->url.origin, "://") + 3;
		bool changed;

		a->busy = true;
		pthread_mutex_unlock(&a->lock);
		changed = reload_login(a);
		pthread_mutex_lock(&a->lock);
		set_idle(a);
		if (!changed || !a->login.user) {
			return err_set(
				e, -EACCES, "%s does not accept %s (401)", host, a->login.account);
		}
	}
	a->mode = MODE_BASIC;
	drop_header(a);
	r = make_basic(a, e);
	return r;
}

static int take_challenges(struct registry_auth *a, const char *challenges, struct err *e)
{
	struct registry_challenge c;
	int r;

	if (registry_challenge_find(challenges, "Bearer", &c)) {
		r = take_bearer(a, &c, e);
		registry_challenge_clear(&c);
		return r;
	}
	if (registry_challenge_find(challenges, "Basic", &c)) {
		registry_challenge_clear(&c);
		return take_basic(a, e);
	}
	return err_set(e, -EACCES,
		"%s asks for a login of a kind that is not supported; Bearer and Basic are",
		a->url.host);
}

/* Some registries refuse without saying what they want; their root says it. Called without the
 * lock. *ret stays NULL when it does not. */
static void ask_root(struct registry_auth *a, const _Atomic bool *cancel, char **ret)
{
	CLEANUP_FREE char *url = NULL;
	struct http_conf *conf = NULL;
	struct http_document d = {
		.net = a->net,
		.name = "",
		.question = { .method = "GET" },
		.limit = 4096,
		.cancel = cancel,
	};
	struct err why;

	if (asprintf(&url, "%s/v2/", a->url.origin) < 0) {
		url = NULL;
		return;
	}
	if (http_conf_derive(a->conf, &a->url, NULL, NULL, &conf, NULL) == 0) {
		d.conf = conf;
		d.url = url;
		http_document_get(&d, &why);
		*ret = d.head.challenges ? strdup(d.head.challenges) : NULL;
		http_document_clear(&d);
		http_conf_unref(conf);
	}
}

static int auth_refused(struct http_auth *auth, const char *used, const char *challenges,
	const _Atomic bool *cancel, struct err *e)
{
	struct registry_auth *a = of(auth);
	CLEANUP_FREE char *asked = NULL;
	LOCK_SCOPE(&a->lock);

	if (!wait_idle(a, cancel)) {
		return err_set(e, -ECANCELED, "stopped");
	}
	if (a->header && (!used || strcmp(used, a->header) != 0)) {
		return 0; /* somebody else was here meanwhile */
	}
	if (!challenges) {
		a->busy = true;
		pthread_mutex_unlock(&a->lock);
		ask_root(a, cancel, &asked);
		pthread_mutex_lock(&a->lock);
		set_idle(a);
		challenges = asked;
	}
	return challenges ? take_challenges(a, challenges, e) : deny(a, e);
}

static void auth_accepted(struct http_auth *auth, const char *used)
{
	struct registry_auth *a = of(auth);
	LOCK_SCOPE(&a->lock);

	a->worked = a->worked || (a->header && strcmp(a->header, used) == 0);
}

static void auth_free(struct http_auth *auth)
{
	struct registry_auth *a = of(auth);

	registry_ref_clear(&a->ref);
	registry_wallet_free(a->wallet);
	registry_login_clear(&a->login);
	http_url_clear(&a->url);
	drop_header(a);
	free(a->realm);
	free(a->service);
	free(a->scope);
	free(a->warning);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static const struct http_auth_ops auth_ops = {
	.authorize = auth_authorize,
	.refused = auth_refused,
	.accepted = auth_accepted,
	.free = auth_free,
};

static void init_locks(struct registry_auth *a)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
}

int registry_auth_new(struct net *net, const struct registry_ref *ref,
	struct registry_wallet *wallet, struct registry_auth **ret, struct err *e)
{
	struct registry_auth *a = calloc(1, sizeof(*a));
	int r;

	if (!a) {
		return no_memory(e);
	}
	a->auth.ops = &auth_ops;
	a->net = net;
	init_locks(a);
	r = registry_ref_copy(ref, &a->ref, e);
	if (r == 0) {
		r = registry_wallet_find(wallet, ref, &a->login, e);
	}
	if (r < 0) {
		auth_free(&a->auth);
		return r;
	}
	a->wallet = wallet;
	*ret = a;
	return 0;
}

int registry_auth_attach(
	struct registry_auth *a, struct http_conf *conf, const struct http_url *url, struct err *e)
{
	struct http_url copy;
	int r = http_url_parse(url->full, &copy, e);

	if (r < 0) {
		return r;
	}
	http_url_clear(&a->url);
	a->url = copy;
	a->conf = conf;
	conf->auth = &a->auth;
	return 0;
}

int registry_auth_expect(struct registry_auth *a, const char *realm, const char *service)
{
	char pull[SCOPE_MAX];

	if (!realm) {
		return 0;
	}
	default_scope(a, pull, sizeof(pull));
	if (replace(&a->realm, realm, NULL) < 0 || replace(&a->service, service, NULL) < 0 ||
		replace(&a->scope, pull, NULL) < 0) {
		return -ENOMEM;
	}
	a->mode = MODE_BEARER;
	return a->login.bearer ? set_bearer(a, a->login.bearer, UINT32_MAX, NULL) : 0;
}

bool registry_auth_challenge(struct registry_auth *a, char **ret_realm, char **ret_service)
{
	LOCK_SCOPE(&a->lock);

	*ret_realm = NULL;
	*ret_service = NULL;
	return a->mode != MODE_BEARER || (replace(ret_realm, a->realm, NULL) == 0 &&
						 replace(ret_service, a->service, NULL) == 0);
}

char *registry_auth_account(struct registry_auth *a)
{
	LOCK_SCOPE(&a->lock);

	if (a->mode == MODE_NONE || !a->login.account) {
		return strdup("");
	}
	return strdup(a->login.account);
}

char *registry_auth_warning(struct registry_auth *a)
{
	LOCK_SCOPE(&a->lock);

	return strdup(a->warning ? a->warning : "");
}
