/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the composition root share; nobody else includes this. */
#ifndef TOOLS_STACK_ENV_H
#define TOOLS_STACK_ENV_H

#include "cache/cache.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"
#include "sources/source.h"
#include "tools/secret.h"
#include "tools/stack.h"

struct stack_env {
	const struct options *o;
	struct secret login;
	char **headers; /* NULL: none */
	struct net *net;
	struct cache *cache;
	struct image **records; /* of images on this machine; closed after all stacks */
	size_t record_count;
	bool serves;              /* the stacks are mounted */
	struct sidecar *sidecars; /* of stacks that were closed */
	/* Of the stack that is being opened, in its chain: */
	struct image *digest;
	struct image *cached; /* the user's own image, not a backing file */
};

/* What the opener of backing files, and who keeps what was decoded, know of the image that asks. */
struct asker {
	struct stack_env *env;
	const char *source;
	const struct stack_access *access;
	char *key; /* of the layer that a decoder stands on, in the cache; owned */
};

int stack_need_cache(struct stack_env *env, struct err *e);
int stack_need_net(struct stack_env *env, struct err *e);
struct source_opts stack_source_options(
	const struct stack_env *env, const struct stack_access *access);

/* For struct format_opts; @ctx is a struct asker, whose `key` moves along. */
int stack_keep(void *ctx, struct image *decoded, const char *name, struct image **ret,
	struct blobs **ret_blobs, struct err *e);

/* Puts a layer over *image that computes the digest @want: it belongs to the stack. */
int stack_add_digest(struct stack_env *env, const char *want, struct image **image, struct err *e);

/* @cached is about to be read by whoever mounted it. */
int stack_serve(struct stack_env *env, unsigned int depth, struct image *cached, struct err *e);

/* --- stack_image.c: images of registries and layouts --- */

/* Opens the disk in the image @asker->source names, as @format (NULL: probed). */
int stack_image_open(
	const struct asker *asker, const char *format, struct image **ret, struct err *e);

/* Puts source_guard_open()'s layer over *disk if a cache keeps what was decoded of what another
 * keeps. */
int stack_guard(struct image **disk, source_check_fn *check, struct image *checked, struct err *e);

#endif
