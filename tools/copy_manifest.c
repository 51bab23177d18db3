/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills volumes as manifests describe them. A volume is DIR/NAMESPACE/NAME/disk.img, or with
 * volumeMode Block the device of the PersistentVolume that serves it. One that is complete (see
 * copy_marker.h) is left alone, so that the same command may be given again.
 */
#include "tools/copy_manifest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "tools/copy_marker.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/manifest.h"
#include "tools/manifest_pv.h"
#include "tools/manifest_resolve.h"
#include "tools/manifest_stack.h"
#include "tools/quantity.h"
#include "tools/render.h"

/* One DataVolume. */
struct fill {
	const struct manifest_object *object;
	struct manifest_spec spec;
	char *dir; /* DIR/NAMESPACE/NAME */
	struct copy_marker marker;
	bool complete;
	const struct manifest_pv *pv; /* of a block volume */
	int failed;                   /* with volumes and manifests: why it cannot be filled */
	struct err why;
};

struct filler {
	const struct options *o;
	const struct copy_job *job;
	struct manifest manifest;
	struct manifest_pvs pvs;
	struct fill *fills;
	size_t count;
};

/* Where the bytes of one volume come from and go to. */
struct route {
	char *source;
	char *shown; /* the source, without credentials */
	char *target;
	int blank; /* an empty file in memory, or -1 */
	struct manifest_access access;
	struct stack_access stack;
};

static void route_clear(struct route *r)
{
	free(r->source);
	free(r->shown);
	free(r->target);
	if (r->blank >= 0) {
		close(r->blank);
	}
	manifest_access_clear(&r->access);
}

static void filler_clear(struct filler *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->fills[i].dir);
		copy_marker_clear(&f->fills[i].marker);
	}
	free(f->fills);
	manifest_pvs_clear(&f->pvs);
	manifest_clear(&f->manifest);
}

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static char *volume_dir(const struct filler *f, const char *ns, const char *name)
{
	char *dir = NULL;

	return asprintf(&dir, "%s/%s/%s", f->o->volumes, ns, name) < 0 ? NULL : dir;
}

static char *in_dir(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static int make_dirs(const struct fill *fill, struct err *e)
{
	char *slash = strrchr(fill->dir, '/');
	int r;

	*slash = '\0';
	r = mkdir(fill->dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
	if (r < 0) {
		err_sys(e, r, "cannot make %s", fill->dir);
	}
	*slash = '/';
	if (r == 0 && mkdir(fill->dir, 0755) < 0 && errno != EEXIST) {
		r = err_sys(e, errno, "cannot make %s", fill->dir);
	}
	return r;
}

/* What is wrong with one volume is kept until its turn: the others are filled all the same. */
static int read_fill(struct filler *f, const struct manifest_object *object, struct err *e)
{
	struct fill *fill = &f->fills[f->count++];
	int r;

	*fill = (struct fill){ .object = object };
	fill->dir = volume_dir(f, object->ns, object->name);
	if (!fill->dir) {
		return out_of_memory(e);
	}
	fill->failed = manifest_spec_read(object, &fill->spec, &fill->why);
	r = copy_marker_load(fill->dir, &fill->marker, e);
	fill->complete = r == 0;
	return r == -ENOENT ? 0 : r;
}

static bool wants_pv(const struct fill *fill)
{
	return fill->failed == 0 && fill->spec.claim.block && !fill->pv;
}

/* Who names a PersistentVolume, then who had one, then who takes any. */
static void choose_pvs(struct filler *f)
{
	for (size_t i = 0; i < f->count; i++) {
		struct fill *fill = &f->fills[i];

		if (wants_pv(fill)) {
			fill->failed = manifest_pvs_reserve(
				&f->pvs, fill->object, &fill->spec.claim, &fill->pv, &fill->why);
		}
	}
	for (size_t i = 0; i < f->count; i++) {
		struct fill *fill = &f->fills[i];

		if (wants_pv(fill) && fill->complete) {
			manifest_pvs_keep(&f->pvs, fill->object, &fill->spec.claim, fill->marker.pv,
				&fill->pv);
		}
	}
	for (size_t i = 0; i < f->count; i++) {
		struct fill *fill = &f->fills[i];

		if (wants_pv(fill)) {
			fill->failed = manifest_pvs_match(
				&f->pvs, fill->object, &fill->spec.claim, &fill->pv, &fill->why);
		}
	}
}

static int read_all(struct filler *f, struct err *e)
{
	int r = manifest_load(f->o->manifests, f->o->manifest_count, &f->manifest, e);

	if (r == 0) {
		r = manifest_pvs_load(&f->manifest, &f->pvs, e);
	}
	if (r < 0) {
		return r;
	}
	f->fills = calloc(f->manifest.count + 1, sizeof(*f->fills));
	if (!f->fills) {
		return out_of_memory(e);
	}
	for (size_t i = 0; r == 0 && i < f->manifest.count; i++) {
		if (f->manifest.objects[i].kind == MANIFEST_DATA_VOLUME) {
			r = read_fill(f, &f->manifest.objects[i], e);
		}
	}
	if (r == 0 && f->count == 0) {
		r = err_set(e, -EINVAL, "there is no DataVolume in the manifests");
	}
	if (r == 0) {
		choose_pvs(f);
	}
	return r;
}

static const struct fill *find_fill(const struct filler *f, const char *ns, const char *name)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct manifest_object *o = f->fills[i].object;

		if (strcmp(o->ns, ns) == 0 && strcmp(o->name, name) == 0) {
			return &f->fills[i];
		}
	}
	return NULL;
}

/* Another volume: one of the manifests (complete by now), a PersistentVolume's, or one that is
 * there.
 */
static int route_clone(
	const struct filler *f, const struct fill *fill, struct route *ret, struct err *e)
{
	const char *ns = fill->spec.clone_ns;
	const char *name = fill->spec.clone_name;
	const struct fill *other = find_fill(f, ns, name);
	const struct manifest_pv *pv = manifest_pvs_find(&f->pvs, &f->manifest, ns, name);
	CLEANUP_FREE char *dir = volume_dir(f, ns, name);

	if (other == fill || (other && !other->complete)) {
		return manifest_error(e, other == fill ? -EINVAL : -ENOENT, fill->object,
			fill->spec.source_node, "spec.source.pvc", "%s/%s %s", ns, name,
			other == fill ? "cannot be a clone of itself" : "has not been filled");
	}
	if (!dir || asprintf(&ret->shown, "pvc %s/%s", ns, name) < 0) {
		ret->shown = NULL;
		return out_of_memory(e);
	}
	if (!pv) {
		ret->source = in_dir(dir, "disk.img");
	} else if (!pv->path) {
		return manifest_error(e, -ENOENT, fill->object, fill->spec.source_node,
			"spec.source.pvc", "%s/%s is on PersistentVolume %s, which has no path", ns,
			name, pv->object->name);
	} else {
		ret->source = pv->block ? strdup(pv->path) : in_dir(pv->path, "disk.img");
	}
	ret->stack.format = "raw";
	return ret->source ? 0 : out_of_memory(e);
}

/* A file of holes, in memory: nothing is in it, and it takes no space. */
static int route_blank(const struct fill *fill, struct route *ret, struct err *e)
{
	ret->blank = memfd_create("blank", MFD_CLOEXEC);
	if (ret->blank < 0 || ftruncate(ret->blank, (off_t)fill->spec.claim.size) < 0) {
		return err_sys(e, errno, "cannot make an empty disk");
	}
	ret->shown = strdup("blank");
	ret->stack.format = "raw";
	return !ret->shown || asprintf(&ret->source, "/proc/self/fd/%d", ret->blank) < 0
		       ? out_of_memory(e)
		       : 0;
}

/* The options, with the checksum that the volume alone has. What they point to is borrowed. */
static struct options with_checksum(const struct filler *f, const struct fill *fill)
{
	struct options own = *f->o;

	own.checksum = NULL;
	if (fill->spec.checksum && *fill->spec.checksum) {
		own.checksum = (char *)(uintptr_t)fill->spec.checksum;
	}
	return own;
}

static int route_remote(
	const struct filler *f, const struct fill *fill, struct route *ret, struct err *e)
{
	struct options own = with_checksum(f, fill);
	struct err why = { 0 };
	int r = stack_check(&own, &why);

	if (r < 0) {
		return manifest_error(e, -EINVAL, fill->object, fill->spec.source_node,
			"spec.source.http.checksum", "%s", why.text);
	}
	r = manifest_resolve(&f->manifest, fill->object, &fill->spec, &ret->access, e);
	if (r < 0) {
		return r;
	}
	assert(fill->spec.url);
	ret->source = strdup(fill->spec.url);
	ret->shown = stack_display(fill->spec.url);
	ret->stack = manifest_stack_access(&fill->spec, &ret->access);
	if (!ret->source) {
		return out_of_memory(e);
	}
	return ret->shown ? 0
			  : manifest_error(e, -EINVAL, fill->object, fill->spec.source_node, NULL,
				    "spec.source.%s.url: is not usable", fill->spec.source_name);
}

static int find_source(
	const struct filler *f, const struct fill *fill, struct route *ret, struct err *e)
{
	switch (fill->spec.source) {
	case MANIFEST_SOURCE_HTTP:
	case MANIFEST_SOURCE_REGISTRY:
		return route_remote(f, fill, ret, e);
	case MANIFEST_SOURCE_PVC:
		return route_clone(f, fill, ret, e);
	case MANIFEST_SOURCE_BLANK:
		break;
	}
	return route_blank(fill, ret, e);
}

/* Nothing but a block device is written to because a PersistentVolume says so. */
static int find_target(const struct fill *fill, struct route *ret, struct err *e)
{
	struct stat st;

	if (!fill->pv) {
		ret->target = in_dir(fill->dir, "disk.img");
		return ret->target ? 0 : out_of_memory(e);
	}
	if (stat(fill->pv->path, &st) < 0) {
		return err_sys(e, errno, "%s:%u: PersistentVolume %s: %s", fill->pv->object->file,
			fill->pv->object->line, fill->pv->object->name, fill->pv->path);
	}
	if (!S_ISBLK(st.st_mode)) {
		return manifest_error(e, -ENOTBLK, fill->pv->object, NULL, "spec.local.path",
			"%s is not a block device", fill->pv->path);
	}
	ret->target = strdup(fill->pv->path);
	return ret->target ? 0 : out_of_memory(e);
}

/* 1: the volume is complete, and is what is asked for. */
static int check_marker(
	const struct filler *f, const struct fill *fill, const struct route *route, struct err *e)
{
	const struct copy_marker *m = &fill->marker;

	assert(route->shown);
	if (!fill->complete || f->job->force ||
		(!fill->pv && access(route->target, F_OK) < 0 && errno == ENOENT)) {
		return 0;
	}
	if (strcmp(m->pv, fill->pv ? fill->pv->object->name : "") != 0) {
		return err_set(e, -EEXIST,
			"it was filled already, %s%s; give --force to fill it anew, elsewhere",
			*m->pv ? "on PersistentVolume " : "as a file", m->pv);
	}
	if (strcmp(m->source, route->shown) != 0 || m->size != fill->spec.claim.size) {
		char size[QUANTITY_MAX];

		return err_set(e, -EEXIST,
			"it was filled already, with %s for %s; give --force to replace that",
			m->source, quantity_format(m->size, size));
	}
	return 1;
}

static enum sink_prealloc preallocation(const struct filler *f, const struct fill *fill)
{
	switch (fill->spec.preallocation) {
	case MANIFEST_YES:
		return SINK_PREALLOC_FALLOC;
	case MANIFEST_NO:
		return SINK_PREALLOC_OFF;
	case MANIFEST_UNSET:
		break;
	}
	return f->job->preallocation;
}

/* The disk is in place; now it says so. A file is made as CDI makes it: for the group, too. */
static int complete(struct fill *fill, const struct route *route, struct err *e)
{
	struct copy_marker marker = {
		.source = route->shown,
		.pv = (char *)(uintptr_t)(fill->pv ? fill->pv->object->name : ""),
		.size = fill->spec.claim.size,
	};
	int r;

	if (!fill->pv && chmod(route->target, 0660) < 0) {
		return err_sys(e, errno, "cannot change the mode of %s", route->target);
	}
	r = copy_marker_save(fill->dir, &marker, e);
	fill->complete = r == 0;
	return r;
}

static int copy_one(const struct filler *f, struct fill *fill, const struct route *route,
	struct copy_result *result, struct err *e)
{
	struct options own = with_checksum(f, fill);
	struct copy_job job = *f->job;
	int r;

	job.options = &own;
	job.source = route->source;
	job.access = &route->stack;
	job.target = route->target;
	job.size = fill->spec.claim.size;
	job.preallocation = preallocation(f, fill);
	result->exitcode = EXITCODE_TARGET;
	r = make_dirs(fill, e);
	if (r == 0 && fill->complete) {
		r = copy_marker_remove(fill->dir, e);
		fill->complete = r < 0;
	}
	if (r == 0) {
		r = copy_run(&job, result, e);
	}
	if (r == 0) {
		r = complete(fill, route, e);
		result->exitcode = r < 0 ? EXITCODE_TARGET : EXITCODE_OK;
	}
	return r;
}

/* "filled", "complete" (before already) or "failed". */
static void tell(const struct filler *f, const struct fill *fill, const struct route *route,
	const char *state, const struct copy_result *result)
{
	const struct manifest_object *o = fill->object;
	char a[RENDER_MAX];
	char b[RENDER_MAX];

	if (f->job->progress == PROGRESS_JSON) {
		json_t *root = json_pack("{s:o, s:o, s:o, s:s, s:i}", "namespace", json_text(o->ns),
			"volume", json_text(o->name), "target",
			route->target ? json_text(route->target) : json_null(), "state", state,
			"exitcode", (int)result->exitcode);
		CLEANUP_FREE char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

		json_decref(root);
		printf("%s\n", text ? text : "{}");
		fflush(stdout);
	} else if (f->job->progress == PROGRESS_NONE || result->exitcode != EXITCODE_OK) {
		return;
	} else if (strcmp(state, "filled") == 0) {
		fprintf(stderr, "%s/%s: filled %s: %s fetched, %s written, in %.1f s\n", o->ns,
			o->name, route->target, render_size(result->fetched, a),
			render_size(result->written, b), result->seconds);
	} else {
		fprintf(stderr, "%s/%s: complete already: %s\n", o->ns, o->name, route->target);
	}
}

static enum exitcode exitcode_of_manifest(int code)
{
	return code == -ENOMEM    ? EXITCODE_FAILED
	       : code == -ENOTSUP ? EXITCODE_IMAGE
	       : code == -ENOENT  ? EXITCODE_SOURCE
				  : EXITCODE_USAGE;
}

/* Up to where the copier takes over. 1: there is nothing to do. */
static int prepare(const struct filler *f, struct fill *fill, struct route *route,
	enum exitcode *ret_exit, struct err *e)
{
	int r = fill->failed;

	if (r < 0) {
		*e = fill->why;
	} else {
		r = find_source(f, fill, route, e);
	}
	*ret_exit = exitcode_of_manifest(r);
	if (r == 0) {
		r = find_target(fill, route, e);
		if (r == 0) {
			r = check_marker(f, fill, route, e);
		}
		*ret_exit = EXITCODE_TARGET;
	}
	return r;
}

/* Returns 0, or the error with which the volume failed. */
static int fill_one(const struct filler *f, struct fill *fill, enum exitcode *ret_exit)
{
	struct route route = { .blank = -1 };
	struct copy_result result = { 0 };
	struct err e;
	int r;

	assert(fill->object);
	r = prepare(f, fill, &route, &result.exitcode, &e);
	if (r > 0) {
		result.exitcode = EXITCODE_OK;
		tell(f, fill, &route, "complete", &result);
	} else if (r == 0) {
		r = copy_one(f, fill, &route, &result, &e);
	}
	if (r < 0) {
		err_wrap(&e, r, "%s/%s", fill->object->ns, fill->object->name);
		exitcode_report(&e, result.exitcode);
		tell(f, fill, &route, "failed", &result);
	} else if (r == 0) {
		tell(f, fill, &route, "filled", &result);
	}
	*ret_exit = result.exitcode;
	route_clear(&route);
	return r < 0 ? r : 0;
}

/* It is not made: where a filesystem should have been mounted, its disk would fill another one. */
static int check_volumes(const char *dir, struct err *e)
{
	struct stat st;

	if (stat(dir, &st) < 0) {
		return errno == ENOENT
			       ? err_set(e, -ENOENT,
					 "--volumes %s: there is no such directory; mount what "
					 "it is to be on, or make it with: mkdir -p %s",
					 dir, dir)
			       : err_sys(e, errno, "--volumes %s", dir);
	}
	return S_ISDIR(st.st_mode)
		       ? 0
		       : err_set(e, -ENOTDIR,
				 "--volumes %s: this is no directory; give the one that "
				 "the volumes are in",
				 dir);
}

int copy_manifest_run(const struct options *o, const struct copy_job *job)
{
	struct filler f = { .o = o, .job = job };
	enum exitcode first = EXITCODE_OK;
	struct err e;
	int r = read_all(&f, &e);

	if (r < 0) {
		first = (enum exitcode)exitcode_report(
			&e, r == -EBADMSG ? EXITCODE_TARGET : exitcode_of_manifest(-EINVAL));
		filler_clear(&f);
		return first;
	}
	if (check_volumes(o->volumes, &e) < 0) {
		filler_clear(&f);
		return exitcode_report(&e, EXITCODE_TARGET);
	}
	for (size_t i = 0; r != -ECANCELED && i < f.count; i++) {
		enum exitcode code = EXITCODE_OK;

		r = fill_one(&f, &f.fills[i], &code);
		first = first == EXITCODE_OK ? code : first;
	}
	filler_clear(&f);
	return first;
}
