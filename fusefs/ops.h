/* SPDX-License-Identifier: Apache-2.0 */
/* The table of operations; the user data of the session is a struct fusefs. */
#ifndef FUSEFS_OPS_H
#define FUSEFS_OPS_H

struct fuse_lowlevel_ops;

extern const struct fuse_lowlevel_ops ops_table;

#endif
