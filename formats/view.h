/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of a container image, and the one file in them that is the disk.
 *
 *	raw, qcow2, ...		format_open(), once more
 *	tar, chunked		view_open(): the file
 *	gzip, zstd		layer_open()
 *	blob
 *
 * A layer is a tar archive, compressed or not; or one that was compressed in pieces, with a table
 * of contents that the manifest vouches for (eStargz, zstd:chunked), of which any piece can be had
 * alone; or no archive at all: an artifact whose blob is the disk.
 */
#ifndef FORMATS_VIEW_H
#define FORMATS_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"

struct format_opts;
struct layer;

struct layer_opts {
	const struct format_opts *format; /* for decoders: `blobs`, `keep` and its `ctx` */

	/* The annotation @key of the layer's descriptor, or NULL. NULL: there are none, and tables
	 * of contents are not used. */
	const char *(*annotation)(void *ctx, const char *key);
	void *ctx; /* for annotation */

	/* False: it cannot be computed. */
	bool (*sha256)(const void *buf, size_t len, uint8_t ret[32]);
};

/* Whether the manifest says that the layer has a table of contents. */
bool layer_has_toc(const struct layer_opts *opts);

/* Takes @blob over on success. -EBADMSG, -ENOTSUP, -ENOKEY (the table of contents is not the one
 * that the manifest means), and errors of reading. @opts is needed during the call; `sha256` stays
 * in use. */
int layer_open(
	struct image *blob, const struct layer_opts *opts, struct layer **ret, struct err *e);

/* Whether it is an archive. */
bool layer_is_archive(const struct layer *l);

/* Of a layer that is no archive: what is in it, decoded. The layer is gone. */
struct image *layer_take_image(struct layer *l);

/* NULL is nothing. */
void layer_close(struct layer *l);

struct view_opts {
	size_t layers; /* how many, 0 being the base */

	/* Opens layer @i; called at most once for each, from the top one down. */
	int (*open)(void *ctx, size_t i, struct layer **ret, struct err *e);
	void *ctx;

	const char *member; /* path of the file; NULL: the only one in /disk, as KubeVirt has it */
};

/* The file that a container of the image would see: what upper layers replace or take away is not
 * there, and links are followed, never out of the image. Layers below the one that has the file are
 * looked at as far as that costs little, for a second file in /disk. -EBADMSG: there is no disk,
 * or more than one, which the text names; -ENOENT: there is no such member; errors of layers. */
int view_open(const struct view_opts *opts, struct image **ret, struct err *e);

/* The file @member of the tar archive @archive, links being followed. Takes @archive over on
 * success. -ENOENT: there is none. */
int view_member_open(struct image *archive, const char *member, struct image **ret, struct err *e);

#endif
