/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text that describes a VMDK: what kind it is, which files its bytes are in, whether it stands
 * on a parent. Source of the rules: VMware, "Virtual Disk Format 1.1", section "The Descriptor
 * File". Pure: text in, struct or error out.
 */
#ifndef FORMATS_VMDK_DESCRIPTOR_H
#define FORMATS_VMDK_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/err.h"

/* No descriptor is longer; enough for all extents there may be. */
#define VMDK_DESCRIPTOR_MAX MIB(1)

/* 2 TiB in extents of 2 GiB. */
#define VMDK_EXTENTS_MAX 1024U
#define VMDK_NAME_MAX    511U

enum vmdk_extent_kind {
	VMDK_FLAT,   /* bytes of the disk as they are */
	VMDK_SPARSE, /* a sparse extent with a header of its own */
	VMDK_ZEROS,  /* no file at all */
};

struct vmdk_extent {
	enum vmdk_extent_kind kind;
	uint64_t size;   /* bytes; never 0 */
	uint64_t offset; /* FLAT: where in the file it begins */
	char *name;      /* of the file; NULL for ZEROS; owned */
};

struct vmdk_descriptor {
	char type[64]; /* createType, printable; empty: not said */
	struct vmdk_extent *extents;
	size_t count;
	uint64_t size; /* of all extents; at most INT64_MAX */
};

/*
 * Parses @text of @len bytes (up to a NUL, if there is one). *ret is to be cleared, after a failure
 * too. -ENOTSUP: a kind that we refuse, or an image that is only what changed over its parent, each
 * named. Extents are parsed only @with_extents: in the descriptor within a sparse extent they name
 * the extent itself, by a name that may be of old.
 */
int vmdk_descriptor_parse(const char *text, size_t len, bool with_extents,
	struct vmdk_descriptor *ret, struct err *e);

void vmdk_descriptor_clear(struct vmdk_descriptor *d);

#endif
