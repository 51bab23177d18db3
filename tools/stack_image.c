/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of registries and layouts: from the manifest to the disk in one of the layers.
 *
 *	raw, qcow2, ...		the disk
 *	tar, chunked		the file in the merged layers: formats/view.h
 *	[cache > gzip, zstd]	layers that are compressed as a whole
 *	digest, watch		is it what the digest says? Of what is handed out, wherever from
 *	[cache]			what came over the network, by digest
 *	blob			sources/source.h
 *
 * Blobs are cached by their digests: the same layer is the same, whatever image and registry it
 * comes from, once it was verified. Until then a digest is what a registry says, and its bytes are
 * for those who ask that registry, reached in that way: the object's id names it. Who finds an
 * object of another registry uses it when it is verified, else has one apart.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "tools/cache_image.h"
#include "tools/image_records.h"
#include "tools/stack_env.h"

#define TITLE      "org.opencontainers.image.title"
#define NAMES_ROOM 200U

struct opening {
	const struct asker *asker;
	struct source_image *image;
	const struct source_facts *facts;
	struct layer **layers; /* those that are open */
};

/* --- archives --- */

static int open_in_archive(
	void *ctx, const char *path, const char *member, struct image **ret, struct err *e)
{
	struct asker asker = *(const struct asker *)ctx;
	struct format_opts opts = { .keep = stack_keep, .ctx = &asker };
	CLEANUP(image_closep) struct image *file = NULL;
	struct image *unpacked = NULL;
	bool archive = false;
	int r = source_open(NULL, path, NULL, &file, e);

	asker.key = r == 0 ? strdup(file->id) : NULL;
	if (r == 0 && !asker.key) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0) {
		r = format_unpack(file, &opts, &unpacked, &archive, e);
	}
	free(asker.key);
	if (r < 0) {
		return r;
	}
	TAKE_PTR(file);
	file = unpacked;
	r = archive ? view_member_open(file, member, ret, e)
		    : err_set(e, -EBADMSG, "%s: it is no tar archive", path);
	if (r == 0) {
		TAKE_PTR(file);
	}
	return r;
}

/* --- layers --- */

static const char *annotation(void *ctx, const char *key)
{
	return source_blob_annotation(ctx, key);
}

/* Where a blob is kept. */
struct place {
	char *key; /* of the cache's object; owned */
	char *id;  /* of what is in it; owned */
	enum source_here here;
};

static void place_clear(struct place *p)
{
	free(p->key);
	free(p->id);
}

static void place_look(struct cache *cache, struct place *p)
{
	struct cache_known known = { NULL, 0 };

	p->here =
		cache_peek(cache, p->key, &known, NULL) == 0 ? SOURCE_HERE_SOME : SOURCE_HERE_NONE;
	free(known.id);
}

/* The cache's object at @p over layer @i. */
static int open_object(struct opening *o, size_t i, const struct place *p, struct image **ret,
	struct blobs **ret_blobs, struct err *e)
{
	CLEANUP(image_closep) struct image *blob = NULL;
	int r = source_image_blob_open(o->image, i, p->id, p->here, &blob, e);

	if (r == 0) {
		r = cache_image_open(o->asker->env->cache, p->key, blob, ret, e);
	}
	if (r == 0) {
		TAKE_PTR(blob);
		*ret_blobs = cache_image_blobs(*ret);
	}
	return r;
}

/* What came from another registry counts when all of it is here and verified, and stays. */
static bool open_shared(
	struct opening *o, size_t i, const char *id, struct image **ret, struct blobs **ret_blobs)
{
	const char *digest = o->facts->layers[i].digest;
	struct place p = { strdup(digest), strdup(id), SOURCE_HERE_ALL };
	struct image *image = NULL;
	bool good = p.key && p.id && open_object(o, i, &p, &image, ret_blobs, NULL) == 0;

	if (good) {
		cache_image_pin(image);
		good = source_verdict_recall(image, digest, *ret_blobs) == SOURCE_VERIFIED;
	}
	if (good) {
		*ret = image;
	} else {
		image_close(image);
	}
	place_clear(&p);
	return good;
}

static int open_own(struct opening *o, size_t i, struct place *p, struct image **ret,
	struct blobs **ret_blobs, struct err *e)
{
	struct cache *cache = o->asker->env->cache;
	int r;

	place_look(cache, p);
	r = open_object(o, i, p, ret, ret_blobs, e);
	if (r < 0 || source_verdict_recall(*ret, o->facts->layers[i].digest, *ret_blobs) !=
			     SOURCE_WRONG) {
		return r;
	}
	/* It was found to be something else: perhaps the registry is right again. */
	image_close(*ret);
	cache_image_drop_blob(cache, p->key, p->id);
	place_look(cache, p);
	return open_object(o, i, p, ret, ret_blobs, e);
}

/* Layer @i through the cache; *ret_key is that of the object. */
static int open_cached(struct opening *o, size_t i, struct image **ret, struct blobs **ret_blobs,
	char **ret_key, struct err *e)
{
	const struct source_blob *b = &o->facts->layers[i];
	struct cache_known known = { NULL, 0 };
	struct place p = { .key = strdup(b->digest) };
	bool other;
	int r = 0;

	/* The version last, where traces of boots look for it. */
	if (!p.key || asprintf(&p.id, "%s %s", o->facts->origin, b->digest) < 0) {
		free(p.key);
		return err_set(e, -ENOMEM, "out of memory");
	}
	other = cache_peek(o->asker->env->cache, p.key, &known, NULL) == 0 &&
		strcmp(known.id, p.id) != 0;
	if (!other || known.size != b->size || !open_shared(o, i, known.id, ret, ret_blobs)) {
		if (other) {
			free(p.key);
			p.key = cache_image_key_of(p.id);
		}
		r = p.key ? open_own(o, i, &p, ret, ret_blobs, e)
			  : err_set(e, -ENOMEM, "out of memory");
	}
	free(known.id);
	if (r == 0) {
		*ret_key = TAKE_PTR(p.key);
	}
	place_clear(&p);
	return r;
}

/* What is read here and there is verified once all of it is here; what a copy reads, on the way.
 * The chunks of a table of contents are verified each. */
static int add_verifier(struct opening *o, size_t i, bool chunked, bool remote,
	struct image **image, struct blobs *blobs, struct err *e)
{
	const char *digest = o->facts->layers[i].digest;
	struct image *top = NULL;
	int r;

	if (o->asker->env->o->check_digests) {
		return *digest && !chunked ? stack_add_digest(o->asker->env, digest, image, e) : 0;
	}
	if (!remote) {
		return 0;
	}
	r = source_watch_open(*image, digest, blobs, &top, e);
	*image = r == 0 ? top : *image;
	return r;
}

/* The bytes of layer @i: over a cache unless they are here. *ret_key: what to keep by what is made
 * of them. */
static int open_blob(struct opening *o, size_t i, bool chunked, struct image **ret,
	struct blobs **ret_blobs, char **ret_key, struct err *e)
{
	CLEANUP(image_closep) struct image *image = NULL;
	CLEANUP_FREE char *key = NULL;
	bool remote = source_is_remote(o->asker->source);
	int r;

	if (remote) {
		r = open_cached(o, i, &image, ret_blobs, &key, e);
	} else {
		key = strdup(o->facts->layers[i].digest);
		r = key ? source_image_blob_open(o->image, i, NULL, SOURCE_HERE_NONE, &image, e)
			: err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0) {
		r = add_verifier(o, i, chunked, remote, &image, *ret_blobs, e);
	}
	if (r == 0) {
		*ret = TAKE_PTR(image);
		*ret_key = TAKE_PTR(key);
	}
	return r;
}

static int open_layer(struct opening *o, size_t i, struct layer **ret, struct err *e)
{
	struct asker inner = *o->asker;
	struct format_opts format = { .keep = stack_keep, .ctx = &inner };
	struct layer_opts opts = {
		.format = &format,
		.annotation = annotation,
		.ctx = (void *)(uintptr_t)&o->facts->layers[i],
		.sha256 = source_sha256,
	};
	struct image *blob = NULL;
	int r;

	inner.key = NULL;
	r = open_blob(o, i, layer_has_toc(&opts), &blob, &format.blobs, &inner.key, e);
	if (r == 0) {
		r = layer_open(blob, &opts, ret, e);
		if (r < 0) {
			image_close(blob);
		}
	}
	free(inner.key);
	return r;
}

/* For struct view_opts: the layer may be open already. */
static int give_layer(void *ctx, size_t i, struct layer **ret, struct err *e)
{
	struct opening *o = ctx;

	if (o->layers[i]) {
		*ret = TAKE_PTR(o->layers[i]);
		return 0;
	}
	return open_layer(o, i, ret, e);
}

/* --- which file --- */

static const char *title(const struct opening *o, size_t i)
{
	return source_blob_annotation(&o->facts->layers[i], TITLE);
}

/* The layer that may be a disk as it is: the only one, or the one with the title that the user
 * names. False: there is none. */
static bool may_be_bare(const struct opening *o, size_t *ret)
{
	const char *member = o->asker->env->o->member;

	if (o->facts->layer_count == 1) {
		*ret = 0;
		return true;
	}
	for (size_t i = 0; member && i < o->facts->layer_count; i++) {
		if (title(o, i) && strcmp(title(o, i), member) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

/* Several files, each with a title, are no layers of a file system. */
static int check_titles(const struct opening *o, struct err *e)
{
	char names[NAMES_ROOM] = "";
	size_t used = 0;

	for (size_t i = 0; i < o->facts->layer_count; i++) {
		if (!title(o, i)) {
			return 0;
		}
		if (used < sizeof(names)) {
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
				i ? ", " : "", title(o, i));
		}
	}
	return err_set(e, -EBADMSG, "the artifact has %zu files: %s; --member NAME picks one",
		o->facts->layer_count, names);
}

/* What is in the merged layers; an operating system's image gets a hint. */
static int open_view(struct opening *o, struct image **ret, struct err *e)
{
	const struct view_opts opts = {
		.layers = o->facts->layer_count,
		.open = give_layer,
		.ctx = o,
		.member = o->asker->env->o->member,
	};
	CLEANUP_FREE char *bootc = NULL;
	struct err why = { 0 };
	int r = view_open(&opts, ret, &why);

	if (r >= 0) {
		return r;
	}
	if (r == -EBADMSG && !opts.member) {
		source_image_label(o->image, "containers.bootc", &bootc, NULL);
	}
	return err_set(e, r, "%s%s", why.text,
		bootc && strcmp(bootc, "1") == 0
			? " (it is a bootc image, an operating system's files and no disk: "
			  "bootc-image-builder makes a disk of it)"
			: "");
}

static int open_file(struct opening *o, struct image **ret, struct err *e)
{
	size_t bare = 0;
	int r = 0;

	if (o->facts->layer_count == 0) {
		return err_set(e, -EBADMSG, "the image has no layers, so there is no disk in it");
	}
	if (may_be_bare(o, &bare)) {
		r = open_layer(o, bare, &o->layers[bare], e);
		if (r == 0 && !layer_is_archive(o->layers[bare])) {
			*ret = layer_take_image(TAKE_PTR(o->layers[bare]));
			return 0;
		}
	} else if (!o->asker->env->o->member) {
		r = check_titles(o, e);
	}
	return r == 0 ? open_view(o, ret, e) : r;
}

/* The disk in the file; what is decoded on the way is kept beside the layer's own. */
static int open_disk(struct opening *o, const char *format, struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *file = NULL;
	struct asker inner = *o->asker;
	const struct format_opts opts = { .format = format, .keep = stack_keep, .ctx = &inner };
	int r = open_file(o, &file, e);

	if (r < 0) {
		return r;
	}
	assert(file);
	inner.key = cache_image_key_of(file->id);
	r = inner.key ? format_open(file, &opts, ret, e) : err_set(e, -ENOMEM, "out of memory");
	free(inner.key);
	if (r == 0) {
		TAKE_PTR(file);
	}
	return r;
}

static void close_layers(struct opening *o)
{
	for (size_t i = 0; o->layers && i < o->facts->layer_count; i++) {
		layer_close(o->layers[i]);
	}
	free(o->layers);
}

/* The lowest layer @name, or NULL. */
static struct image *find_layer(struct image *top, const char *name)
{
	struct image *found = NULL;

	for (; top; top = top->below) {
		found = strcmp(top->ops->name, name) == 0 ? top : found;
	}
	return found;
}

int stack_guard(struct image **disk, source_check_fn *check, struct image *checked, struct err *e)
{
	struct image *guarded = NULL;
	unsigned int caches = 0;
	int r;

	for (const struct image *img = *disk; img; img = img->below) {
		caches += strcmp(img->ops->name, "cache") == 0;
	}
	if (caches < 2) {
		return 0;
	}
	r = source_guard_open(*disk, check, checked, &guarded, e);
	*disk = r == 0 ? guarded : *disk;
	return r;
}

/* Of the layers that were looked into, only the one with the disk matters. */
static int settle(struct stack_env *env, struct image **disk, bool remote, struct err *e)
{
	int r = 0;

	env->digest = env->o->check_digests ? find_layer(*disk, "digest") : NULL;
	env->cached = remote ? find_layer(*disk, "cache") : NULL;
	if (env->cached) {
		r = stack_serve(env, 0, env->cached, e);
	}
	return r == 0 && env->cached && env->serves ? stack_guard(disk, NULL, NULL, e) : r;
}

static int open_opened(struct opening *o, const char *format, struct image **ret, struct err *e)
{
	int r;

	o->facts = source_image_facts(o->image);
	if (*o->facts->warning) {
		log_warn("%s", o->facts->warning);
	}
	o->layers = calloc(o->facts->layer_count + 1, sizeof(*o->layers));
	r = o->layers ? open_disk(o, format, ret, e) : err_set(e, -ENOMEM, "out of memory");
	close_layers(o);
	return r;
}

int stack_image_open(
	const struct asker *asker, const char *format, struct image **ret, struct err *e)
{
	struct stack_env *env = asker->env;
	struct asker inner = *asker;
	struct source_opts opts = stack_source_options(env, asker->access);
	const struct source_archive archive = { .open = open_in_archive, .ctx = &inner };
	struct source_records records;
	struct opening o = { .asker = asker };
	CLEANUP(image_closep) struct image *disk = NULL;
	bool remote = source_is_remote(asker->source);
	int r = 0;

	if (env->o->checksum) {
		return err_set(e, -EINVAL,
			"--checksum is for URLs and files: images are verified by their digests");
	}
	opts.archive = &archive;
	if (remote) {
		r = stack_need_cache(env, e);
		r = r < 0 ? r : stack_need_net(env, e);
	}
	if (r == 0 && remote) {
		records = image_records(env->cache);
		opts.records = &records;
	}
	r = r < 0 ? r : source_image_open(env->net, asker->source, &opts, &o.image, e);
	if (r < 0) {
		return r;
	}
	r = open_opened(&o, format, &disk, e);
	source_image_close(o.image);
	if (r < 0) {
		CLEANUP_FREE char *shown = stack_display(asker->source);

		return err_wrap(e, r, "%s", shown ? shown : "image");
	}
	r = settle(env, &disk, remote, e);
	if (r == 0) {
		*ret = TAKE_PTR(disk);
	}
	return r;
}
