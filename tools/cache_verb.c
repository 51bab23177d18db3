/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk cache`: list, drop, prune, verify what is kept on disk. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/source.h"
#include "tools/cache_image.h"
#include "tools/exitcode.h"
#include "tools/image_records.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/render.h"
#include "tools/stack.h"
#include "tools/verb.h"

struct action {
	const char *name;
	int args; /* behind the name */
	/* 0, a negative errno, or a positive exit code: done, with something to tell. */
	int (*run)(struct cache *c, const struct options *o, struct err *e);
};

/* The rows of the list; a row is COLUMNS strings. */
struct listing {
	char **cells;
	size_t count;
	json_t *objects; /* NULL: cells are wanted */
};

enum {
	COLUMNS = 6
};

static const char *const headings[COLUMNS] = { "PRESENT", "", "OF", "ON DISK", "LAST USED",
	"SOURCE" };

static int add_cell(struct listing *l, const char *text)
{
	char **cells = reallocarray(l->cells, l->count + 1, sizeof(*cells));

	if (!cells) {
		return -ENOMEM;
	}
	l->cells = cells;
	cells[l->count] = strdup(text);
	return cells[l->count++] ? 0 : -ENOMEM;
}

static int add_row(struct listing *l, const struct cache_entry *x)
{
	CLEANUP_FREE char *source = NULL;
	char t[COLUMNS - 1][RENDER_MAX];
	int r = 0;

	render_size(x->present, t[0]);
	render_percent(x->present, x->size, t[1]);
	render_size(x->size, t[2]);
	render_size(x->disk_used, t[3]);
	render_time(x->last_used, t[4]);
	if (asprintf(&source, "%s%s%s", x->key, x->in_use ? " (in use)" : "",
		    x->corrupt ? " (damaged)" : "") < 0) {
		source = NULL;
		return -ENOMEM;
	}
	for (int i = 0; r == 0 && i < COLUMNS - 1; i++) {
		r = add_cell(l, t[i]);
	}
	return r < 0 ? r : add_cell(l, source);
}

static int add_entry(void *ctx, const struct cache_entry *x)
{
	struct listing *l = ctx;

	if (image_records_is_one(x->key)) {
		return 0;
	}
	if (!l->objects) {
		return add_row(l, x);
	}
	return json_array_append_new(l->objects,
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:b}", "key", json_text(x->key),
			"id", json_text(x->id), "size", json_u64(x->size), "present_bytes",
			json_u64(x->present), "disk_used_bytes", json_u64(x->disk_used),
			"last_used", (json_int_t)x->last_used, "in_use", x->in_use, "corrupt",
			x->corrupt));
}

static void print_rows(const struct listing *l)
{
	if (l->count > COLUMNS) {
		render_table(
			stdout, (const char *const *)l->cells, l->count / COLUMNS, COLUMNS, 0xf);
	}
}

static int list(struct cache *c, const struct options *o, struct err *e)
{
	struct listing l = { .objects = o->json ? json_array() : NULL };
	int r = 0;

	for (int i = 0; r == 0 && i < COLUMNS; i++) {
		r = add_cell(&l, headings[i]);
	}
	if (r == 0) {
		r = cache_list(c, add_entry, &l, e);
	} else {
		r = err_set(e, r, "out of memory");
	}
	if (r == 0 && o->json) {
		json_print(l.objects, stdout);
	} else {
		json_decref(l.objects);
	}
	if (r == 0 && !o->json) {
		print_rows(&l);
	}
	for (size_t i = 0; i < l.count; i++) {
		free(l.cells[i]);
	}
	free(l.cells);
	return r;
}

/* An object whose source cannot be told any more goes by the name that the list shows. */
static int drop(struct cache *c, const struct options *o, struct err *e)
{
	const char *source = o->args[1];
	CLEANUP_FREE char *key = NULL;
	int r = 0;

	if (source_is_remote(source) && source_is_image(source)) {
		return cache_image_drop(c, source, e);
	}
	if (source_is_remote(source)) {
		r = source_key(source, &key, e);
	}
	if (r == 0) {
		r = cache_drop(c, key ? key : source, e);
	}
	return r;
}

static int prune(struct cache *c, const struct options *o, struct err *e)
{
	uint64_t freed = 0;
	char text[RENDER_MAX];
	int r = cache_prune(c, o->max_size, &freed, e);

	if (r < 0) {
		return r;
	}
	if (o->json) {
		json_print(json_pack("{s:o}", "freed_bytes", json_u64(freed)), stdout);
	} else {
		printf("freed %s\n", render_size(freed, text));
	}
	return 0;
}

static int verify(struct cache *c, const struct options *o, struct err *e)
{
	struct cache_verify_result v = { 0 };
	char a[RENDER_MAX];
	char b[RENDER_MAX];
	char d[RENDER_MAX];
	int r = cache_verify(c, &v, e);

	if (r < 0) {
		return r;
	}
	if (o->json) {
		json_print(json_pack("{s:o, s:o, s:o, s:o}", "objects", json_u64(v.objects),
				   "checked_bytes", json_u64(v.granules * CACHE_GRANULE),
				   "bad_bytes", json_u64(v.bad * CACHE_GRANULE), "leaked_bytes",
				   json_u64(v.leaked)),
			stdout);
	} else {
		printf("%" PRIu64 " %s, %s checked, %s damaged and dropped, %s freed\n", v.objects,
			v.objects == 1 ? "image" : "images",
			render_size(v.granules * CACHE_GRANULE, a),
			render_size(v.bad * CACHE_GRANULE, b), render_size(v.leaked, d));
	}
	return v.bad > 0 ? EXITCODE_MISMATCH : 0;
}

static const struct action actions[] = {
	{ "list", 0, list },
	{ "drop", 1, drop },
	{ "prune", 0, prune },
	{ "verify", 0, verify },
};

static int choose(const struct options *o, const struct action **ret, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *a = &actions[i];

		if (strcmp(a->name, o->args[0]) != 0) {
			continue;
		}
		if (o->arg_count - 1 != a->args) {
			return err_set(e, -EINVAL, "usage: lazydisk cache %s%s", a->name,
				a->args ? " SOURCE" : "");
		}
		if ((a->run == prune) != o->max_size_given) {
			return err_set(e, -EINVAL,
				a->run == prune ? "cache prune needs --max-size"
						: "--max-size is for cache prune only");
		}
		*ret = a;
		return 0;
	}
	return err_set(e, -EINVAL, "'%s' is none of list, drop, prune, verify", o->args[0]);
}

/* A cache that was never made is empty, and is not made by looking for it. */
static int open_cache(const struct options *o, struct cache **ret, struct err *e)
{
	struct cache_opts opts = { .existing = true };
	CLEANUP_FREE char *dir = NULL;
	int r = stack_cache_dir(o, &dir, e);

	if (r < 0) {
		return r;
	}
	opts.dir = dir;
	r = cache_open(&opts, ret, e);
	if (r == -ENOENT && !o->cache_dir) {
		opts.dir = NULL;
		r = cache_open(&opts, ret, e);
	}
	return r;
}

int cache_run(const struct options *o)
{
	const struct action *action = NULL;
	struct cache *cache = NULL;
	struct err e;
	int r = choose(o, &action, &e);

	if (r < 0) {
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	r = open_cache(o, &cache, &e);
	if (r == 0) {
		r = action->run(cache, o, &e);
	}
	cache_close(cache);
	return r < 0 ? exitcode_report(&e, EXITCODE_FAILED) : r;
}
