/* SPDX-License-Identifier: Apache-2.0 */
/* The names of images, for the table of schemes: see source.h for what each gives. */
#ifndef SOURCES_IMAGE_SPEC_H
#define SOURCES_IMAGE_SPEC_H

#include "core/err.h"
#include "core/image.h"
#include "sources/source.h"

/* An image is not one run of bytes: -EINVAL. */
int image_spec_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct image **ret, struct err *e);
int image_spec_key(const char *spec, char **ret, struct err *e);
/* Nothing lies beside an image: -EINVAL. */
int image_spec_sibling(const char *spec, const char *name, char **ret, struct err *e);
int image_spec_path(const char *spec, char **ret, struct err *e);

#endif
