/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot trace that may lie beside an image, at SOURCE.trace: asked for once, on a thread of its
 * own, so that opening does not wait for it. That there is none goes without a word.
 */
#ifndef TOOLS_SIDECAR_H
#define TOOLS_SIDECAR_H

#include "core/image.h"
#include "sources/source.h"

struct sidecar;

/* @cached is served (cache_image_serve()). @opts, and what it points to, and @net are borrowed
 * until sidecar_free(). NULL: it is not looked for. */
struct sidecar *sidecar_start(
	struct net *net, const char *source, const struct source_opts *opts, struct image *cached);

/* The image is about to be closed. Does not wait for the network. NULL is nothing. */
void sidecar_forget(struct sidecar *s);

/* Waits for its thread; net_stop() makes that short. Returns the next one in its list. */
struct sidecar *sidecar_free(struct sidecar *s);

/* Puts @s in front of the list @list. */
void sidecar_push(struct sidecar *s, struct sidecar **list);

#endif
