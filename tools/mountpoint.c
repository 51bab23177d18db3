/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of mountpoints, before and while something is mounted. */
#include "tools/mountpoint.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"

#define STATUS_MAX (16U << 20)

static int explain(const char *path, int errnum, struct err *e)
{
	switch (errnum) {
	case ENOENT:
		return err_set(e, -ENOENT, "%s: no such directory", path);
	case ENOTCONN:
		return err_set(e, -ENOTCONN,
			"%s: a mount whose daemon is gone; free it with: lazydisk umount %s", path,
			path);
	default:
		return err_sys(e, errnum, "%s", path);
	}
}

/* 1: a lazydisk mount, 0: not; -ENOTCONN: one whose daemon is gone. The status file is there in
 * every mount of ours. */
static int look(const char *path)
{
	CLEANUP_FREE char *file = NULL;
	struct statfs fs;

	if (statfs(path, &fs) < 0) {
		return errno == ENOTCONN ? -ENOTCONN : 0;
	}
	if (fs.f_type != FUSE_SUPER_MAGIC || asprintf(&file, "%s/.lazydisk/status", path) < 0) {
		file = NULL;
		return 0;
	}
	return access(file, F_OK) == 0;
}

int mountpoint_check(const char *path, char **ret, struct err *e)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	struct stat st;
	int r;

	if (!real || stat(real, &st) < 0) {
		return errno == ENOENT
			       ? err_set(e, -ENOENT, "%s: no such directory; create it first", path)
			       : explain(path, errno, e);
	}
	if (!S_ISDIR(st.st_mode)) {
		return err_set(
			e, -ENOTDIR, "%s: not a directory; lazydisk mounts on directories", path);
	}
	r = look(real);
	if (r < 0) {
		return explain(path, -r, e);
	}
	if (r > 0) {
		return err_set(e, -EBUSY,
			"%s: a lazydisk is mounted there already; free it with: lazydisk umount %s",
			path, path);
	}
	*ret = TAKE_PTR(real);
	return 0;
}

int mountpoint_read_status(const char *path, char **ret_status, struct err *e)
{
	CLEANUP_FREE char *file = NULL;
	struct stat st;
	size_t len;
	int r;

	if (stat(path, &st) < 0) {
		return explain(path, errno, e);
	}
	r = look(path);
	if (r == 0) {
		return err_set(e, -EINVAL, "%s: not a lazydisk mount", path);
	}
	if (r > 0 && asprintf(&file, "%s/.lazydisk/status", path) < 0) {
		file = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (r > 0) {
		r = rw_read_file(file, STATUS_MAX, ret_status, &len, e);
	}
	return r == -ENOTCONN ? explain(path, ENOTCONN, e) : r;
}
