/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk overlay`: what was written over an image, looked at or merged with it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cache/overlay.h"
#include "core/bytes.h"
#include "tools/copy.h"
#include "tools/copy_verb.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/render.h"
#include "tools/verb.h"

static void print_line(const char *label, const char *value)
{
	printf("  %-10s ", label);
	render_text(stdout, value);
	putchar('\n');
}

static void print_size(const char *label, uint64_t part, uint64_t all)
{
	char a[RENDER_MAX];
	char b[RENDER_MAX];

	printf("  %-10s %s (%s)\n", label, render_size(part, a), render_percent(part, all, b));
}

static void print_info(const char *path, const struct overlay_info *x)
{
	char t[RENDER_MAX];

	render_text(stdout, path);
	puts(x->in_use ? " (in use)" : "");
	print_line("source", x->source);
	print_line("base", x->id);
	print_line("uuid", x->uuid);
	print_line("made", render_time(x->created, t));
	printf("  %-10s %s (%" PRIu64 " bytes)\n", "size", render_size(x->size, t), x->size);
	print_size("written", x->present, x->size);
	print_size("zeroed", x->zero, x->size);
	printf("  %-10s %s\n", "on disk", render_size(x->disk_used, t));
}

static void print_json(const char *path, const struct overlay_info *x)
{
	json_print(
		json_pack("{s:o, s:o, s:o, s:s, s:I, s:b, s:o, s:o, s:o, s:o}", "file",
			json_text(path), "source", json_text(x->source), "base", json_text(x->id),
			"uuid", x->uuid, "created", (json_int_t)x->created, "in_use", x->in_use,
			"size", json_u64(x->size), "present_bytes", json_u64(x->present),
			"zero_bytes", json_u64(x->zero), "disk_used_bytes", json_u64(x->disk_used)),
		stdout);
}

static int info(const struct options *o)
{
	struct overlay_info x;
	struct err e;
	int r = overlay_info_read(o->args[1], &x, &e);

	if (r < 0) {
		return exitcode_report(&e, exitcode_of_overlay(r));
	}
	if (o->json) {
		print_json(o->args[1], &x);
	} else {
		print_info(o->args[1], &x);
	}
	overlay_info_clear(&x);
	return EXITCODE_OK;
}

/* The source as the overlay remembers it; how to reach it is for the command line to say. */
static int run_commit(struct copy_job *job)
{
	struct copy_result result;
	struct overlay_info x;
	struct err e;
	int r = overlay_info_read(job->overlay, &x, &e);

	if (r == 0 && x.in_use) {
		r = err_set(&e, -EBUSY, "the overlay %s is in use: unmount it first", job->overlay);
		overlay_info_clear(&x);
	}
	if (r < 0) {
		return exitcode_report(&e, exitcode_of_overlay(r));
	}
	job->source = x.source;
	r = copy_run(job, &result, &e);
	if (r < 0) {
		exitcode_report(&e, result.exitcode);
	} else {
		copy_verb_summarise(job, &result);
	}
	overlay_info_clear(&x);
	return (int)result.exitcode;
}

static int commit(const struct options *o)
{
	struct options own = *o;
	struct copy_job job = { 0 };
	struct err e;

	own.check_digests = true;
	if (copy_verb_job(&own, &job, &e) < 0) {
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	job.overlay = o->args[1];
	job.target = o->args[2];
	return run_commit(&job);
}

static const struct action {
	const char *name;
	int args; /* all of them */
	const char *usage;
	int (*run)(const struct options *o);
} actions[] = {
	{ "info", 2, "info FILE", info },
	{ "commit", 3, "commit [options] FILE TARGET", commit },
};

int overlay_run(const struct options *o)
{
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *a = &actions[i];

		if (strcmp(a->name, o->args[0]) != 0) {
			continue;
		}
		if (o->arg_count == a->args) {
			return a->run(o);
		}
		err_set(&e, -EINVAL, "usage: lazydisk overlay %s", a->usage);
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	err_set(&e, -EINVAL, "'%s' is none of info, commit", o->args[0]);
	return exitcode_report(&e, EXITCODE_USAGE);
}
