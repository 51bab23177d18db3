/* SPDX-License-Identifier: Apache-2.0 */
/* A record: read as a whole, replaced by rename. */
#include "tools/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"

#define RECORD_MAX 65536

int json_file_load(const char *path, json_t **ret, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	json_t *root;
	size_t len;
	int r;

	if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		return -ENOENT;
	}
	r = rw_read_file(path, RECORD_MAX, &text, &len, e);
	if (r < 0) {
		return r;
	}
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!root) {
		return -EBADMSG;
	}
	*ret = root;
	return 0;
}

static int write_synced(const char *path, const char *text, mode_t mode)
{
	CLEANUP_CLOSE int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	int r = fd < 0 ? -errno : rw_pwrite(fd, text, strlen(text), 0);

	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int json_file_save(const char *path, const json_t *root, mode_t mode, struct err *e)
{
	CLEANUP_FREE char *text = json_dumps(root, JSON_INDENT(2));
	CLEANUP_FREE char *tmp = NULL;
	int r;

	if (!text || asprintf(&tmp, "%s~", path) < 0) {
		tmp = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = write_synced(tmp, text, mode);
	if (r == 0 && rename(tmp, path) < 0) {
		r = -errno;
	}
	if (r < 0) {
		unlink(tmp);
		return err_sys(e, r, "cannot write %s", path);
	}
	return 0;
}
