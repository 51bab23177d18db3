/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of mountpoints, before and while something is mounted. */
#include "tools/mountpoint.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"

#define STATUS_MAX (16U << 20)

static int explain(const char *path, int errnum, struct err *e)
{
	switch (errnum) {
	case ENOENT:
		return err_set(e, -ENOENT, "%s: no such directory; create it first", path);
	case ENOTCONN:
		return err_set(e, -ENOTCONN,
			"%s: a mount whose daemon is gone; free it with: lazydisk umount %s", path,
			path);
	default:
		return err_sys(e, errnum, "%s", path);
	}
}

/* The status file is there in every lazydisk mount, and its directory is not listed. */
static bool is_lazydisk(const char *path)
{
	CLEANUP_FREE char *file = NULL;

	if (asprintf(&file, "%s/.lazydisk/status", path) < 0) {
		file = NULL;
		return false;
	}
	return access(file, F_OK) == 0;
}

int mountpoint_check(const char *path, char **ret, struct err *e)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	struct stat st;

	if (!real || stat(real, &st) < 0) {
		return explain(path, errno, e);
	}
	if (!S_ISDIR(st.st_mode)) {
		return err_set(
			e, -ENOTDIR, "%s: not a directory; lazydisk mounts on directories", path);
	}
	if (is_lazydisk(real)) {
		return err_set(e, -EBUSY,
			"%s: a lazydisk is mounted there already; free it with: "
			"lazydisk umount %s",
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
	if (!is_lazydisk(path)) {
		return err_set(e, -EINVAL, "%s: not a lazydisk mount", path);
	}
	if (asprintf(&file, "%s/.lazydisk/status", path) < 0) {
		file = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = rw_read_file(file, STATUS_MAX, ret_status, &len, e);
	return r == -ENOTCONN ? explain(path, ENOTCONN, e) : r;
}
