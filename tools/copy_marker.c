/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes are complete. */
#include "tools/copy_marker.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "tools/json.h"
#include "tools/json_file.h"

static char *marker_path(const char *dir)
{
	char *path = NULL;

	return asprintf(&path, "%s/.lazydisk.json", dir) < 0 ? NULL : path;
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
	CLEANUP_FREE char *path = marker_path(dir);
	CLEANUP(json_file_drop) json_t *root = NULL;
	int r;

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = json_file_load(path, &root, e);
	if (r == -ENOENT) {
		return err_set(e, r, "%s: no such file", path);
	}
	r = r == 0 ? from_json(root, ret) : r;
	if (r == -ENOMEM) {
		return err_set(e, r, "out of memory");
	}
	return r == -EBADMSG ? err_set(e, r,
				       "%s cannot be understood; delete it to fill the volume "
				       "anew",
				       path)
			     : r;
}

int copy_marker_save(const char *dir, const struct copy_marker *marker, struct err *e)
{
	CLEANUP_FREE char *path = marker_path(dir);
	CLEANUP(json_file_drop)
	json_t *root =
		json_pack("{s:i, s:o, s:o, s:o}", "version", 1, "source", json_text(marker->source),
			"pv", json_text(marker->pv), "size", json_u64(marker->size));

	return path && root ? json_file_save(path, root, 0644, e)
			    : err_set(e, -ENOMEM, "out of memory");
}

int copy_marker_remove(const char *dir, struct err *e)
{
	CLEANUP_FREE char *path = marker_path(dir);

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return unlink(path) < 0 && errno != ENOENT ? err_sys(e, errno, "cannot delete %s", path)
						   : 0;
}
