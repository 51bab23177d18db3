/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file in a layer with a table of contents as an image: the chunks that a read touches are
 * fetched, decoded, checked by their digests and kept for a while.
 */
#ifndef FORMATS_CHUNKED_H
#define FORMATS_CHUNKED_H

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"
#include "formats/toc.h"
#include "formats/toc_find.h"

struct chunked_opts {
	enum toc_kind kind;
	const struct toc *toc;       /* needed during the open only */
	const struct toc_file *file; /* of it */
	const char *name;            /* to show */
	bool (*sha256)(const void *buf, size_t len, uint8_t ret[TOC_DIGEST]);
};

/* Takes @blob over on success. */
int chunked_open(
	struct image *blob, const struct chunked_opts *opts, struct image **ret, struct err *e);

#endif
