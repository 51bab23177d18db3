/* SPDX-License-Identifier: Apache-2.0 */
/* libfuse in the version of its interface that we are written for. */
#ifndef FUSEFS_LIBFUSE_H
#define FUSEFS_LIBFUSE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#endif
