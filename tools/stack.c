/* SPDX-License-Identifier: Apache-2.0 */
/* Sources, cache and formats put together. */
#include "tools/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "formats/format.h"
#include "sources/source.h"
#include "tools/secret.h"

struct stack_env {
	const struct options *o;
	struct secret login;
	char **headers; /* NULL: none */
	struct net *net;
	struct cache *cache;
	struct image *digest; /* of the stack that is being opened; in its chain */
};

/* What the opener of backing files knows of the image that asks. */
struct asker {
	struct stack_env *env;
	const char *source;
	const struct stack_access *access;
};

static int open_layers(const struct asker *asker, const char *format, unsigned int depth,
	struct image **ret, struct err *e);

static char *default_cache_dir(void)
{
	const char *own = getenv("LAZYDISK_CACHE_DIR");
	const char *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char *dir = NULL;

	if (own && *own) {
		return options_absolute_path(own);
	}
	/* Relative paths are invalid there: XDG Base Directory Specification */
	if (xdg && *xdg == '/') {
		return asprintf(&dir, "%s/lazydisk", xdg) < 0 ? NULL : dir;
	}
	if (geteuid() == 0) {
		return strdup("/var/cache/lazydisk");
	}
	if (home && *home == '/') {
		return asprintf(&dir, "%s/.cache/lazydisk", home) < 0 ? NULL : dir;
	}
	return strdup("");
}

int stack_cache_dir(const struct options *o, char **ret, struct err *e)
{
	char *dir = o->cache_dir ? strdup(o->cache_dir) : default_cache_dir();

	if (!dir) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!*dir) {
		free(dir);
		dir = NULL;
	}
	*ret = dir;
	return 0;
}

static int need_cache(struct stack_env *env, struct err *e)
{
	const struct options *o = env->o;
	CLEANUP_FREE char *dir = NULL;
	struct cache_opts opts = {
		.max_size = o->cache_size,
		.readahead = o->readahead,
		.no_readahead = o->readahead_given && o->readahead == 0,
	};
	int r;

	if (env->cache) {
		return 0;
	}
	if (!o->no_cache) {
		r = stack_cache_dir(o, &dir, e);
		if (r < 0) {
			return r;
		}
	}
	opts.dir = dir;
	if (!dir && !o->no_cache) {
		log_warn(
			"there is no place for a cache (HOME is not set): nothing is kept; name one "
			"with --cache-dir");
	}
	return cache_open(&opts, &env->cache, e);
}

static int need_net(struct stack_env *env, struct err *e)
{
	return env->net ? 0 : net_new(env->o->connections, &env->net, e);
}

static struct source_opts source_options(
	const struct stack_env *env, const struct stack_access *access)
{
	const struct options *o = env->o;
	struct source_opts opts = {
		.cacert = o->cacert,
		.cert_dir = o->cert_dir,
		.client_cert = o->client_cert,
		.client_key = o->client_key,
		.insecure = o->insecure,
		.user = env->login.user,
		.password = env->login.password,
		.headers = (const char *const *)env->headers,
		.proxy = o->proxy,
		.timeout_s = o->timeout_s,
		.tries = o->tries,
		.retry_hard = o->retry_hard,
	};

	if (access) {
		opts.user = access->user;
		opts.password = access->password;
		opts.headers = access->headers;
		opts.ca_pem = access->ca_pem;
		opts.insecure = o->insecure || access->insecure;
	}
	return opts;
}

/* Backing files are admitted only when the user said so, and only beside the image that names them:
 * source_sibling() refuses every other name. */
static int open_backing(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	const struct asker *asker = ctx;
	CLEANUP_FREE char *sibling = NULL;
	int r;

	if (depth > FORMAT_DEPTH_MAX) {
		return err_set(
			e, -ENOTSUP, "more than %d backing files in a row", FORMAT_DEPTH_MAX);
	}
	r = source_sibling(asker->source, name, &sibling, e);
	if (r < 0) {
		return r == -ENOMEM ? r : err_wrap(e, -ENOTSUP, "backing file");
	}
	return open_layers(
		&(struct asker){ asker->env, sibling, asker->access }, format, depth, ret, e);
}

static int open_format(const struct asker *asker, struct image *below,
	const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct asker backing = *asker;
	struct format_opts mine = *opts;
	int r;

	if (asker->env->o->allow_backing) {
		mine.open_backing = open_backing;
		mine.ctx = &backing;
	}
	r = format_open(below, &mine, ret, e);
	if (r < 0) {
		CLEANUP_FREE char *shown = stack_display(asker->source);

		return err_wrap(e, r, "%s", shown ? shown : "image");
	}
	return 0;
}

/* The checksum is of the image that the user named, not of its backing files. */
static int add_digest(
	struct stack_env *env, unsigned int depth, struct image **image, struct err *e)
{
	struct image *digest;
	int r;

	if (!env->o->checksum || depth > 0) {
		return 0;
	}
	r = source_digest_open(*image, env->o->checksum, &digest, e);
	if (r == 0) {
		*image = digest;
		env->digest = digest;
	}
	return r;
}

/* A version that the cache knows helps to open a source whose server does not answer. */
static int open_remote(const struct asker *asker, unsigned int depth, struct image **ret,
	struct blobs **ret_blobs, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	struct stack_env *env = asker->env;
	struct source_opts opts = source_options(env, asker->access);
	struct cache_known known = { NULL, 0 };
	CLEANUP_FREE char *key = NULL;
	int r = need_cache(env, e);

	if (r == 0) {
		r = need_net(env, e);
	}
	if (r == 0) {
		r = source_key(asker->source, &key, e);
	}
	if (r < 0) {
		return r;
	}
	if (cache_peek(env->cache, key, &known, NULL) == 0) {
		opts.expected_id = known.id;
		opts.expected_size = known.size;
	}
	r = source_open(env->net, asker->source, &opts, &image, e);
	free(known.id);
	if (r == 0) {
		r = add_digest(env, depth, &image, e);
	}
	if (r == 0) {
		r = cache_image_open(env->cache, key, image, ret, e);
	}
	if (r < 0) {
		return r;
	}
	TAKE_PTR(image);
	*ret_blobs = cache_image_blobs(*ret);
	return 0;
}

static int open_local(
	const struct asker *asker, unsigned int depth, struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	struct source_opts opts = source_options(asker->env, asker->access);
	int r = source_open(asker->env->net, asker->source, &opts, &image, e);

	if (r == 0) {
		r = add_digest(asker->env, depth, &image, e);
	}
	if (r == 0) {
		*ret = TAKE_PTR(image);
	}
	return r;
}

static int open_layers(const struct asker *asker, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	struct format_opts opts = { .format = format, .depth = depth };
	int r;

	if (source_is_remote(asker->source)) {
		r = open_remote(asker, depth, &image, &opts.blobs, e);
	} else {
		r = open_local(asker, depth, &image, e);
	}
	if (r == 0) {
		r = open_format(asker, image, &opts, ret, e);
	}
	if (r == 0) {
		TAKE_PTR(image);
	}
	return r;
}

char *stack_display(const char *source)
{
	char *key = NULL;
	char *path;

	if (source_is_remote(source)) {
		return source_key(source, &key, NULL) < 0 ? NULL : key;
	}
	path = realpath(source, NULL);
	return path ? path : strdup(source);
}

int stack_name(const char *source, char **ret, struct err *e)
{
	return source_name(source, ret, e);
}

int stack_open(struct stack_env *env, const char *source, struct stack **ret, struct err *e)
{
	return stack_open_as(env, source, NULL, ret, e);
}

int stack_open_as(struct stack_env *env, const char *source, const struct stack_access *access,
	struct stack **ret, struct err *e)
{
	struct asker asker = { env, source, access };
	struct stack *stack = calloc(1, sizeof(*stack));
	int r;

	if (!stack) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	stack->local = !source_is_remote(source);
	env->digest = NULL;
	r = open_layers(&asker, access && access->format ? access->format : env->o->format, 0,
		&stack->image, e);
	if (r == 0) {
		stack->digest = env->digest;
		stack->source = stack_display(source);
		r = stack->source ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		stack_close(stack);
		return r;
	}
	*ret = stack;
	return 0;
}

int stack_verify(struct stack *stack, struct err *e)
{
	return stack->digest ? source_digest_finish(stack->digest, e) : 0;
}

void stack_close(struct stack *stack)
{
	if (stack) {
		if (stack->image) {
			image_interrupt(stack->image);
		}
		image_close(stack->image);
		free(stack->source);
		free(stack);
	}
}

static int read_login(const struct options *o, struct secret *ret, struct err *e)
{
	if (o->secret) {
		return secret_load(o->secret, ret, e);
	}
	if (!o->user) {
		return 0;
	}
	ret->user = strdup(o->user);
	if (!ret->user) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return o->password_file ? secret_read_password(o->password_file, &ret->password, e)
				: secret_ask(o->user, &ret->password, e);
}

int stack_check(const struct options *o, struct err *e)
{
	if (o->format && !format_is_known(o->format)) {
		return err_set(
			e, -EINVAL, "--format: '%s' is not one of %s", o->format, format_names());
	}
	if (o->checksum && source_digest_check(o->checksum, e) < 0) {
		return err_wrap(e, -EINVAL, "--checksum");
	}
	return 0;
}

int stack_env_open(const struct options *o, struct stack_env **ret, struct err *e)
{
	struct stack_env *env = calloc(1, sizeof(*env));
	int r;

	if (!env) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	env->o = o;
	r = read_login(o, &env->login, e);
	if (r == 0 && o->header_file) {
		r = secret_read_headers(o->header_file, &env->headers, e);
	}
	if (r < 0) {
		stack_env_close(env);
		return r;
	}
	*ret = env;
	return 0;
}

void stack_env_close(struct stack_env *env)
{
	if (env) {
		cache_close(env->cache);
		net_free(env->net);
		secret_clear(&env->login);
		secret_free_headers(env->headers);
		free(env);
	}
}
