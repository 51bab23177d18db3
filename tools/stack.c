/* SPDX-License-Identifier: Apache-2.0 */
/* Sources, cache and formats put together. */
#include "tools/stack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cache/overlay.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/rw.h"
#include "tools/cache_image.h"
#include "tools/sidecar.h"
#include "tools/stack_env.h"

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

int stack_need_cache(struct stack_env *env, struct err *e)
{
	const struct options *o = env->o;
	CLEANUP_FREE char *dir = NULL;
	struct cache_opts opts = {
		.max_size = o->cache_size,
		.readahead = o->readahead,
		.no_readahead = o->readahead_given && o->readahead == 0,
		.once = o->in_order,
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

int stack_need_net(struct stack_env *env, struct err *e)
{
	return env->net ? 0 : net_new(env->o->connections, &env->net, e);
}

struct source_opts stack_source_options(
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
		.docker_config = env->login.docker_config,
		.login_from = o->secret ? o->secret : "--user",
		.authfile = o->authfile,
		.platform = o->platform,
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
		opts.docker_config = access->docker_config;
		opts.login_from = access->login_from;
		opts.platform = access->platform ? access->platform : o->platform;
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
		&(struct asker){ asker->env, sibling, asker->access, NULL }, format, depth, ret, e);
}

/* Puts the derived cache over what a decoder makes, where going back in it costs something. */
int stack_keep(void *ctx, struct image *decoded, const char *name, struct image **ret,
	struct blobs **ret_blobs, struct err *e)
{
	struct asker *asker = ctx;
	CLEANUP_FREE char *key = NULL;
	uint64_t off;
	uint64_t len = 0;
	int r = decoded->size > 0 ? image_unit_at(decoded, 0, &off, &len, e) : 0;

	if (r == 0 && len > 0 && asker->env->o->in_order) {
		const char *inside = NULL;

		r = format_probe(decoded, &inside, e);
		len = r == 0 && strcmp(inside, "raw") == 0 ? 0 : len;
	}
	if (r < 0) {
		return r;
	}
	if (len == 0) {
		*ret = decoded;
		*ret_blobs = NULL;
		return 0;
	}
	if (asprintf(&key, "%s+%s", asker->key, name) < 0) {
		key = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = stack_need_cache(asker->env, e);
	if (r == 0) {
		r = cache_image_open(asker->env->cache, key, decoded, ret, e);
	}
	if (r < 0) {
		return r;
	}
	*ret_blobs = cache_image_blobs(*ret);
	free(asker->key);
	asker->key = TAKE_PTR(key);
	return 0;
}

static int open_format(const struct asker *asker, struct image *below,
	const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct asker inner = *asker;
	struct format_opts mine = *opts;
	int r = source_key(asker->source, &inner.key, e);

	if (r < 0) {
		return r;
	}
	mine.keep = stack_keep;
	mine.ctx = &inner;
	if (asker->env->o->allow_backing) {
		mine.open_backing = open_backing;
	}
	r = format_open(below, &mine, ret, e);
	free(inner.key);
	if (r < 0) {
		CLEANUP_FREE char *shown = stack_display(asker->source);

		return err_wrap(e, r, "%s", shown ? shown : "image");
	}
	return 0;
}

int stack_add_digest(struct stack_env *env, const char *want, struct image **image, struct err *e)
{
	struct image *digest;
	int r = source_digest_open(*image, want, &digest, e);

	if (r == 0) {
		*image = digest;
		env->digest = digest;
	}
	return r;
}

/* The checksum is of the image that the user named, not of its backing files. */
static int add_checksum(
	struct stack_env *env, unsigned int depth, struct image **image, struct err *e)
{
	if (!env->o->checksum || depth > 0 || env->serves) {
		return 0;
	}
	return stack_add_digest(env, env->o->checksum, image, e);
}

/* For the cache: the whole is here, is it what it has to be? */
static int verify_whole(void *ctx, struct image *whole, struct err *e)
{
	const struct stack_env *env = ctx;

	return source_digest_image(whole, env->o->checksum, e);
}

/* The trace that the user names. What is wrong with it costs time, no bytes. */
static void replay_file(struct image *cached, const char *path)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0;
	struct err e;
	int r = rw_read_file(path, CACHE_TRACE_MAX, &data, &len, &e);

	if (r == 0) {
		r = cache_image_trace(cached, data, len, &e);
	}
	if (r < 0) {
		log_warn("%s: %s: it is ignored", path, e.text);
	}
}

int stack_serve(struct stack_env *env, unsigned int depth, struct image *cached, struct err *e)
{
	const struct options *o = env->o;
	struct cache_serve_opts opts = {
		.no_trace = o->no_trace,
		.complete = o->complete,
		.no_complete = o->no_complete,
		.delay_given = o->complete_delay_given,
		.delay_s = o->complete_delay,
		.rate = o->complete_rate,
	};
	int r;

	if (!env->serves) {
		return 0;
	}
	if (depth == 0 && o->checksum) {
		opts.digest = o->checksum;
		opts.verify = verify_whole;
		opts.ctx = env;
	}
	r = cache_image_serve(cached, &opts, e);
	if (r == 0 && depth == 0 && o->trace) {
		replay_file(cached, o->trace);
	}
	return r;
}

/* A version that the cache knows helps to open a source whose server does not answer. */
static int open_remote(const struct asker *asker, unsigned int depth, struct image **ret,
	struct blobs **ret_blobs, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	struct stack_env *env = asker->env;
	struct source_opts opts = stack_source_options(env, asker->access);
	struct cache_known known = { NULL, 0 };
	struct image *cached = NULL;
	CLEANUP_FREE char *key = NULL;
	int r = stack_need_cache(env, e);

	if (r == 0) {
		r = stack_need_net(env, e);
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
		r = cache_image_open(env->cache, key, image, &cached, e);
	}
	if (r < 0) {
		return r;
	}
	TAKE_PTR(image);
	image = cached;
	if (depth == 0) {
		env->cached = cached;
	}
	r = stack_serve(env, depth, cached, e);
	if (r == 0) {
		/* Over the cache: what is compared is what is handed out. */
		r = add_checksum(env, depth, &image, e);
	}
	if (r == 0) {
		*ret = TAKE_PTR(image);
		*ret_blobs = cache_image_blobs(cached);
	}
	return r;
}

static void nothing_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

/* An image without a byte, known under another's id. */
static int nothing_new(const char *id, struct image **ret)
{
	static const struct image_ops nothing_ops = {
		.name = "nothing",
		.destroy = nothing_destroy,
	};
	struct image *img = calloc(1, sizeof(*img));

	if (!img || image_init(img, &nothing_ops, NULL, 0, id) < 0) {
		free(img);
		return -ENOMEM;
	}
	*ret = img;
	return 0;
}

/* What is on this machine is not cached, but what was learned of it is to be remembered: an object
 * of the cache that holds small records and no byte. Without it all works, only slower. */
static void open_records(const struct asker *asker, const struct image *image, struct blobs **ret)
{
	struct stack_env *env = asker->env;
	CLEANUP(image_closep) struct image *nothing = NULL;
	CLEANUP_FREE char *key = NULL;
	struct image **list;
	struct image *records;

	if (env->o->no_cache || (image->flags & IMAGE_UNVERSIONED) ||
		stack_need_cache(env, NULL) < 0 || source_key(asker->source, &key, NULL) < 0 ||
		nothing_new(image->id, &nothing) < 0) {
		return;
	}
	list = reallocarray(env->records, env->record_count + 1, sizeof(struct image *));
	if (!list) {
		return;
	}
	env->records = list;
	if (cache_image_open(env->cache, key, nothing, &records, NULL) == 0) {
		TAKE_PTR(nothing);
		env->records[env->record_count++] = records;
		*ret = cache_image_blobs(records);
	}
}

static bool is_container(struct image *image, const char *format)
{
	const char *name = format;

	return (name || format_probe(image, &name, NULL) == 0) && format_is_container(name);
}

static int open_local(
	const struct asker *asker, unsigned int depth, struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	struct source_opts opts = stack_source_options(asker->env, asker->access);
	int r = source_open(asker->env->net, asker->source, &opts, &image, e);

	if (r == 0) {
		r = add_checksum(asker->env, depth, &image, e);
	}
	if (r == 0) {
		*ret = TAKE_PTR(image);
	}
	return r;
}

static int open_layers(const struct asker *asker, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	struct stack_env *env = asker->env;
	CLEANUP(image_closep) struct image *image = NULL;
	struct image *disk = NULL;
	struct format_opts opts = {
		.format = format,
		.member = depth == 0 ? env->o->member : NULL,
		.depth = depth,
		.size = depth == 0 ? env->o->content_size : 0,
	};
	int r;

	if (source_is_image(asker->source)) {
		return stack_image_open(asker, format, ret, e);
	}
	if (source_is_remote(asker->source)) {
		r = open_remote(asker, depth, &image, &opts.blobs, e);
	} else {
		r = open_local(asker, depth, &image, e);
		if (r == 0 && is_container(image, format)) {
			open_records(asker, image, &opts.blobs);
		}
	}
	if (r == 0) {
		r = open_format(asker, image, &opts, &disk, e);
	}
	if (r == 0) {
		image = disk;
		if (depth == 0 && env->serves && env->cached && env->o->checksum) {
			r = stack_guard(&image, cache_image_check, env->cached, e);
		}
	}
	if (r == 0) {
		*ret = TAKE_PTR(image);
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

/* Where nothing is known of earlier boots, somebody may have put it beside the image: on a web
 * server, where names are places. */
static struct sidecar *look_beside(const struct asker *asker)
{
	struct stack_env *env = asker->env;
	struct source_opts opts = stack_source_options(env, asker->access);

	if (!env->serves || !env->cached || strncasecmp(asker->source, "http", 4) != 0 ||
		env->o->trace || env->o->no_trace || cache_image_is_warm(env->cached)) {
		return NULL;
	}
	return sidecar_start(env->net, asker->source, &opts, env->cached);
}

int stack_open(struct stack_env *env, const char *source, struct stack **ret, struct err *e)
{
	return stack_open_as(env, source, NULL, ret, e);
}

int stack_open_as(struct stack_env *env, const char *source, const struct stack_access *access,
	struct stack **ret, struct err *e)
{
	struct asker asker = { env, source, access, NULL };
	struct stack *stack = calloc(1, sizeof(*stack));
	int r;

	if (!stack) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	stack->local = !source_is_remote(source);
	stack->env = env;
	env->digest = NULL;
	env->cached = NULL;
	r = open_layers(&asker, access && access->format ? access->format : env->o->format, 0,
		&stack->image, e);
	if (r == 0) {
		stack->disk = stack->image;
		stack->digest = env->digest;
		stack->cached = env->cached;
		stack->sidecar = look_beside(&asker);
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

/* Beside what is cached, if there is room for that; else where temporary files lie that are too
 * large for memory. */
static int temporary_dir(const struct options *o, char **ret, struct err *e)
{
	CLEANUP_FREE char *dir = NULL;
	const char *tmp = getenv("TMPDIR");
	int r = o->no_cache ? 0 : stack_cache_dir(o, &dir, e);

	if (r < 0) {
		return r;
	}
	if (dir && access(dir, W_OK | X_OK) < 0) {
		free(dir);
		dir = NULL;
	}
	*ret = dir ? TAKE_PTR(dir) : strdup(tmp && *tmp ? tmp : "/var/tmp");
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int stack_add_overlay(struct stack_env *env, struct stack *stack, const char *overlay,
	bool existing, struct err *e)
{
	CLEANUP_FREE char *dir = NULL;
	struct overlay_opts opts = { .source = stack->source, .existing = existing };
	int r = 0;

	if ((stack->disk->flags & IMAGE_SIZE_PROVISIONAL) && !env->o->content_size_given) {
		return err_set(e, -ENOTSUP,
			"%s: how large the disk is shows only when all of it was decoded, and an "
			"overlay has to know: give --size, or read the disk to its end once",
			stack->source);
	}
	if (strcmp(overlay, OPTIONS_TEMPORARY) == 0) {
		r = temporary_dir(env->o, &dir, e);
		opts.dir = dir;
	} else {
		opts.path = overlay;
	}
	return r < 0 ? r : overlay_open(&opts, stack->disk, &stack->image, e);
}

static void find_wrong(struct stack *stack)
{
	stack->wrong = cache_image_key(stack->cached);
	stack->wrong_id = strdup(stack->cached->id);
}

/* The digest is of one file as it was read first: of what was decoded from bytes that were fetched
 * again, and of backing files, it says nothing. It comes last because it takes part in what is read
 * before, so that nothing is fetched twice. Where both find something, the file is another. */
int stack_verify(struct stack *stack, struct err *e)
{
	int r = image_prove(stack->image, e);

	if (stack->digest && (r == 0 || r == -EBADMSG)) {
		struct err whole;
		int d = source_digest_finish(stack->digest, &whole);

		if (r == 0 || d == -ENOKEY) {
			*e = whole;
			r = d;
		}
	}
	if ((r == -ENOKEY || r == -EBADMSG) && stack->cached) {
		find_wrong(stack);
	}
	return r;
}

int stack_import_trace(struct stack *stack, const void *data, size_t len, struct err *e)
{
	return stack->cached ? cache_image_trace_import(stack->cached, data, len, e)
			     : err_set(e, -EINVAL, "%s: boots are recorded of remote images only",
				       stack->source);
}

void stack_close(struct stack *stack)
{
	if (stack) {
		sidecar_forget(stack->sidecar);
		sidecar_push(stack->sidecar, &stack->env->sidecars);
		if (stack->image) {
			image_interrupt(stack->image);
		}
		if (stack->cached && cache_image_check(stack->cached, NULL) < 0) {
			find_wrong(stack);
		}
		image_close(stack->image);
		if (stack->wrong && stack->wrong_id) {
			cache_image_drop_blob(stack->env->cache, stack->wrong, stack->wrong_id);
		}
		free(stack->wrong);
		free(stack->wrong_id);
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

void stack_env_serve(struct stack_env *env)
{
	env->serves = true;
}

void stack_env_close(struct stack_env *env)
{
	if (env) {
		for (size_t i = 0; i < env->record_count; i++) {
			image_close(env->records[i]);
		}
		free(env->records);
		cache_close(env->cache);
		if (env->sidecars) {
			net_stop(env->net);
		}
		while (env->sidecars) {
			env->sidecars = sidecar_free(env->sidecars);
		}
		net_free(env->net);
		secret_clear(&env->login);
		secret_free_headers(env->headers);
		free(env);
	}
}
