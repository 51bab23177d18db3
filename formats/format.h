/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bytes mean. Formats are recognised by content, never by name: one row a format in format.c,
 * one file a format. format_open() stacks layers until the guest's disk is reached (a qcow2 in a
 * gzip is two), each over the one below.
 */
#ifndef FORMATS_FORMAT_H
#define FORMATS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"

struct format_opts {
	const char *format;  /* force the outermost format: "raw", "qcow2", ...; NULL: probe */
	struct blobs *blobs; /* where seek indexes persist; may be NULL */

	/* Opens the backing file @name that an image asks for, as @format (as the image says, or
	 * "raw" when it says nothing: never probed). NULL: backing files are refused with -ENOTSUP.
	 * The opener decides which names it admits; @depth (1 for the first) bounds chains. The
	 * result is a whole stack. */
	int (*open_backing)(void *ctx, const char *name, const char *format, unsigned int depth,
		struct image **ret, struct err *e);
	void *ctx;
	unsigned int depth; /* of this image in its chain: 0 for the one the user named */
};

/* Backing chains end here. */
#define FORMAT_DEPTH_MAX 64

/* The name of the format that the first bytes of @img show; "raw" when nothing else fits. */
int format_probe(struct image *img, const char **ret, struct err *e);

/* Takes @below over on success. -EBADMSG corrupt, -ENOTSUP refused feature (named). A raw image
 * comes back as a layer of its own, so that every stack has one on top that is the disk. */
int format_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

/* Whether @name is one that --format takes. */
bool format_is_known(const char *name);

/* The known names in one line, for messages: "raw, qcow2". */
const char *format_names(void);

#endif
