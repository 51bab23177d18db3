/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounting and unmounting in the kernel: directly for root, through fusermount3 for others. Ours
 * rather than libfuse's, because each failure shall name what to do, in one line.
 */
#ifndef FUSEFS_KMOUNT_H
#define FUSEFS_KMOUNT_H

#include <stdbool.h>

#include "core/err.h"

struct kmount_opts {
	const char *mountpoint; /* as of mounts_resolve() */
	const char *fsname;
	bool allow_other;
	bool writable;
};

/* *ret_fd: the connection to the kernel. Errors as of fusefs_mount(). */
int kmount_mount(const struct kmount_opts *opts, int *ret_fd, struct err *e);

/* @lazy: detached now, gone when its last user is. -EBUSY: in use. */
int kmount_unmount(const char *mountpoint, bool lazy, struct err *e);

#endif
