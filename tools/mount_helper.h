/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount(8) and fstab: `mount -t fuse.lazydisk SOURCE DIR -o OPTIONS` runs a helper
 *
 *	mount.fuse.lazydisk SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
 *
 * (or, where that is not in /sbin, `lazydisk SOURCE DIR -o OPTIONS`). This turns such a command
 *line into the one of `lazydisk mount`: OPTION=VALUE is --OPTION=VALUE, '_' in a name stands for
 *'-', a backslash takes a comma for itself. Options that concern the kernel or mount(8) are left
 *out.
 */
#ifndef TOOLS_MOUNT_HELPER_H
#define TOOLS_MOUNT_HELPER_H

#include <stdbool.h>

#include "core/err.h"
#include "tools/verb.h"

struct mount_helper {
	char **argv; /* "mount", options, "--", SOURCE, DIR, NULL; owned */
	int argc;
	bool fake; /* -f: check only */
};

/* Whether this is mount(8) calling, by argv[0] or by the shape of the arguments. */
bool mount_helper_called(int argc, char **argv);

/* -EINVAL with a line that names the option. @ret is to be cleared in any case. */
int mount_helper_parse(
	const struct verb *mount, int argc, char **argv, struct mount_helper *ret, struct err *e);

void mount_helper_clear(struct mount_helper *h);

#endif
