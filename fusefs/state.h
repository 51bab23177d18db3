/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of fusefs/ share; see fusefs.h for what it is to others. */
#ifndef FUSEFS_STATE_H
#define FUSEFS_STATE_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "fusefs/buffers.h"
#include "fusefs/fusefs.h"
#include "fusefs/passthrough.h"
#include "fusefs/tree.h"
#include "fusefs/volume.h"

struct fuse_session;
struct pages;

struct fusefs {
	struct fusefs_opts opts; /* without the strings, which are these two */
	char *mountpoint;        /* as of mounts_resolve() */
	char *fsname;
	struct tree tree;
	struct volume *volumes;         /* one a tree.volumes */
	struct passthrough_file *opens; /* one a volume */
	struct passthrough passthrough;
	struct buffers *buffers;
	struct fuse_session *session; /* NULL: not mounted */
	struct pages *pages;          /* NULL: not served */
	dev_t dev;                    /* of the mount, 0 when unknown */
	atomic_bool initialised;      /* the kernel's first request was accepted */
	atomic_bool stopping;
	sem_t counted;  /* the thread that counts allocations is through */
	bool abandoned; /* threads are still within images: nothing may be freed */
};

#endif
