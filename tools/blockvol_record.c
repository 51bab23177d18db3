/* SPDX-License-Identifier: Apache-2.0 */
/* Records of volumes on disk. */
#include "tools/blockvol_record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "tools/json_file.h"
#include "tools/kube_name.h"
#include "tools/loopdev.h"
#include "tools/options.h"

#define DEFAULT_DIR "/var/lib/lazydisk/volumes"

int blockvol_record_dir(bool make, char **ret, struct err *e)
{
	const char *own = getenv("LAZYDISK_VOLUME_DIR");
	CLEANUP_FREE char *dir = options_absolute_path(own && *own ? own : DEFAULT_DIR);

	if (!dir) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (char *slash = dir; make && slash;) {
		slash = strchr(slash + 1, '/');
		if (slash) {
			*slash = '\0';
		}
		if (mkdir(dir, slash ? 0755 : 0700) < 0 && errno != EEXIST) {
			return err_sys(e, errno, "cannot make %s", dir);
		}
		if (slash) {
			*slash = '/';
		}
	}
	*ret = TAKE_PTR(dir);
	return 0;
}

char *blockvol_record_path(const char *dir, const char *name, const char *suffix)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s%s", dir, name, suffix) < 0 ? NULL : path;
}

/* json_unpack() checks that all is there and of its type. */
static int from_json(json_t *root, const char *name, struct blockvol *ret)
{
	const char *file;
	const char *node;
	const char *storage_class;
	json_int_t size;
	struct blockvol v = { .last_number = LOOPDEV_NONE, .number = LOOPDEV_NONE };

	if (json_unpack(root, "{s:s, s:s, s:s, s:I, s:i}", "file", &file, "node", &node,
		    "storage_class", &storage_class, "size", &size, "loop", &v.last_number) < 0 ||
		size <= 0 || file[0] != '/') {
		return -EBADMSG;
	}
	v.size = (uint64_t)size;
	v.name = strdup(name);
	v.file = strdup(file);
	v.node = strdup(node);
	v.storage_class = strdup(storage_class);
	if (!v.name || !v.file || !v.node || !v.storage_class) {
		blockvol_clear(&v);
		return -ENOMEM;
	}
	*ret = v;
	return 0;
}

int blockvol_record_load(const char *dir, const char *name, struct blockvol *ret, struct err *e)
{
	CLEANUP_FREE char *path = blockvol_record_path(dir, name, ".json");
	CLEANUP(json_file_drop) json_t *root = NULL;
	int r;

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = json_file_load(path, &root, e);
	if (r == -ENOENT) {
		return err_set(e, r, "there is no volume %s", name);
	}
	r = r == 0 ? from_json(root, name, ret) : r;
	if (r == -ENOMEM) {
		return err_set(e, r, "out of memory");
	}
	return r == -EBADMSG
		       ? err_set(e, r, "%s cannot be understood; delete it to forget the volume",
				 path)
		       : r;
}

int blockvol_record_save(const char *dir, const struct blockvol *v, struct err *e)
{
	CLEANUP_FREE char *path = blockvol_record_path(dir, v->name, ".json");
	CLEANUP(json_file_drop)
	json_t *root = json_pack("{s:i, s:s, s:s, s:s, s:I, s:i}", "version", 1, "file", v->file,
		"node", v->node, "storage_class", v->storage_class, "size", (json_int_t)v->size,
		"loop", v->last_number);

	if (!path || !root) {
		return err_set(
			e, -EINVAL, "the path %s cannot be recorded: it is not UTF-8", v->file);
	}
	return json_file_save(path, root, 0600, e);
}

int blockvol_record_remove(const char *dir, const char *name, struct err *e)
{
	CLEANUP_FREE char *path = blockvol_record_path(dir, name, ".json");

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return unlink(path) < 0 ? err_sys(e, errno, "cannot delete %s", path) : 0;
}

int blockvol_record_lock(const char *dir, int *ret_fd, struct err *e)
{
	CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0 && errno == ENOENT) {
		return err_set(e, -ENOENT, "there are no volumes");
	}
	if (fd < 0) {
		return err_sys(e, errno, "cannot open %s", dir);
	}
	do {
		r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
	} while (r == -EINTR);
	if (r < 0) {
		return err_sys(e, r, "cannot lock %s", dir);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
