/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to a registry, and what its refusals mean. */
#include "sources/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/http.h"
#include "sources/http_document.h"
#include "sources/json_text.h"
#include "sources/oci_manifest.h"
#include "sources/registry_auth.h"
#include "sources/registry_certs.h"

/* With a version at hand, nobody waits longer than this for its confirmation. */
#define CONFIRM_MS 4000U
#define SAID_MAX   2048U

struct registry {
	struct net *net;
	struct registry_ref ref;
	struct http_conf *conf; /* owns auth */
	struct registry_auth *auth;
	struct http_conf *plain; /* the same by plain HTTP, while that is not settled; NULL */
	char *base;              /* "https://host/v2/path" */
	bool is_plain;
	bool answered; /* in that way, now or before */
	bool insecure; /* any certificate will do */
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int make_conf(const struct registry_ref *ref, const char *scheme,
	const struct source_opts *opts, struct http_conf **ret, struct http_url *ret_url,
	struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	int r;

	if (asprintf(&text, "%s://%s/", scheme, ref->host) < 0) {
		text = NULL;
		return no_memory(e);
	}
	r = http_url_parse(text, ret_url, e);
	if (r < 0) {
		return err_wrap(e, -EINVAL, "%s", ref->text);
	}
	r = http_conf_new(ret_url, opts, ret, e);
	if (r < 0) {
		http_url_clear(ret_url);
	}
	return r < 0 ? err_wrap(e, r, "%s", ref->text) : 0;
}

/* From now on everything goes by @scheme. */
static int use_scheme(
	struct registry *reg, const char *scheme, struct http_conf *conf, struct err *e)
{
	CLEANUP_FREE char *base = NULL;
	CLEANUP_FREE char *root = NULL;
	struct http_url url;
	int r;

	if (asprintf(&root, "%s://%s/", scheme, reg->ref.host) < 0 ||
		asprintf(&base, "%sv2/%s", root, reg->ref.path) < 0) {
		return no_memory(e);
	}
	r = http_url_parse(root, &url, e);
	if (r < 0) {
		return r;
	}
	r = registry_auth_attach(reg->auth, conf, &url, e);
	http_url_clear(&url);
	if (r < 0) {
		return r;
	}
	if (reg->conf) {
		reg->conf->auth = NULL;
		http_conf_unref(reg->conf);
	}
	reg->conf = conf;
	reg->is_plain = strcmp(scheme, "http") == 0;
	free(reg->base);
	reg->base = TAKE_PTR(base);
	return 0;
}

/* The options for the registry: without the login, which auth has, and with its certificates. */
static int setup_confs(struct registry *reg, const struct source_opts *opts,
	const struct registry_known *known, struct err *e)
{
	bool may_be_plain = opts->insecure || registry_ref_is_loopback(&reg->ref);
	struct http_conf *tls = NULL;
	struct http_conf *plain = NULL;
	struct http_url url;
	int r = make_conf(&reg->ref, "https", opts, &tls, &url, e);

	if (r < 0) {
		return r;
	}
	http_url_clear(&url);
	if (may_be_plain && !(known && known->reached && !known->plain)) {
		r = make_conf(&reg->ref, "http", opts, &plain, &url, e);
		if (r == 0) {
			http_url_clear(&url);
		}
	}
	if (r == 0 && plain && known && known->plain) {
		r = use_scheme(reg, "http", plain, e);
		http_conf_unref(tls);
		return r;
	}
	if (r == 0) {
		r = use_scheme(reg, "https", tls, e);
	}
	if (r < 0) {
		http_conf_unref(tls);
		http_conf_unref(plain);
		return r;
	}
	reg->plain = plain;
	return 0;
}

/* @opts with what certs.d adds; @certs lives as long as they are in use. */
static int add_certs(const struct registry_ref *ref, struct registry_certs *certs,
	struct source_opts *opts, struct err *e)
{
	char *joined = NULL;
	int r = registry_certs_find(ref->domain, certs, e);

	if (r < 0) {
		return err_wrap(e, r, "%s", ref->text);
	}
	if (!opts->client_cert) {
		opts->client_cert = certs->client_cert;
		opts->client_key = certs->client_key;
	}
	if (certs->ca_pem && opts->ca_pem) {
		if (asprintf(&joined, "%s\n%s", opts->ca_pem, certs->ca_pem) < 0) {
			return no_memory(e);
		}
		free(certs->ca_pem);
		certs->ca_pem = joined;
	}
	if (certs->ca_pem) {
		opts->ca_pem = certs->ca_pem;
	}
	return 0;
}

static int setup_auth(struct registry *reg, const struct source_opts *opts, struct err *e)
{
	struct registry_wallet *wallet = NULL;
	int r = registry_wallet_new(opts, &wallet, e);

	if (r == 0) {
		r = registry_auth_new(reg->net, &reg->ref, wallet, &reg->auth, e);
	}
	if (r < 0) {
		registry_wallet_free(wallet);
	}
	return r;
}

static int setup(struct registry *reg, const struct registry_ref *ref,
	const struct source_opts *opts, const struct registry_known *known, struct err *e)
{
	struct registry_certs certs = { 0 };
	struct source_opts mine = *opts;
	int r = registry_ref_copy(ref, &reg->ref, e);

	if (r == 0) {
		r = setup_auth(reg, opts, e);
	}
	if (r == 0) {
		r = add_certs(ref, &certs, &mine, e);
	}
	if (r == 0) {
		mine.user = NULL;
		mine.password = NULL;
		r = setup_confs(reg, &mine, known, e);
	}
	if (r == 0 && known) {
		r = registry_auth_expect(reg->auth, known->realm, known->service);
	}
	registry_certs_clear(&certs);
	return r;
}

int registry_open(struct net *net, const struct registry_ref *ref, const struct source_opts *opts,
	const struct registry_known *known, struct registry **ret, struct err *e)
{
	struct registry *reg = calloc(1, sizeof(*reg));
	int r;

	if (!reg) {
		return no_memory(e);
	}
	reg->net = net;
	reg->insecure = opts->insecure;
	reg->answered = known && known->reached;
	r = setup(reg, ref, opts, known, e);
	if (r < 0) {
		registry_close(reg);
		return r;
	}
	*ret = reg;
	return 0;
}

void registry_close(struct registry *reg)
{
	if (!reg) {
		return;
	}
	if (!reg->conf && reg->auth) {
		((struct http_auth *)reg->auth)->ops->free((struct http_auth *)reg->auth);
	}
	http_conf_unref(reg->conf);
	http_conf_unref(reg->plain);
	registry_ref_clear(&reg->ref);
	free(reg->base);
	free(reg);
}

/* --- questions --- */

/* The registry's own words, "" when it has none. */
static void quote(const char *said, char *ret, size_t room)
{
	CLEANUP(json_text_dropp) json_t *json = NULL;
	const json_t *first;
	const char *text = NULL;

	ret[0] = '\0';
	if (json_text_parse("", said, strlen(said), &json, NULL) == 0) {
		first = json_array_get(json_object_get(json, "errors"), 0);
		text = json_text_get(first, "message");
		text = text && *text ? text : json_text_get(first, "code");
	}
	if (text) {
		snprintf(ret, room, ": %s", text);
		for (char *p = ret; *p; p++) {
			*p = (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p;
		}
	}
}

static int explain(const struct registry *reg, const char *which, const struct http_document *d,
	int code, const struct err *why, struct err *e)
{
	CLEANUP_FREE char *account = NULL;
	const char *sign = strchr(which, ':') ? "@" : ":";
	char words[160];

	quote(d->status == 401 ? "" : d->question.said, words, sizeof(words));
	if (d->elsewhere) {
		return err_set(e, code, "%s", why->text);
	}
	switch (d->status) {
	case 404:
		return err_set(e, -ENOENT,
			"docker://%s/%s%s%s: there is no such image in the registry "
			"(404%s)",
			reg->ref.domain, reg->ref.path, sign, which, words);
	case 403:
		account = registry_auth_account(reg->auth);
		return err_set(e, -EACCES, "%s: the registry denies access (403%s)%s%s", d->name,
			words, account && *account ? " to " : "", account ? account : "");
	case 0:
		if (d->cause == HTTP_CAUSE_NOT_TLS) {
			return err_set(e, code,
				"%s: %s does not speak https; if it is to be reached by plain HTTP, "
				"give --insecure",
				d->name, reg->ref.host);
		}
		break;
	default:
		break;
	}
	return err_set(e, code, "%s%s", why->text, words);
}

/* Whether what did not answer to TLS may be asked without. */
static bool try_plain(struct registry *reg, const struct http_document *d, struct err *e)
{
	struct http_conf *plain = reg->plain;

	if (!plain || d->status != 0 || d->elsewhere ||
		(d->cause != HTTP_CAUSE_NOT_TLS && d->cause != HTTP_CAUSE_UNREACHABLE &&
			d->cause != HTTP_CAUSE_BROKEN)) {
		return false;
	}
	reg->plain = NULL;
	if (use_scheme(reg, "http", plain, e) < 0) {
		http_conf_unref(plain);
		return false;
	}
	return true;
}

static int ask(struct registry *reg, const char *kind, const char *which, struct http_document *d,
	struct err *e)
{
	CLEANUP_FREE char *url = NULL;
	struct err why = { 0 };
	int r;

	if (asprintf(&url, "%s/%s/%s", reg->base, kind, which) < 0) {
		url = NULL;
		return no_memory(e);
	}
	d->net = reg->net;
	d->conf = reg->conf;
	d->url = url;
	d->name = reg->ref.text;
	r = http_document_get(d, &why);
	reg->answered = reg->answered || d->status != 0;
	if (d->status != 0 && reg->plain) {
		http_conf_unref(reg->plain);
		reg->plain = NULL;
	}
	return r < 0 ? explain(reg, which, d, r, &why, e) : 0;
}

static int ask_either(struct registry *reg, const char *kind, const char *which,
	struct http_document *d, struct err *e)
{
	struct http_document first = *d;
	struct err why = { 0 };
	int r = ask(reg, kind, which, d, &why);

	if (r < 0 && try_plain(reg, d, &why)) {
		http_document_clear(d);
		*d = first;
		r = ask(reg, kind, which, d, &why);
	}
	return r < 0 ? err_set(e, r, "%s", why.text) : 0;
}

static int take_manifest(const struct registry *reg, const char *which, struct http_document *d,
	struct registry_manifest *ret, struct err *e)
{
	int r = 0;

	if (d->len > OCI_MANIFEST_MAX) {
		return err_set(e, -EBADMSG, "%s: the manifest is larger than %u MiB: refused",
			reg->ref.text, OCI_MANIFEST_MAX >> 20);
	}
	if (strchr(which, ':')) {
		r = oci_digest_verify(which, d->body, d->len, reg->ref.text, e);
		snprintf(ret->digest, sizeof(ret->digest), "%.135s", which);
	} else if (oci_digest_check(d->head.digest, NULL) == 0) {
		r = oci_digest_verify(d->head.digest, d->body, d->len, reg->ref.text, e);
		snprintf(ret->digest, sizeof(ret->digest), "%.135s", d->head.digest);
	} else {
		r = oci_digest_make(d->body, d->len, ret->digest, e);
	}
	if (r == 0) {
		memcpy(ret->type, d->head.type, sizeof(ret->type));
		ret->len = d->len;
		ret->data = TAKE_PTR(d->body);
	}
	return r;
}

int registry_manifest_get(struct registry *reg, const char *which, bool is_known,
	struct registry_manifest *ret, bool *ret_temporary, struct err *e)
{
	char said[SAID_MAX] = "";
	struct http_document d = {
		.question = { "GET", OCI_ACCEPT, NULL, said, sizeof(said) },
		.limit = OCI_MANIFEST_MAX,
		.limit_ms = is_known ? min_u64(CONFIRM_MS, reg->conf->limit_ms) : 0,
		.opening = true,
		.patient = !is_known,
	};
	int r = ask_either(reg, "manifests", which, &d, e);

	*ret_temporary = d.temporary;
	*ret = (struct registry_manifest){ 0 };
	if (r == 0) {
		r = take_manifest(reg, which, &d, ret, e);
	}
	http_document_clear(&d);
	return r;
}

int registry_manifest_head(struct registry *reg, const char *which, struct registry_manifest *ret,
	bool *ret_temporary, struct err *e)
{
	char said[SAID_MAX] = "";
	struct http_document d = {
		.question = { "HEAD", OCI_ACCEPT, NULL, said, sizeof(said) },
		.limit_ms = min_u64(CONFIRM_MS, reg->conf->limit_ms),
		.opening = true,
	};
	int r = ask_either(reg, "manifests", which, &d, e);

	*ret_temporary = d.temporary;
	*ret = (struct registry_manifest){ 0 };
	if (r == 0 && oci_digest_check(d.head.digest, NULL) == 0) {
		snprintf(ret->digest, sizeof(ret->digest), "%.135s", d.head.digest);
	}
	http_document_clear(&d);
	return r;
}

void registry_manifest_clear(struct registry_manifest *m)
{
	free(m->data);
	m->data = NULL;
}

int registry_blob_get(struct registry *reg, const struct source_blob *blob, size_t limit,
	char **ret, size_t *ret_len, struct err *e)
{
	char said[SAID_MAX] = "";
	struct http_document d = {
		.question = { "GET", NULL, NULL, said, sizeof(said) },
		.limit = limit,
		.patient = true,
	};
	int r;

	if (blob->size > limit) {
		return err_set(e, -EBADMSG, "%s: the config is larger than %zu MiB: refused",
			reg->ref.text, limit >> 20);
	}
	r = ask_either(reg, "blobs", blob->digest, &d, e);
	if (r == 0) {
		r = oci_digest_verify(blob->digest, d.body, d.len, reg->ref.text, e);
	}
	if (r == 0) {
		*ret_len = d.len;
		*ret = TAKE_PTR(d.body);
	}
	http_document_clear(&d);
	return r;
}

/* Where manifests were known, nobody may have been asked yet. */
static void settle_scheme(struct registry *reg)
{
	struct registry_manifest head;
	bool temporary;

	if (reg->plain) {
		(void)registry_manifest_head(reg, reg->ref.digest ? reg->ref.digest : reg->ref.tag,
			&head, &temporary, NULL);
	}
}

char *registry_origin(struct registry *reg)
{
	char *text = NULL;

	settle_scheme(reg);
	return asprintf(&text, "%s://%s%s", reg->is_plain ? "http" : "https", reg->ref.host,
		       !reg->is_plain && reg->insecure ? ",unverified" : "") < 0
		       ? NULL
		       : text;
}

int registry_blob_open(struct registry *reg, const struct source_blob *blob, bool known,
	struct image **ret, struct err *e)
{
	CLEANUP_FREE char *url = NULL;
	CLEANUP_FREE char *name = NULL;
	struct http_blob b = {
		.conf = reg->conf,
		.id = blob->digest,
		.size = blob->size,
		.known = known,
	};

	if (asprintf(&url, "%s/blobs/%s", reg->base, blob->digest) < 0 ||
		asprintf(&name, "docker://%s/%s, blob %.19s...", reg->ref.domain, reg->ref.path,
			blob->digest) < 0) {
		return no_memory(e);
	}
	b.url = url;
	b.name = name;
	return http_blob_open(reg->net, &b, ret, e);
}

bool registry_is_plain(const struct registry *reg)
{
	return reg->is_plain;
}

bool registry_has_answered(const struct registry *reg)
{
	return reg->answered;
}

bool registry_challenge_known(struct registry *reg, char **ret_realm, char **ret_service)
{
	return registry_auth_challenge(reg->auth, ret_realm, ret_service);
}

char *registry_account(struct registry *reg)
{
	return registry_auth_account(reg->auth);
}

char *registry_warning(struct registry *reg)
{
	return registry_auth_warning(reg->auth);
}
