/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of a tar archive, one after the other. Only headers are read, in few small reads, and
 * what lies between them is jumped over: of an archive with one large file that is far away, two
 * reads are needed. Understands ustar, GNU (long names, large numbers, sparse files) and PAX
 * (POSIX.1-2001, with GNU's sparse files 0.0, 0.1 and 1.0).
 *
 * Where an archive can be understood in two ways, it is read as Go's archive/tar does, as the
 * container engines do; extension headers apply to the next entry that is no extension.
 */
#ifndef FORMATS_TAR_WALK_H
#define FORMATS_TAR_WALK_H

#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "formats/tar_map.h"

/* No archive has more headers. */
#define TAR_HEADERS_MAX 4194304U
/* No name is longer. */
#define TAR_NAME_MAX 65536U

enum tar_kind {
	TAR_FILE,
	TAR_DIR,
	TAR_SYMLINK,
	TAR_HARDLINK,
	TAR_OTHER, /* a device, a volume label: nothing that could be read */
};

struct tar_entry {
	enum tar_kind kind;
	const char *name;   /* as the archive has it */
	const char *link;   /* of SYMLINK and HARDLINK, else "" */
	uint64_t header;    /* where the first of its headers begins: see tar_walk_new() */
	struct tar_map map; /* of FILE */
};

struct tar_walk;

/* Begins at @at, where a header is: 0, or the `header` of an entry. Borrows @img. */
int tar_walk_new(struct image *img, uint64_t at, struct tar_walk **ret, struct err *e);

/* 1: *ret is the next entry, valid until the next call. 0: there is none. -EBADMSG: the archive is
 * broken or ends too early; -ENOTSUP: it uses what no reader agrees on. */
int tar_walk_next(struct tar_walk *w, const struct tar_entry **ret, struct err *e);

/* Where the next header is. */
uint64_t tar_walk_at(const struct tar_walk *w);
/* How many readings of the archive there were. */
unsigned int tar_walk_reads(const struct tar_walk *w);

/* Takes the map of the last entry over. */
struct tar_map tar_walk_take_map(struct tar_walk *w);

/* NULL is nothing. */
void tar_walk_free(struct tar_walk *w);
void tar_walk_freep(struct tar_walk **w);

#endif
