/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a layer's table of contents by what the manifest says of the layer, reading it and
 * checking its digest. A table that the manifest vouches for with no digest is not used: it would
 * be a second opinion, by a stranger, of what the layer holds. Sources of the rules:
 * stargz-snapshotter, docs/estargz.md, "Footer"; containers/storage, pkg/chunked/internal, for
 * zstd:chunked.
 */
#ifndef FORMATS_TOC_FIND_H
#define FORMATS_TOC_FIND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/format.h"
#include "formats/toc.h"

/* No table is larger, compressed or not. */
#define TOC_MAX MIB(64)

enum toc_kind {
	TOC_ESTARGZ,      /* chunks are gzip members */
	TOC_ZSTD_CHUNKED, /* chunks are zstd frames */
};

/* Reads the table of the layer @blob. -ENOENT: there is none; -ENOTSUP: it cannot be used; -ENOKEY:
 * it is not the one that the manifest means; -EBADMSG: it is broken; and errors of reading. */
int toc_find(struct image *blob, const struct layer_opts *opts, struct toc *ret,
	enum toc_kind *ret_kind, struct err *e);

#endif
