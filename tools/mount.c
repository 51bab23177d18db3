/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk mount`: opens the images, shows them as files, serves them until told to stop. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/report.h"
#include "fusefs/fusefs.h"
#include "sources/source.h"
#include "tools/daemonize.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/mount_manifest.h"
#include "tools/mount_names.h"
#include "tools/mountpoint.h"
#include "tools/options.h"
#include "tools/stack.h"
#include "tools/verb.h"

struct mount {
	const struct options *o;
	struct mount_manifest manifest; /* with -f */
	char **sources;
	size_t count;          /* of sources */
	char *mountpoint;      /* absolute */
	char **files;          /* names, one a source */
	struct stack **stacks; /* one a source; NULL while not open */
	struct stack_env *env;
	struct fusefs *fs;
	struct timespec since;
	struct daemonize background;
};

/* What is local has no validator. */
static const char *const local_xattrs[] = { "url", "format", "present", "size", NULL };
static const char *const remote_xattrs[] = { "url", "format", "present", "size", "validator",
	NULL };

/* The files go before the images under them, the images before what they share. */
static void mount_clear(struct mount *m)
{
	fusefs_free(m->fs);
	for (size_t i = 0; m->stacks && i < m->count; i++) {
		stack_close(m->stacks[i]);
	}
	free(m->stacks);
	stack_env_close(m->env);
	mount_names_free(m->files, m->count);
	mount_manifest_clear(&m->manifest);
	free(m->mountpoint);
}

static char *report_value(struct image *image, const char *layer, const char *key)
{
	CLEANUP(report_clear) struct report r = REPORT_INIT;
	const struct report_item *item;
	char *text = NULL;

	image_report(image, &r);
	item = report_find(&r, layer, key);
	if (item && item->kind == REPORT_TEXT) {
		return strdup(item->text);
	}
	return item && asprintf(&text, "%" PRIu64, item->number) >= 0 ? text : NULL;
}

/* "final", or "provisional" with what is known by now. */
static char *size_value(struct image *image)
{
	uint64_t real;
	char *text = NULL;

	if (!(image->flags & IMAGE_SIZE_PROVISIONAL)) {
		return strdup("final");
	}
	if (image_final_size(image, &real) < 0) {
		return strdup("provisional");
	}
	if (real == image->size) {
		return strdup("final");
	}
	return asprintf(&text, "wrong: it is %" PRIu64 "; mount again", real) < 0 ? NULL : text;
}

/* A guard shows what is below it. */
static const char *format_name(const struct image *disk)
{
	while (disk->below && strcmp(disk->ops->name, "guard") == 0) {
		disk = disk->below;
	}
	return disk->ops->name;
}

/* user.lazydisk.*; all of what is local is present. */
static int volume_xattr(void *ctx, const char *attr, char **ret)
{
	struct stack *stack = ctx;
	char *value = NULL;

	if (strcmp(attr, "url") == 0) {
		value = strdup(stack->source);
	} else if (strcmp(attr, "format") == 0) {
		value = strdup(format_name(stack->disk));
	} else if (strcmp(attr, "validator") == 0) {
		value = report_value(stack->image, NULL, "validator");
	} else if (strcmp(attr, "size") == 0) {
		value = size_value(stack->image);
	} else if (strcmp(attr, "present") == 0) {
		value = report_value(stack->image, "cache", "present_bytes");
		if (!value && asprintf(&value, "%" PRIu64, stack->image->size) < 0) {
			value = NULL;
		}
	}
	if (!value) {
		return -ENODATA;
	}
	*ret = value;
	return 0;
}

static uint64_t uptime(const struct mount *m)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)(now.tv_sec - m->since.tv_sec);
}

/* The text of .lazydisk/status. */
static int mount_status(void *ctx, char **ret, size_t *ret_len)
{
	struct mount *m = ctx;
	json_t *images = json_array();
	json_t *root = json_pack("{s:i, s:i, s:o, s:o, s:o}", "version", 1, "pid", (int)getpid(),
		"mountpoint", json_text(m->mountpoint), "uptime_s", json_u64(uptime(m)), "images",
		images);
	CLEANUP_FREE char *text = NULL;

	for (size_t i = 0; root && i < m->count; i++) {
		json_array_append_new(
			images, json_image(m->stacks[i]->image, m->files[i], m->stacks[i]->source));
	}
	text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	if (!text || asprintf(ret, "%s\n", text) < 0) {
		return -ENOMEM;
	}
	*ret_len = strlen(*ret);
	return 0;
}

static int open_images(struct mount *m, struct err *e)
{
	m->stacks = calloc(m->count, sizeof(*m->stacks));
	if (!m->stacks) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < m->count; i++) {
		const struct stack_access *access =
			m->manifest.count ? &m->manifest.stack[i] : NULL;
		int r = stack_open_as(m->env, m->sources[i], access, &m->stacks[i], e);

		if (r < 0) {
			return r;
		}
		stack_warn_of_given_size(m->stacks[i]);
		if (!m->o->content_size_given) {
			stack_warn_of_size(m->stacks[i]);
		}
		stack_warn_of_age(m->stacks[i]);
	}
	return 0;
}

/* The one of the @i-th source, or NULL: one for each, or a temporary one for all. */
static const char *overlay_of(const struct options *o, size_t i)
{
	return o->overlay_count ? o->overlays[o->overlay_count == 1 ? 0 : i] : NULL;
}

static int check_overlays(const struct mount *m, struct err *e)
{
	size_t n = m->o->overlay_count;

	if (n == 0 || (n == 1 && strcmp(m->o->overlays[0], OPTIONS_TEMPORARY) == 0)) {
		return 0;
	}
	if (m->o->manifest_count) {
		return err_set(e, -EINVAL,
			"with -f, --overlay takes :temp: only, which is for all volumes");
	}
	if (n != m->count) {
		return err_set(e, -EINVAL,
			"--overlay is given %zu time%s for %zu source%s: give one for each, or "
			":temp: once for all",
			n, n == 1 ? "" : "s", m->count, m->count == 1 ? "" : "s");
	}
	return 0;
}

static int add_overlays(struct mount *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && m->o->overlay_count && i < m->count; i++) {
		r = stack_add_overlay(m->env, m->stacks[i], overlay_of(m->o, i), false, e);
	}
	return r;
}

static int make_filesystem(struct mount *m, struct err *e)
{
	CLEANUP_FREE struct fusefs_volume *volumes = calloc(m->count, sizeof(*volumes));
	struct fusefs_opts opts = {
		.mountpoint = m->mountpoint,
		.fsname = m->count == 1 ? m->stacks[0]->source : "lazydisk",
		.allow_other = m->o->allow_other,
		.status = mount_status,
		.ctx = m,
	};

	if (!volumes) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < m->count; i++) {
		volumes[i] = (struct fusefs_volume){
			.name = m->files[i],
			.image = m->stacks[i]->image,
			.xattr = volume_xattr,
			.xattrs = m->stacks[i]->local ? local_xattrs : remote_xattrs,
			.ctx = m->stacks[i],
		};
	}
	return fusefs_new(&opts, volumes, m->count, &m->fs, e);
}

/* Between the mount and fusefs_serve(), which catches them, a signal would kill us and leave a dead
 * mount behind: it has to wait. */
static void hold_signals(bool hold)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGHUP);
	pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &stop, NULL);
}

/* On the thread that called fusefs_serve(). */
static void ready(void *ctx)
{
	struct mount *m = ctx;

	hold_signals(false);
	daemonize_ready(&m->background);
}

/* From here on there may be threads. */
static int serve(struct mount *m)
{
	struct err e;
	int r = open_images(m, &e);

	if (r < 0) {
		return exitcode_report(&e, exitcode_of_source(r));
	}
	r = add_overlays(m, &e);
	if (r < 0) {
		return exitcode_report(&e, exitcode_of_overlay(r));
	}
	r = make_filesystem(m, &e);
	if (r == 0) {
		hold_signals(true);
		r = fusefs_mount(m->fs, &e);
	}
	if (r < 0) {
		return exitcode_report(&e, exitcode_of_mountpoint(r));
	}
	r = fusefs_serve(m->fs, ready, m, &e);
	if (r == -EBUSY) {
		/* Threads are still within the images: those cannot be closed. */
		_exit(exitcode_report(&e, EXITCODE_FAILED));
	}
	return r < 0 ? exitcode_report(&e, EXITCODE_FAILED) : EXITCODE_OK;
}

/* What is said of one image, and makes no sense for others. */
static int check_one_source(const struct mount *m, struct err *e)
{
	const struct options *o = m->o;
	const char *option = o->trace ? "--trace" : o->checksum ? "--checksum" : NULL;

	if (option && m->count != 1) {
		return err_set(
			e, -EINVAL, "%s is about one SOURCE, and there are %zu", option, m->count);
	}
	if (o->checksum && !source_is_remote(m->sources[0])) {
		return err_set(e, -EINVAL,
			"--checksum: mount does not verify a local file: sha256sum and its like do");
	}
	return 0;
}

/* Credentials are those of the Secrets: one password is not sent to all servers. */
static int name_sources(struct mount *m, struct err *e)
{
	const struct options *o = m->o;
	int r;

	if (!o->manifest_count) {
		m->sources = o->args;
		m->count = (size_t)o->arg_count - 1;
		r = check_one_source(m, e);
		return r < 0 ? r
			     : mount_names_make(
				       m->sources, m->count, o->names, o->name_count, &m->files, e);
	}
	if (o->user || o->secret || o->header_file || o->format || o->member || o->name_count ||
		o->trace || o->checksum) {
		return err_set(e, -EINVAL,
			"--user, --secret, --header-file, --format, --member, --checksum, --trace "
			"and --name cannot be given with -f: the manifests say it for each volume");
	}
	r = mount_manifest_load(o, &m->manifest, e);
	if (r < 0) {
		return r;
	}
	m->sources = m->manifest.sources;
	m->count = m->manifest.count;
	return mount_names_make(m->sources, m->count, m->manifest.names, m->count, &m->files, e);
}

/* What can be known to be wrong without asking anybody, so that it is told at once. */
static int prepare(struct mount *m, int *ret_exit, struct err *e)
{
	const struct options *o = m->o;
	int r = name_sources(m, e);

	*ret_exit = EXITCODE_USAGE;
	if (r == 0) {
		r = check_overlays(m, e);
	}
	if (r == 0) {
		r = mountpoint_check(o->args[o->arg_count - 1], &m->mountpoint, e);
		*ret_exit = EXITCODE_TARGET;
	}
	if (r == 0) {
		r = stack_env_open(o, &m->env, e);
		*ret_exit = EXITCODE_USAGE;
	}
	if (r == 0) {
		stack_env_serve(m->env);
	}
	if (r == 0 && !o->foreground) {
		r = daemonize_start(&m->background, ret_exit, e);
		*ret_exit = r < 0 ? EXITCODE_FAILED : *ret_exit;
	}
	return r;
}

int mount_run(const struct options *o)
{
	struct mount m = { .o = o, .background = { .pipe = -1 } };
	int code = EXITCODE_OK;
	struct err e;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &m.since);
	r = prepare(&m, &code, &e);
	if (r < 0) {
		exitcode_report(&e, (enum exitcode)code);
	} else if (r == 0) {
		code = serve(&m);
	}
	mount_clear(&m);
	return code;
}
