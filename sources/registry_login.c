/* SPDX-License-Identifier: Apache-2.0 */
/* The places where credentials are kept, in their order. */
#include "sources/registry_login.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"
#include "sources/authfile.h"
#include "sources/credhelper.h"
#include "sources/json_text.h"

#define FILE_MAX (4U << 20)

struct registry_wallet {
	char *user;
	char *password;
	char *from; /* where they came from, for messages */
	char *docker_config;
	char *authfile;
};

void registry_login_clear(struct registry_login *l)
{
	free(l->user);
	free_secret(l->password);
	free_secret(l->identity);
	free_secret(l->bearer);
	free(l->account);
	*l = (struct registry_login){ 0 };
}

bool registry_login_is_anonymous(const struct registry_login *l)
{
	return !l->user && !l->identity && !l->bearer;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool registry_login_equals(const struct registry_login *a, const struct registry_login *b)
{
	return same(a->user, b->user) && same(a->password, b->password) &&
	       same(a->identity, b->identity) && same(a->bearer, b->bearer);
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static bool copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return !text || *ret;
}

int registry_wallet_new(const struct source_opts *opts, struct registry_wallet **ret, struct err *e)
{
	struct registry_wallet *w = calloc(1, sizeof(*w));

	if (!w || !copy(opts->user, &w->user) || !copy(opts->password, &w->password) ||
		!copy(opts->login_from, &w->from) ||
		!copy(opts->docker_config, &w->docker_config) ||
		!copy(opts->authfile, &w->authfile)) {
		registry_wallet_free(w);
		return no_memory(e);
	}
	*ret = w;
	return 0;
}

void registry_wallet_free(struct registry_wallet *w)
{
	if (w) {
		free(w->user);
		free_secret(w->password);
		free(w->from);
		free_secret(w->docker_config);
		free(w->authfile);
		free(w);
	}
}

/* Says for people who @l is. */
static int name_account(struct registry_login *l, const char *from, struct err *e)
{
	int n;

	if (l->identity) {
		n = asprintf(&l->account, "the identity token in %s", from);
	} else if (l->bearer) {
		n = asprintf(&l->account, "the token in %s", from);
	} else {
		n = asprintf(&l->account, "user %s from %s", l->user ? l->user : "", from);
	}
	if (n < 0) {
		l->account = NULL;
		return no_memory(e);
	}
	return 0;
}

/* A user called <token> is a helper's way to say that the secret is an identity token. */
static int ask_helper(const char *helper, const struct registry_ref *ref,
	struct registry_login *ret, struct err *e)
{
	CLEANUP_SECRET char *secret = NULL;
	CLEANUP_FREE char *user = NULL;
	char from[160];
	int r = credhelper_get(helper, authfile_server(ref), &user, &secret, e);

	if (r < 0) {
		return r;
	}
	if (strcmp(user, "<token>") == 0) {
		ret->identity = TAKE_PTR(secret);
	} else {
		ret->user = TAKE_PTR(user);
		ret->password = TAKE_PTR(secret);
	}
	snprintf(from, sizeof(from), "docker-credential-%.100s", helper);
	return name_account(ret, from, e);
}

static int find_in_text(const char *path, const char *text, size_t len,
	const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	CLEANUP(json_text_dropp) json_t *file = NULL;
	const char *helper;
	int r = authfile_parse(path, text, len, &file, e);

	if (r < 0) {
		return r;
	}
	helper = authfile_helper(file, ref);
	if (helper && *helper) {
		r = ask_helper(helper, ref, ret, e);
		if (r != -ENOENT) {
			return r;
		}
	}
	r = authfile_find(path, file, ref, ret, e);
	return r < 0 ? r : name_account(ret, path, e);
}

static int find_in_file(
	const char *path, const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	CLEANUP_SECRET char *text = NULL;
	size_t len = 0;
	int r;

	if (access(path, F_OK) < 0) {
		return -ENOENT;
	}
	r = rw_read_file(path, FILE_MAX, &text, &len, e);
	return r < 0 ? r : find_in_text(path, text, len, ref, ret, e);
}

/* A mounted Secret is a directory with one of these. */
static int find_in_dir(
	const char *dir, const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	static const char *const names[] = { ".dockerconfigjson", "config.json", "auth.json",
		".dockercfg" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		CLEANUP_FREE char *path = NULL;

		if (asprintf(&path, "%s/%s", dir, names[i]) < 0) {
			path = NULL;
			return no_memory(e);
		}
		if (access(path, F_OK) == 0) {
			return find_in_file(path, ref, ret, e);
		}
	}
	return err_set(e, -EINVAL,
		"%s: holds none of .dockerconfigjson, config.json, auth.json and .dockercfg", dir);
}

static int find_named(
	const char *path, const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		return err_sys(e, errno, "%s", path);
	}
	return S_ISDIR(st.st_mode) ? find_in_dir(path, ref, ret, e)
				   : find_in_file(path, ref, ret, e);
}

/* A place that tools use without being told. Its parts: directory, else directory below HOME, name.
 */
static int find_usual(const char *dir, const char *below_home, const char *name,
	const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	const char *home = getenv("HOME");
	int n;
	int r;

	if (dir && *dir) {
		n = asprintf(&path, "%s/%s", dir, name);
	} else if (home && *home && below_home) {
		n = asprintf(&path, "%s%s/%s", home, below_home, name);
	} else {
		return -ENOENT;
	}
	if (n < 0) {
		path = NULL;
		return no_memory(e);
	}
	if (access(path, R_OK) < 0) {
		return -ENOENT;
	}
	r = find_in_file(path, ref, ret, e);
	ret->ambient = true;
	return r;
}

static int find_ambient(const struct registry_ref *ref, struct registry_login *ret, struct err *e)
{
	const char *named = getenv("REGISTRY_AUTH_FILE");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char run[64];
	int r = named && *named ? find_named(named, ref, ret, e) : -ENOENT;

	if (r == -ENOENT) {
		snprintf(run, sizeof(run), "/run/containers/%u", geteuid());
		r = runtime && *runtime
			    ? find_usual(runtime, NULL, "containers/auth.json", ref, ret, e)
			    : find_usual(run, NULL, "auth.json", ref, ret, e);
	}
	if (r == -ENOENT) {
		r = find_usual(
			getenv("XDG_CONFIG_HOME"), "/.config", "containers/auth.json", ref, ret, e);
	}
	if (r == -ENOENT) {
		r = find_usual(getenv("DOCKER_CONFIG"), "/.docker", "config.json", ref, ret, e);
	}
	if (r == -ENOENT) {
		r = find_usual(NULL, "", ".dockercfg", ref, ret, e);
	}
	return r;
}

static int take_given(const struct registry_wallet *w, struct registry_login *ret, struct err *e)
{
	if (!copy(w->user ? w->user : "", &ret->user) ||
		!copy(w->password ? w->password : "", &ret->password)) {
		return no_memory(e);
	}
	return name_account(ret, w->from ? w->from : "the options", e);
}

int registry_wallet_find(const struct registry_wallet *w, const struct registry_ref *ref,
	struct registry_login *ret, struct err *e)
{
	struct registry_login login = { 0 };
	const char *from = w->from ? w->from : "the docker config";
	int r = -ENOENT;

	if (w->user || w->password) {
		r = take_given(w, &login, e);
	}
	if (r == -ENOENT && w->docker_config) {
		r = find_in_text(from, w->docker_config, strlen(w->docker_config), ref, &login, e);
	}
	if (r == -ENOENT && w->authfile) {
		r = find_named(w->authfile, ref, &login, e);
	}
	if (r == -ENOENT && !w->authfile) {
		r = find_ambient(ref, &login, e);
	}
	if (r < 0) {
		registry_login_clear(&login);
	}
	if (r < 0 && r != -ENOENT) {
		return r;
	}
	*ret = login;
	return 0;
}
