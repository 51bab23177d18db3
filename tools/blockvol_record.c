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
#include "core/rw.h"
#include "tools/kube_name.h"
#include "tools/loopdev.h"
#include "tools/options.h"

#define DEFAULT_DIR "/var/lib/lazydisk/volumes"
#define RECORD_MAX  65536

static void drop_json(json_t **root)
{
	json_decref(*root);
}

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
	CLEANUP(drop_json) json_t *root = NULL;
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r;

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		return err_set(e, -ENOENT, "there is no volume %s", name);
	}
	r = rw_read_file(path, RECORD_MAX, &text, &len, e);
	if (r < 0) {
		return r;
	}
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	r = root ? from_json(root, name, ret) : -EBADMSG;
	return r == 0 ? 0
		      : err_set(e, r, "%s cannot be understood; delete it to forget the volume",
				path);
}

static int write_synced(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : rw_pwrite(fd, text, strlen(text), 0);

	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int blockvol_record_save(const char *dir, const struct blockvol *v, struct err *e)
{
	CLEANUP_FREE char *path = blockvol_record_path(dir, v->name, ".json");
	CLEANUP_FREE char *tmp = blockvol_record_path(dir, v->name, ".json~");
	CLEANUP(drop_json)
	json_t *root = json_pack("{s:i, s:s, s:s, s:s, s:I, s:i}", "version", 1, "file", v->file,
		"node", v->node, "storage_class", v->storage_class, "size", (json_int_t)v->size,
		"loop", v->last_number);
	CLEANUP_FREE char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	int r;

	if (!path || !tmp || !text) {
		return err_set(
			e, -EINVAL, "the path %s cannot be recorded: it is not UTF-8", v->file);
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
