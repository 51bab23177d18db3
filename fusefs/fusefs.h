/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filesystem: a directory of images as regular files, over the low-level FUSE API.
 *
 *   MOUNTPOINT/NAME.raw           one a volume
 *   MOUNTPOINT/.lazydisk/status   JSON, made anew at each open; not listed by readdir of the root
 *
 * fusefs knows images and nothing below them. It does not own them: they are closed after
 * fusefs_free().
 */
#ifndef FUSEFS_FUSEFS_H
#define FUSEFS_FUSEFS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/image.h"

struct fusefs;

struct fusefs_volume {
	const char *name; /* of the file: "debian-12.raw" */
	struct image *image;

	/* The value of extended attribute user.lazydisk.@attr ("url", "format", "validator",
	 * "present", ...), malloc()ed; -ENODATA when there is none of that name. */
	int (*xattr)(void *ctx, const char *attr, char **ret);
	/* Names of the attributes, NULL-terminated, without the prefix. */
	const char *const *xattrs;
	void *ctx;
};

struct fusefs_opts {
	const char *mountpoint;
	const char *fsname; /* the first column of /proc/mounts: the source */
	bool allow_other;
	unsigned int threads;      /* most; 0: default */
	unsigned int readahead_kb; /* of the kernel; 0: default (1024). Needs root, else ignored */
	bool debug;

	/* The text of .lazydisk/status, malloc()ed. Called on any thread. */
	int (*status)(void *ctx, char **ret, size_t *ret_len);
	void *ctx;
};

/* Copies what it needs of @opts. The volumes are fixed from here on; names are distinct. */
int fusefs_new(const struct fusefs_opts *opts, const struct fusefs_volume *volumes, size_t count,
	struct fusefs **ret, struct err *e);

/* Mounts. On failure names the reason: no /dev/fuse, no fusermount3, not a directory, already
 * mounted and dead, user_allow_other missing. From then until fusefs_serve() is through, SIGTERM,
 * SIGINT and SIGHUP (unless ignored) are caught. One mount a process. */
int fusefs_mount(struct fusefs *fs, struct err *e);

/* Serves until unmounted or told to stop by SIGTERM, SIGINT or SIGHUP; unmounts. @ready (may be
 * NULL) is called once, on this thread, when the filesystem answers and signals are caught. 0 after
 * a clean end. -EBUSY: a read never came back from its image; threads are in there, so end the
 * process without closing anything. */
int fusefs_serve(struct fusefs *fs, void (*ready)(void *ctx), void *ctx, struct err *e);

/* Unmounts when it was mounted and never served. NULL is nothing. */
void fusefs_free(struct fusefs *fs);

/* Unmounts @mountpoint as whoever may, as `lazydisk umount` does, and waits until the daemon that
 * served it has ended. -EBUSY: somebody uses it; -EINVAL: nothing of ours is mounted there;
 * -ETIMEDOUT: unmounted, but the daemon has not ended. */
int fusefs_unmount(const char *mountpoint, struct err *e);

#endif
