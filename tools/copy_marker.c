/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes are complete. */
#include "tools/copy_marker.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"
#include "tools/json.h"

#define MARKER_MAX 65536

static void drop_json(json_t **root)
{
	json_decref(*root);
}

static char *marker_path(const char *dir, const char *suffix)
{
	char *path = NULL;

	return asprintf(&path, "%s/.lazydisk.json%s", dir, suffix) < 0 ? NULL : path;
}

void copy_marker_clear(struct copy_marker *marker)
{
	free(marker->source);
	free(marker->pv);
	*marker = (struct copy_marker){ 0 };
}

static int from_json(json_t *root, struct copy_marker *ret)
{
	const char *source;
	const char *pv;
	json_int_t size;
	struct copy_marker m;

	if (json_unpack(root, "{s:s, s:s, s:I}", "source", &source, "pv", &pv, "size", &size) < 0 ||
		size < 0) {
		return -EBADMSG;
	}
	m = (struct copy_marker){ strdup(source), strdup(pv), (uint64_t)size };
	if (!m.source || !m.pv) {
		copy_marker_clear(&m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

int copy_marker_load(const char *dir, struct copy_marker *ret, struct err *e)
{
	CLEANUP_FREE char *path = marker_path(dir, "");
	CLEANUP(drop_json) json_t *root = NULL;
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r;

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		return err_set(e, -ENOENT, "%s: no such file", path);
	}
	r = rw_read_file(path, MARKER_MAX, &text, &len, e);
	if (r < 0) {
		return r;
	}
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	r = root ? from_json(root, ret) : -EBADMSG;
	return r == 0 ? 0
		      : err_set(e, r, "%s cannot be understood; delete it to fill the volume anew",
				path);
}

static int write_synced(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : rw_pwrite(fd, text, strlen(text), 0);

	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int copy_marker_save(const char *dir, const struct copy_marker *marker, struct err *e)
{
	CLEANUP_FREE char *path = marker_path(dir, "");
	CLEANUP_FREE char *tmp = marker_path(dir, "~");
	CLEANUP(drop_json)
	json_t *root =
		json_pack("{s:i, s:o, s:o, s:o}", "version", 1, "source", json_text(marker->source),
			"pv", json_text(marker->pv), "size", json_u64(marker->size));
	CLEANUP_FREE char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	int r;

	if (!path || !tmp || !text) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = write_synced(tmp, text);
	if (r == 0 && rename(tmp, path) < 0) {
		r = -errno;
	}
	if (r < 0) {
		unlink(tmp);
		return err_sys(e, r, "cannot write %s", path);
	}
	return 0;
}

int copy_marker_remove(const char *dir, struct err *e)
{
	CLEANUP_FREE char *path = marker_path(dir, "");

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return unlink(path) < 0 && errno != ENOENT ? err_sys(e, errno, "cannot delete %s", path)
						   : 0;
}
