/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bytes mean. Formats are recognised by content, never by name: one row a format in format.c,
 * one file a format. Some are containers (gzip, xz, a tar's member): what is in them is recognised
 * anew. format_open() stacks layers until the guest's disk is reached (a qcow2 in a gzip is two),
 * each over the one below.
 *
 *	raw, qcow2, ...		the disk
 *	  (kept)		what opts->keep put over a decoder: a cache of what it decoded
 *	gzip, xz, tar, ...	at most FORMAT_CHAIN_MAX of them
 *	below
 */
#ifndef FORMATS_FORMAT_H
#define FORMATS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"
#include "formats/view.h"

struct format_opts {
	/* Forces the outermost format: "raw", "qcow2", ...; what is in a container is then
	 * recognised, or named behind a '+': "gzip+raw". NULL: probe. */
	const char *format;
	struct blobs *blobs; /* where seek indexes persist: of the layer below; may be NULL */
	const char *member;  /* of a tar archive: the path of the file; NULL: its only disk */
	uint64_t size; /* of what a container holds, as the user says, where its format does not
			  tell (the image stays provisional); 0: nobody said */

	/* Puts a layer that keeps what was decoded over @decoded, a container's, which decodes as
	 * @name; or gives back @decoded when nothing is to be kept. *ret_blobs: that layer's, or
	 * NULL. Takes @decoded over on success. NULL: nothing is kept. */
	int (*keep)(void *ctx, struct image *decoded, const char *name, struct image **ret,
		struct blobs **ret_blobs, struct err *e);

	/* Opens the backing file @name that an image asks for, as @format (as the image says, or
	 * "raw" when it says nothing: never probed). NULL: backing files are refused with -ENOTSUP.
	 * The opener decides which names it admits; @depth (1 for the first) bounds chains. The
	 * result is a whole stack. */
	int (*open_backing)(void *ctx, const char *name, const char *format, unsigned int depth,
		struct image **ret, struct err *e);
	void *ctx;          /* for open_backing and keep */
	unsigned int depth; /* of this image in its chain: 0 for the one the user named */
};

/* Backing chains end here. */
#define FORMAT_DEPTH_MAX 64
/* Containers in each other end here. */
#define FORMAT_CHAIN_MAX 4

/* The name of the format that the first bytes of @img show; "raw" when nothing else fits. */
int format_probe(struct image *img, const char **ret, struct err *e);

/* Whether what is in a file of format @name (or of the first of several) is recognised anew. */
bool format_is_container(const char *name);

/* Takes @below over on success. -EBADMSG corrupt, -ENOTSUP refused feature (named). A raw image
 * comes back as a layer of its own, so that every stack has one on top that is the disk. A
 * container's open() is called with what opts says for all of them, blobs being those of the layer
 * below. */
int format_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e);

/* Opens only what is compressed: *ret is what is in it, @below itself when that is not compressed,
 * and *ret_archive whether that is a tar archive. Takes @below over on success. */
int format_unpack(struct image *below, const struct format_opts *opts, struct image **ret,
	bool *ret_archive, struct err *e);

/* Whether @name is one (or several, with '+' between) that --format takes. */
bool format_is_known(const char *name);

/* The known names in one line, for messages: "raw, qcow2". */
const char *format_names(void);

#endif
