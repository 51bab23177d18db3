/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of `lazydisk mount -f MANIFEST...`: the DataVolumes that come over HTTP. */
#ifndef TOOLS_MOUNT_MANIFEST_H
#define TOOLS_MOUNT_MANIFEST_H

#include "tools/manifest.h"
#include "tools/manifest_resolve.h"
#include "tools/options.h"
#include "tools/stack.h"

struct mount_manifest {
	struct manifest manifest;
	struct manifest_access *access; /* what stack points to */
	struct stack_access *stack;     /* one a source */
	char **sources;                 /* borrowed from the manifest */
	char **names;                   /* NAME, or NAMESPACE.NAME where two have one name */
	size_t count;
};

/* Volumes of other sources are passed over with a warning: they have nothing to show before they
 * are filled. -EINVAL: a manifest is wrong, or there is nothing to mount. @ret is to be cleared in
 * any case. */
int mount_manifest_load(const struct options *o, struct mount_manifest *ret, struct err *e);

void mount_manifest_clear(struct mount_manifest *m);

#endif
