/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory to mount on, looked at before anything costly is done: what is wrong with it is
 * told at once, by name.
 */
#ifndef TOOLS_MOUNTPOINT_H
#define TOOLS_MOUNTPOINT_H

#include "core/err.h"

/* @path must be a directory that no lazydisk is mounted on. *ret: its absolute path, malloc()ed. */
int mountpoint_check(const char *path, char **ret, struct err *e);

/* @path must be the root of a living lazydisk mount. *ret_status: the JSON text of its status,
 * malloc()ed. */
int mountpoint_read_status(const char *path, char **ret_status, struct err *e);

#endif
