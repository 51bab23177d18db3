/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE passthrough (Linux 6.9): the kernel reads an open file's bytes from another file, and the
 * daemon sees nothing of it. Where an image lends such a file (see image_lend_file()) this is as
 * fast as the cache's filesystem.
 *
 * libfuse knows passthrough from 3.17 on, and Debian 12 has 3.14. So it is spoken here: the kernel
 * is told of it in the answer to its first request, on its way through struct fuse_custom_io, and
 * the answers to open are made by hand.
 *
 * The kernel's rules: an inode is open either through its page cache or passed through, never both
 * at a time, and all that pass through name the same file. It takes CAP_SYS_ADMIN, and a file that
 * lies on no stacked filesystem (overlayfs). Where that is not so, opens are as ever.
 *
 * What is passed through cannot be called back while it is open, so only what can no more turn out
 * to be wrong is lent: see lend_file in core/image.h. It is read on when the daemon is gone, and
 * where it is mapped, after the kernel has said that it is closed.
 */
#ifndef FUSEFS_PASSTHROUGH_H
#define FUSEFS_PASSTHROUGH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/image.h"
#include "fusefs/libfuse.h"

/* Of a mount. */
struct passthrough {
	int device;             /* /dev/fuse; -1: not mounted */
	atomic_bool negotiated; /* the first request was answered */
	atomic_bool possible;   /* as far as is known */
};

/* How one file is open at present. */
struct passthrough_file {
	pthread_mutex_t lock;
	unsigned int cached; /* opens through the kernel's cache */
	unsigned int passed; /* opens that are passed through */
	int32_t backing_id;  /* while passed > 0 */
};

/* Gives @device to @se, as fuse_session_mount() would. @p is
 * the one in struct fusefs, which is the session's userdata. */
int passthrough_attach(struct passthrough *p, struct fuse_session *se, int device);

void passthrough_file_init(struct passthrough_file *f);
void passthrough_file_fini(struct passthrough_file *f);

/* Answers an open of the file that shows @image, in either way. */
void passthrough_reply_open(struct passthrough *p, struct passthrough_file *f, struct image *image,
	fuse_req_t req, struct fuse_file_info *fi);

/* The kernel has closed what passthrough_reply_open() answered. */
void passthrough_release(struct passthrough *p, struct passthrough_file *f, struct image *image,
	const struct fuse_file_info *fi);

/* The mount is gone, and with it the kernel's releases. */
void passthrough_forget(struct passthrough_file *f, struct image *image);

#endif
