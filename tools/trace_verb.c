/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk trace`: show, take along, bring, forget the records of boots. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "sources/source.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/render.h"
#include "tools/stack.h"
#include "tools/verb.h"

struct action {
	const char *name;
	const char *args;
	int count; /* of args */
	/* An exit code; a failure was reported. */
	int (*run)(const struct options *o);
};

/* Opens the cache that there is. A cache that was never made holds no record. */
static int open_cache(const struct options *o, struct cache **ret, struct err *e)
{
	struct cache_opts opts = { .existing = true };
	CLEANUP_FREE char *dir = NULL;
	int r = stack_cache_dir(o, &dir, e);

	if (r == 0 && !dir) {
		r = err_set(e, -ENOENT, "there is no cache directory: name one with --cache-dir");
	}
	opts.dir = dir;
	return r < 0 ? r : cache_open(&opts, ret, e);
}

/* The record of SOURCE in the cache. */
static int read_record(const struct options *o, void **ret, size_t *ret_len, struct err *e)
{
	CLEANUP_FREE char *key = NULL;
	struct cache *cache = NULL;
	int r;

	if (!source_is_remote(o->args[1])) {
		return err_set(
			e, -EINVAL, "%s: boots are recorded of remote images only", o->args[1]);
	}
	r = source_key(o->args[1], &key, e);
	if (r == 0) {
		r = open_cache(o, &cache, e);
	}
	if (r == 0) {
		r = cache_trace_get(cache, key, ret, ret_len, e);
	}
	cache_close(cache);
	return r;
}

static int read_file(const char *path, void **ret, size_t *ret_len, struct err *e)
{
	char *text = NULL;
	int r = rw_read_file(path, CACHE_TRACE_MAX, &text, ret_len, e);

	if (r == 0) {
		*ret = text;
	}
	return r;
}

static void show(const struct cache_trace_info *info)
{
	char a[RENDER_MAX];

	printf("  %-14s ", "image");
	render_text(stdout, info->version);
	printf("\n  %-14s %" PRIu64 "\n", "boots", info->boots);
	printf("  %-14s %s\n", "size", render_size(info->size, a));
	printf("  %-14s %s in %" PRIu64 " pieces\n", "read by most", render_size(info->bytes, a),
		info->requests);
	printf("  %-14s %s\n", "by few", render_size(info->rare, a));
	printf("  %-14s %s\n", "takes", render_duration_us(info->span_ms * 1000, a));
}

static void print(const struct options *o, const struct cache_trace_info *info)
{
	if (!o->json) {
		show(info);
		return;
	}
	json_print(json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
			   json_text(info->version), "size", json_u64(info->size), "boots",
			   json_u64(info->boots), "bytes", json_u64(info->bytes), "rare_bytes",
			   json_u64(info->rare), "span_ms", json_u64(info->span_ms), "requests",
			   json_u64(info->requests)),
		stdout);
}

static int info(const struct options *o)
{
	const char *of = o->args[1];
	struct cache_trace_info described = { 0 };
	CLEANUP_FREE void *data = NULL;
	size_t len = 0;
	struct err e;
	int r = source_is_remote(of) ? read_record(o, &data, &len, &e)
				     : read_file(of, &data, &len, &e);

	if (r == 0) {
		r = cache_trace_describe(data, len, &described, &e);
		r = r < 0 ? err_wrap(&e, r, "%s", of) : 0;
	}
	if (r < 0 || !described.version) {
		return exitcode_report(&e, EXITCODE_FAILED);
	}
	print(o, &described);
	free(described.version);
	return EXITCODE_OK;
}

static int write_file(const char *path, const void *data, size_t len, struct err *e)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int r;

	if (fd < 0) {
		return err_sys(e, errno, "%s", path);
	}
	r = rw_pwrite(fd, data, len, 0);
	if (r == 0 && close(TAKE_FD(fd)) < 0) {
		r = -errno;
	}
	return r < 0 ? err_sys(e, r, "%s", path) : 0;
}

static int export(const struct options *o)
{
	struct cache_trace_info described = { 0 };
	CLEANUP_FREE void *data = NULL;
	size_t len = 0;
	struct err e;
	int r = read_record(o, &data, &len, &e);

	if (r == 0) {
		r = cache_trace_describe(data, len, &described, &e);
	}
	if (r < 0) {
		return exitcode_report(&e, EXITCODE_FAILED);
	}
	free(described.version);
	r = write_file(o->args[2], data, len, &e);
	return r < 0 ? exitcode_report(&e, EXITCODE_TARGET) : EXITCODE_OK;
}

/* The source says which version of the image the record shall be of. */
static int import(const struct options *o)
{
	struct stack_env *env = NULL;
	CLEANUP_FREE void *data = NULL;
	struct stack *stack = NULL;
	size_t len = 0;
	struct err e;
	int code = EXITCODE_USAGE;
	int r = read_file(o->args[2], &data, &len, &e);

	if (r == 0) {
		r = stack_env_open(o, &env, &e);
	}
	if (r == 0) {
		r = stack_open(env, o->args[1], &stack, &e);
		code = exitcode_of_source(r);
	}
	if (r == 0) {
		r = stack_import_trace(stack, data, len, &e);
		r = r < 0 ? err_wrap(&e, r, "%s", o->args[2]) : 0;
		code = EXITCODE_FAILED;
	}
	stack_close(stack);
	stack_env_close(env);
	return r < 0 ? exitcode_report(&e, (enum exitcode)code) : EXITCODE_OK;
}

static int drop(const struct options *o)
{
	CLEANUP_FREE char *key = NULL;
	struct cache *cache = NULL;
	struct err e;
	int r = source_key(o->args[1], &key, &e);

	if (r == 0) {
		r = open_cache(o, &cache, &e);
	}
	if (r == 0) {
		r = cache_trace_drop(cache, key, &e);
	}
	cache_close(cache);
	return r < 0 ? exitcode_report(&e, EXITCODE_FAILED) : EXITCODE_OK;
}

static const struct action actions[] = {
	{ "info", "SOURCE|FILE", 1, info },
	{ "export", "SOURCE FILE", 2, export },
	{ "import", "SOURCE FILE", 2, import },
	{ "drop", "SOURCE", 1, drop },
};

int trace_run(const struct options *o)
{
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *a = &actions[i];

		if (strcmp(a->name, o->args[0]) != 0) {
			continue;
		}
		if (o->arg_count - 1 == a->count) {
			return a->run(o);
		}
		(void)err_set(&e, -EINVAL, "usage: lazydisk trace %s %s", a->name, a->args);
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	(void)err_set(&e, -EINVAL, "'%s' is none of info, export, import, drop", o->args[0]);
	return exitcode_report(&e, EXITCODE_USAGE);
}
