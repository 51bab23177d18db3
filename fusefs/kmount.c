/* SPDX-License-Identifier: Apache-2.0 */
/* mount(2) with a descriptor of /dev/fuse, or fusermount3, which passes one over a socket. */
#include "fusefs/kmount.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"
#include "fusefs/helper.h"
#include "fusefs/mounts.h"

#define DEVICE "/dev/fuse"
/* linux/miscdevice.h has it, which is not for programs. */
#define FUSE_MINOR 229U
#define FUSECONF   "/etc/fuse.conf"
/* The kernel takes less than a page of it. */
#define FSNAME_MAX 1024

static int check_mountpoint(const char *path, struct err *e)
{
	struct mounts_entry entry;
	struct stat st;
	bool ours = mounts_find(path, &entry, NULL) == 0 && strcmp(entry.type, MOUNTS_TYPE) == 0;

	if (stat(path, &st) < 0) {
		if (errno == ENOTCONN || errno == ECONNABORTED) {
			return err_set(e, -ENOTCONN,
				"%s is the mount of a daemon that has died: run `lazydisk umount %s` "
				"first",
				path, path);
		}
		if (errno == ENOENT) {
			return err_set(e, -ENOENT,
				"the mountpoint %s does not exist: create it "
				"with mkdir",
				path);
		}
		return err_sys(e, errno, "the mountpoint %s", path);
	}
	if (ours) {
		return err_set(e, -EBUSY,
			"%s is already mounted: run `lazydisk umount %s` first, or choose another "
			"directory",
			path, path);
	}
	if (!S_ISDIR(st.st_mode)) {
		return err_set(e, -ENOTDIR, "the mountpoint %s is not a directory", path);
	}
	return 0;
}

static int no_device(int errnum, struct err *e)
{
	if (errnum == ENOENT || errnum == ENODEV || errnum == ENXIO) {
		return err_set(e, -ENODEV,
			DEVICE " is missing: load the fuse module (modprobe fuse), or pass "
			       "--device " DEVICE " to the container");
	}
	return err_sys(
		e, errnum, "open " DEVICE " (in a container: pass --device " DEVICE " to it)");
}

/* Containers hide a device by something else in its place, which opens, but mounts nothing. */
static bool is_device(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(MISC_MAJOR, FUSE_MINOR);
}

static int open_device(int *ret, struct err *e)
{
	CLEANUP_CLOSE int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		return no_device(errno, e);
	}
	if (!is_device(fd)) {
		return err_set(e, -ENODEV,
			DEVICE " is hidden by another file: pass --device " DEVICE
			       " to the container");
	}
	*ret = TAKE_FD(fd);
	return 0;
}

static int mount_directly(const struct kmount_opts *opts, int *ret_fd, struct err *e)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | (opts->writable ? 0 : MS_RDONLY);
	CLEANUP_CLOSE int fd = -1;
	char source[FSNAME_MAX];
	char data[200];
	int r = open_device(&fd, e);

	if (r < 0) {
		return r;
	}
	snprintf(source, sizeof(source), "%s", opts->fsname);
	snprintf(data, sizeof(data),
		"fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions%s", fd, S_IFDIR,
		getuid(), getgid(), opts->allow_other ? ",allow_other" : "");
	if (mount(source, opts->mountpoint, MOUNTS_TYPE, flags, data) < 0) {
		if (errno == ENODEV) {
			return no_device(errno, e);
		}
		if (errno == EPERM) {
			return err_set(e, -EPERM,
				"mounting at %s is not permitted: it needs CAP_SYS_ADMIN (in a "
				"container: --cap-add SYS_ADMIN)",
				opts->mountpoint);
		}
		return err_sys(e, errno, "mount at %s", opts->mountpoint);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Whether /etc/fuse.conf has a line "user_allow_other". */
static bool others_may(void)
{
	CLEANUP_FREE char *text = NULL;
	char *save = NULL;
	size_t len;

	if (rw_read_file(FUSECONF, 1 << 20, &text, &len, NULL) < 0) {
		return false;
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		while (isspace((unsigned char)*line)) {
			line++;
		}
		if (strncmp(line, "user_allow_other", 16) == 0 &&
			strspn(line + 16, " \t\r") == strlen(line + 16)) {
			return true;
		}
	}
	return false;
}

/* The -o of fusermount3, whose lists are parted by commas. malloc()ed, or NULL. */
static char *helper_options(const struct kmount_opts *opts)
{
	char escaped[2 * FSNAME_MAX];
	size_t n = 0;
	char *text;

	for (const char *p = opts->fsname; *p && n < sizeof(escaped) - 3; p++) {
		if (*p == ',' || *p == '\\') {
			escaped[n++] = '\\';
		}
		escaped[n++] = *p;
	}
	escaped[n] = '\0';
	if (asprintf(&text, "fsname=%s,subtype=lazydisk,nosuid,nodev,default_permissions%s%s",
		    escaped, opts->writable ? "" : ",ro",
		    opts->allow_other ? ",allow_other" : "") < 0) {
		return NULL;
	}
	return text;
}

/* Takes the descriptor that fusermount3 sent, a message of one byte with one descriptor. */
static int take_fd(int sock, int *ret)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0) {
		return -EPROTO;
	}
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		c->cmsg_len != CMSG_LEN(sizeof(int))) {
		return -EPROTO;
	}
	memcpy(ret, CMSG_DATA(c), sizeof(int));
	return 0;
}

static int mount_by_helper(const struct kmount_opts *opts, int *ret_fd, struct err *e)
{
	CLEANUP_FREE char *options = helper_options(opts);
	const char *args[] = { "-o", options, "--", opts->mountpoint, NULL };
	CLEANUP_CLOSE int ours = -1;
	struct helper_text text;
	int pair[2];
	int r;

	if (!options) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		return err_sys(e, errno, "socketpair");
	}
	ours = pair[0];
	r = helper_run(args, pair[1], &text, e);
	close(pair[1]);
	if (r < 0) {
		return r == -EIO
			       ? err_set(e, -EPERM, "mount at %s: %s", opts->mountpoint, text.text)
			       : r;
	}
	if (take_fd(ours, ret_fd) < 0) {
		return err_set(e, -EPROTO, "fusermount3 did not pass a connection to the kernel");
	}
	return 0;
}

static int mount_as_user(const struct kmount_opts *opts, int *ret_fd, struct err *e)
{
	if (access(DEVICE, F_OK) < 0) {
		return no_device(errno, e);
	}
	if (access(DEVICE, R_OK | W_OK) < 0) {
		return err_set(e, -EACCES,
			"only root may open " DEVICE
			" here: mount as root, or have root run `chmod "
			"666 " DEVICE "`");
	}
	if (access(opts->mountpoint, W_OK) < 0) {
		return err_set(e, -EACCES,
			"the mountpoint %s is not yours: one who is not root mounts on directories "
			"that they can write to",
			opts->mountpoint);
	}
	if (opts->allow_other && !others_may()) {
		return err_set(e, -EPERM,
			"--allow-other is for root: others need the line user_allow_other "
			"in " FUSECONF);
	}
	return mount_by_helper(opts, ret_fd, e);
}

int kmount_mount(const struct kmount_opts *opts, int *ret_fd, struct err *e)
{
	int r = check_mountpoint(opts->mountpoint, e);

	if (r < 0) {
		return r;
	}
	return geteuid() == 0 ? mount_directly(opts, ret_fd, e) : mount_as_user(opts, ret_fd, e);
}

static int unmount_by_helper(const char *mountpoint, bool lazy, struct err *e)
{
	const char *args[] = { "-u", "--", mountpoint, NULL };
	const char *lazy_args[] = { "-u", "-z", "--", mountpoint, NULL };
	struct helper_text text;
	int r = helper_run(lazy ? lazy_args : args, -1, &text, e);

	if (r != -EIO) {
		return r;
	}
	/* It looks only at what its own user mounted. */
	if (strcasestr(text.text, "not found in")) {
		return err_set(e, -EPERM,
			"%s is not yours: only root and the user who mounted it can unmount it",
			mountpoint);
	}
	return err_set(e, strcasestr(text.text, "busy") ? -EBUSY : -EPERM, "unmount %s: %s",
		mountpoint, text.text);
}

int kmount_unmount(const char *mountpoint, bool lazy, struct err *e)
{
	if (umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) {
		return 0;
	}
	if (errno == EPERM) {
		return unmount_by_helper(mountpoint, lazy, e);
	}
	return err_sys(e, errno, "unmount %s", mountpoint);
}
