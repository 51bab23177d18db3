/* SPDX-License-Identifier: Apache-2.0 */
/* What all targets have in common: finding out of which kind one is, and zeros by hand. */
#include "tools/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define ZEROS_SIZE MIB(1)

static bool is_same(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode)) {
		return S_ISBLK(b->st_mode) && a->st_rdev == b->st_rdev;
	}
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* What the process was started with is open without close-on-exec: a lock that a script holds on
 * the target, a redirection. What it opened itself has it. */
static bool is_inherited(const char *fd)
{
	int flags = fcntl((int)strtol(fd, NULL, 10), F_GETFD);

	return flags < 0 || !(flags & FD_CLOEXEC);
}

/* Whether this process opened it already: then it is the image, or one of its backing files. */
static bool is_open(const struct stat *target)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *d;
	bool found = false;

	while (dir && !found && (d = readdir(dir))) {
		struct stat st;

		found = d->d_name[0] != '.' && !is_inherited(d->d_name) &&
			fstatat(dirfd(dir), d->d_name, &st, 0) == 0 && is_same(target, &st);
	}
	if (dir) {
		closedir(dir);
	}
	return found;
}

/* The file behind a loop device. False: it is none, or its file is out of reach. */
static bool stat_backing(const struct stat *device, struct stat *ret)
{
	CLEANUP_FREE char *backing = NULL;
	char attr[80];
	size_t len;

	snprintf(attr, sizeof(attr), "/sys/dev/block/%u:%u/loop/backing_file",
		major(device->st_rdev), minor(device->st_rdev));
	if (rw_read_file(attr, 8192, &backing, &len, NULL) < 0) {
		return false;
	}
	backing[strcspn(backing, "\n")] = '\0';
	return stat(backing, ret) == 0;
}

/* Tells one file behind a loop device from the next. */
static void add_backing(const struct stat *device, char *ret, size_t room)
{
	struct stat st;

	if (stat_backing(device, &st)) {
		snprintf(ret, room, " file %" PRIx64 ":%" PRIu64, (uint64_t)st.st_dev,
			(uint64_t)st.st_ino);
	}
}

int sink_identity(const char *path, char **ret, bool *ret_device, struct err *e)
{
	char backing[80] = "";
	struct stat st;
	int n;

	if (stat(path, &st) < 0) {
		return err_sys(e, errno, "the target %s", path);
	}
	if (S_ISBLK(st.st_mode)) {
		add_backing(&st, backing, sizeof(backing));
		n = asprintf(ret, "device %" PRIx64 "%s", (uint64_t)st.st_rdev, backing);
	} else {
		n = asprintf(
			ret, "file %" PRIx64 ":%" PRIu64, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
	}
	if (n < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret_device = S_ISBLK(st.st_mode);
	return 0;
}

/* Where device nodes are: below /dev, and not what is mounted there (/dev/shm). */
static bool is_for_devices(const char *dir)
{
	struct stat dev;
	struct stat st;

	return (strcmp(dir, "/dev") == 0 || strncmp(dir, "/dev/", 5) == 0) &&
	       stat("/dev", &dev) == 0 && stat(dir, &st) == 0 && st.st_dev == dev.st_dev;
}

/* A file that is new. In /dev it would be one in memory, made of a device's name misspelt. */
static int open_new(const struct sink_opts *o, struct sink **ret, struct err *e)
{
	CLEANUP_FREE char *path = strdup(o->path);
	CLEANUP_FREE char *dir = path ? realpath(dirname(path), NULL) : NULL;

	if (dir && is_for_devices(dir)) {
		return err_set(e, -ENOENT, "the target %s: there is no such device", o->path);
	}
	return sink_file_open(o, ret, e);
}

int sink_open(const struct sink_opts *o, struct sink **ret, struct err *e)
{
	struct stat backing;
	struct stat st;

	if (!*o->path) {
		return err_set(e, -ENOENT, "the name of the target is empty");
	}
	if (stat(o->path, &st) < 0) {
		return errno == ENOENT ? open_new(o, ret, e)
				       : err_sys(e, errno, "the target %s", o->path);
	}
	if (is_open(&st) ||
		(S_ISBLK(st.st_mode) && stat_backing(&st, &backing) && is_open(&backing))) {
		return err_set(e, -EBUSY, "the target %s is the image that is to be read", o->path);
	}
	if (S_ISREG(st.st_mode)) {
		return sink_file_open(o, ret, e);
	}
	if (S_ISBLK(st.st_mode)) {
		return sink_block_open(o, ret, e);
	}
	return err_set(
		e, -ENOTSUP, "the target %s is neither a regular file nor a block device", o->path);
}

void sink_close(struct sink *s)
{
	if (s) {
		s->ops->close(s);
	}
}

int sink_write_zeros(int fd, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[ZEROS_SIZE] __attribute__((aligned(SINK_ALIGN)));

	while (len > 0) {
		size_t n = min_u64(len, ZEROS_SIZE);
		int r = rw_pwrite(fd, zeros, n, off);

		if (r < 0) {
			return r;
		}
		off += n;
		len -= n;
	}
	return 0;
}
