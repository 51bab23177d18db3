/* SPDX-License-Identifier: Apache-2.0 */
/* From a file of many accounts to the one for a repository. */
#include "sources/authfile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base64.h"
#include "core/cleanup.h"
#include "sources/json_text.h"

int authfile_parse(const char *path, const char *text, size_t len, json_t **ret, struct err *e)
{
	int r = json_text_parse(path, text, len, ret, e);

	if (r < 0 && e) {
		e->code = -EINVAL;
	}
	return r < 0 ? -EINVAL : 0;
}

static bool is_hub(const char *host)
{
	return strcasecmp(host, "docker.io") == 0 || strcasecmp(host, "index.docker.io") == 0 ||
	       strcasecmp(host, "registry-1.docker.io") == 0;
}

static bool same_host(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0 || (is_hub(a) && is_hub(b));
}

const char *authfile_server(const struct registry_ref *ref)
{
	return is_hub(ref->domain) ? "https://index.docker.io/v1/" : ref->domain;
}

/* Old keys are URLs of an API: "https://host/v1/". @room is that of @host. */
static bool host_of_key(const char *key, char *host, size_t room)
{
	const char *p = strstr(key, "://");
	const char *rest;
	size_t n;

	p = p ? p + 3 : key;
	n = strcspn(p, "/");
	rest = p + n;
	if (strncmp(rest, "/v1", 3) == 0 || strncmp(rest, "/v2", 3) == 0) {
		rest += 3;
	}
	if (n == 0 || n >= room || (*rest && strcmp(rest, "/") != 0)) {
		return false;
	}
	memcpy(host, p, n);
	host[n] = '\0';
	return true;
}

const char *authfile_helper(const json_t *file, const struct registry_ref *ref)
{
	json_t *helpers = json_object_get(file, "credHelpers");
	const char *key;
	json_t *value;

	json_object_foreach(helpers, key, value)
	{
		char host[300];

		if (host_of_key(key, host, sizeof(host)) && same_host(host, ref->domain) &&
			json_is_string(value)) {
			return json_string_value(value);
		}
	}
	return json_text_get(file, "credsStore");
}

/* Marks of docker login that some helper keeps the rest. */
static bool is_empty(const json_t *entry)
{
	static const char *const keys[] = { "auth", "username", "identitytoken", "registrytoken" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		const char *text = json_text_get(entry, keys[i]);

		if (text && *text) {
			return false;
		}
	}
	return true;
}

/* The entries of a file: below "auths", or of a .dockercfg itself. */
static json_t *entries_of(const json_t *file)
{
	json_t *auths = json_object_get(file, "auths");

	if (auths || json_object_get(file, "credHelpers") || json_object_get(file, "credsStore")) {
		return auths;
	}
	return (json_t *)(uintptr_t)file;
}

static const json_t *find_scoped(const json_t *entries, const struct registry_ref *ref)
{
	CLEANUP_FREE char *key = NULL;
	size_t host = strlen(ref->domain);

	if (asprintf(&key, "%s/%s", ref->domain, ref->path) < 0) {
		key = NULL;
		return NULL;
	}
	for (;;) {
		const json_t *entry = json_object_get(entries, key);
		char *slash = strrchr(key, '/');

		if (json_is_object(entry) && !is_empty(entry)) {
			return entry;
		}
		if (!slash || strlen(key) <= host) {
			return NULL;
		}
		*slash = '\0';
	}
}

static const json_t *find_by_host(json_t *entries, const struct registry_ref *ref)
{
	const char *key;
	json_t *value;

	json_object_foreach(entries, key, value)
	{
		char host[300];

		if (json_is_object(value) && !is_empty(value) &&
			host_of_key(key, host, sizeof(host)) && same_host(host, ref->domain)) {
			return value;
		}
	}
	return NULL;
}

static int copy(const char *text, char **ret)
{
	if (text && *text) {
		*ret = strdup(text);
		return *ret ? 0 : -ENOMEM;
	}
	return 0;
}

/* "user:password" in base64; some tools pad it with NULs. */
static int take_auth(const char *coded, struct registry_login *ret)
{
	size_t len = 0;
	char *text = base64_decode(coded, &len);
	char *colon = text ? strchr(text, ':') : NULL;
	int r = -EINVAL;

	if (colon) {
		ret->user = strndup(text, (size_t)(colon - text));
		ret->password = strdup(colon + 1);
		r = ret->user && ret->password ? 0 : -ENOMEM;
	}
	if (text) {
		explicit_bzero(text, len);
	}
	free(text);
	return r;
}

static int take_entry(const json_t *entry, struct registry_login *ret)
{
	const char *auth = json_text_get(entry, "auth");
	int r = copy(json_text_get(entry, "identitytoken"), &ret->identity);

	if (r == 0) {
		r = copy(json_text_get(entry, "registrytoken"), &ret->bearer);
	}
	if (r == 0 && auth && *auth) {
		return take_auth(auth, ret);
	}
	if (r == 0) {
		r = copy(json_text_get(entry, "username"), &ret->user);
	}
	if (r == 0 && ret->user) {
		const char *password = json_text_get(entry, "password");

		ret->password = strdup(password ? password : "");
		r = ret->password ? 0 : -ENOMEM;
	}
	return r;
}

int authfile_find(const char *path, const json_t *file, const struct registry_ref *ref,
	struct registry_login *ret, struct err *e)
{
	struct registry_login login = { 0 };
	json_t *entries = entries_of(file);
	const json_t *entry = find_scoped(entries, ref);
	int r;

	if (!entry) {
		entry = find_by_host(entries, ref);
	}
	if (!entry) {
		return -ENOENT;
	}
	r = take_entry(entry, &login);
	if (r < 0) {
		registry_login_clear(&login);
		return r == -ENOMEM ? err_set(e, r, "out of memory")
				    : err_set(e, -EINVAL,
					      "%s: the entry for %s is broken: its \"auth\" is not "
					      "\"user:password\" in base64",
					      path, ref->domain);
	}
	*ret = login;
	return 0;
}
