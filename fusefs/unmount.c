/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk umount`: unmounts what is ours, dead or alive, and waits for the daemon to be gone, so
 * that its cache and its images are free when the command returns. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/rw.h"
#include "fusefs/fusefs.h"
#include "fusefs/kmount.h"
#include "fusefs/mounts.h"

/* How long the daemon may take to say who it is, and to end. */
#define ASK_MS 3000
#define END_MS 20000

/* In a process of its own: a daemon that hangs blocks whoever asks it, beyond SIGKILL. Only
 * async-signal-safe calls. */
static void ask_pid(const char *mountpoint, int out)
{
	char text[16];
	ssize_t n = getxattr(mountpoint, "user.lazydisk.pid", text, sizeof(text));

	if (n > 0) {
		(void)!write(out, text, (size_t)n);
	}
	_exit(0);
}

/* The process that serves @mountpoint, or 0: it is dead, or does not answer. */
static pid_t daemon_of(const char *mountpoint)
{
	CLEANUP_CLOSE int in = -1;
	char text[17] = "";
	struct pollfd p = { .events = POLLIN };
	pid_t child;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return 0;
	}
	in = fds[0];
	child = fork();
	if (child == 0) {
		ask_pid(mountpoint, fds[1]);
	}
	close(fds[1]);
	if (child < 0) {
		return 0;
	}
	p.fd = in;
	if (poll(&p, 1, ASK_MS) > 0) {
		(void)!read(in, text, sizeof(text) - 1);
		(void)waitpid(child, NULL, 0);
		return (pid_t)strtol(text, NULL, 10);
	}
	kill(child, SIGKILL);
	(void)waitpid(child, NULL, WNOHANG);
	return 0;
}

/* Whether process @pid has /dev/fuse open. The number came from a daemon that may live in another
 * PID namespace, where it means another process. */
static bool serves_fuse(pid_t pid)
{
	char dir[32];
	char target[32];
	struct dirent *d;
	bool found = false;
	DIR *fds;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	fds = opendir(dir);
	if (!fds) {
		return false;
	}
	while (!found && (d = readdir(fds)) != NULL) {
		ssize_t n = readlinkat(dirfd(fds), d->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		found = strcmp(target, "/dev/fuse") == 0;
	}
	closedir(fds);
	return found;
}

/* A pidfd of the daemon, or -1. */
static int open_daemon(const char *mountpoint, pid_t *ret_pid)
{
	pid_t pid = daemon_of(mountpoint);
	int fd = pid > 0 ? pidfd_open(pid, 0) : -1;

	if (fd >= 0 && !serves_fuse(pid)) {
		close(fd);
		return -1;
	}
	*ret_pid = pid;
	return fd;
}

static int wait_for_end(int pidfd, pid_t pid, struct err *e)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r;

	if (pidfd < 0) {
		return 0;
	}
	do {
		r = poll(&p, 1, END_MS);
	} while (r < 0 && errno == EINTR);
	if (r == 0) {
		return err_set(e, -ETIMEDOUT,
			"it is unmounted here, but process %d, which served it, goes on: another "
			"mount namespace (a container) may use it still; `kill %d` ends it",
			(int)pid, (int)pid);
	}
	return 0;
}

/* Whether @file is @dir or lies below it. */
static bool is_below(const char *file, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(file, dir, len) == 0 && (file[len] == '/' || file[len] == '\0');
}

/* Appends " /dev/loopN" for each loop device over a file below @dir, as far as there is room. */
static void list_loops(const char *dir, char *ret, size_t room)
{
	DIR *d = opendir("/sys/block");
	const struct dirent *block;
	size_t used = 0;

	while (d && (block = readdir(d)) != NULL) {
		char path[sizeof("/sys/block//loop/backing_file") + NAME_MAX];
		CLEANUP_FREE char *file = NULL;
		size_t len;

		snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", block->d_name);
		if (strncmp(block->d_name, "loop", 4) != 0 ||
			rw_read_file(path, 2 * PATH_MAX, &file, &len, NULL) < 0) {
			continue;
		}
		file[strcspn(file, "\n")] = '\0';
		if (is_below(file, dir) && used < room) {
			used += (size_t)snprintf(
				ret + used, room - used, " /dev/%s", block->d_name);
		}
	}
	if (d) {
		closedir(d);
	}
}

/* Says who may be the user; a loop device is the one that `fuser` does not show. */
static int in_use(const char *path, struct err *e)
{
	char loops[128] = "";

	list_loops(path, loops, sizeof(loops));
	if (*loops) {
		return err_set(e, -EBUSY,
			"%s is in use by%s: detach with `losetup -d`, then try again", path, loops);
	}
	return err_set(e, -EBUSY,
		"%s is in use: close what has its files open (`fuser -vm %s` shows who), then try "
		"again",
		path, path);
}

int fusefs_unmount(const char *mountpoint, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int pidfd = -1;
	struct mounts_entry entry;
	pid_t pid = 0;
	int r = mounts_resolve(mountpoint, &path, e);

	if (r < 0) {
		return r;
	}
	if (mounts_find(path, &entry, NULL) < 0) {
		return err_set(e, -EINVAL, "%s is not mounted", path);
	}
	if (strcmp(entry.type, MOUNTS_TYPE) != 0) {
		return err_set(
			e, -EINVAL, "%s is a mount of type %s, not of lazydisk", path, entry.type);
	}
	pidfd = open_daemon(path, &pid);
	r = kmount_unmount(path, false, e);
	if (r == -EBUSY) {
		return in_use(path, e);
	}
	return r < 0 ? r : wait_for_end(pidfd, pid, e);
}
