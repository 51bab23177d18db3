/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching, finding and detaching loop devices. */
#include "tools/loopdev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "core/cleanup.h"

#define SECTOR 512

/* A device that was free a moment ago may be somebody else's now. */
#define ATTACH_TRIES 64

/* udev looks into a device whenever it changes; it does not take long. */
#define BUSY_TRIES   40
#define BUSY_WAIT_NS 50000000

char *loopdev_path(int number, char *buf)
{
	snprintf(buf, LOOPDEV_PATH_MAX, "/dev/loop%d", number);
	return buf;
}

static int open_device(int number, int flags)
{
	char path[LOOPDEV_PATH_MAX];

	return open(loopdev_path(number, path), flags | O_CLOEXEC);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = BUSY_WAIT_NS }, NULL);
}

static int open_control(struct err *e)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_sys(e, errno, "loop devices need root and /dev/loop-control") : fd;
}

/* The device's node is made by devtmpfs at once, or by udev soon; in a container by nobody. */
static int open_new(int number)
{
	int fd = open_device(number, O_RDWR);

	for (int i = 0; fd < 0 && errno == ENOENT && i < BUSY_TRIES / 4; i++) {
		nap();
		fd = open_device(number, O_RDWR);
	}
	return fd < 0 ? -errno : fd;
}

/* As LOOP_CONFIGURE; a kernel that cannot have direct I/O on this file may refuse to try. */
static int configure(int device, int fd, const char *file)
{
	struct loop_config config = {
		.fd = (uint32_t)fd,
		.block_size = SECTOR,
		.info = { .lo_flags = LO_FLAGS_DIRECT_IO },
	};

	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", file);
	if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
		return 0;
	}
	if (errno != EINVAL) {
		return -errno;
	}
	config.info.lo_flags = 0;
	return ioctl(device, LOOP_CONFIGURE, &config) == 0 ? 0 : -errno;
}

static int attach_to(int number, int fd, const char *file, bool *ret_direct)
{
	struct loop_info64 info = { 0 };
	CLEANUP_CLOSE int device = open_new(number);
	int r = device < 0 ? device : configure(device, fd, file);

	if (r == 0 && ioctl(device, LOOP_GET_STATUS64, &info) == 0) {
		*ret_direct = info.lo_flags & LO_FLAGS_DIRECT_IO;
	}
	return r;
}

static int attach_any(
	int control, int fd, const char *file, int *ret_number, bool *ret_direct, struct err *e)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < ATTACH_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0) {
			return err_sys(e, errno, "there is no free loop device");
		}
		r = attach_to(number, fd, file, ret_direct);
		if (r < 0 && r != -EBUSY) {
			return err_sys(e, r, "cannot attach %s to /dev/loop%d", file, number);
		}
		*ret_number = r == 0 ? number : *ret_number;
	}
	return r == 0 ? 0 : err_set(e, r, "every free loop device is taken before it is ours");
}

int loopdev_attach(
	int fd, const char *file, int wanted, int *ret_number, bool *ret_direct, struct err *e)
{
	CLEANUP_CLOSE int control = open_control(e);

	*ret_direct = false;
	if (control < 0) {
		return control;
	}
	if (wanted != LOOPDEV_NONE) {
		int r = ioctl(control, LOOP_CTL_ADD, wanted);

		if ((r >= 0 || errno == EEXIST) && attach_to(wanted, fd, file, ret_direct) == 0) {
			*ret_number = wanted;
			return 0;
		}
	}
	return attach_any(control, fd, file, ret_number, ret_direct, e);
}

/* The kernel tells the file's device as it does in struct stat: major and minor mixed. */
static bool shows(int device, const struct stat *st, struct loop_info64 *ret)
{
	return ioctl(device, LOOP_GET_STATUS64, ret) == 0 && ret->lo_inode == st->st_ino &&
	       ret->lo_device ==
		       (((uint64_t)minor(st->st_dev) & 0xff) | (uint64_t)major(st->st_dev) << 8 |
			       ((uint64_t)minor(st->st_dev) & ~0xffULL) << 12);
}

/* The number in "loop10", or LOOPDEV_NONE. */
static int number_of(const char *name)
{
	char *end = NULL;
	unsigned long n;

	if (strncmp(name, "loop", 4) != 0 || name[4] < '0' || name[4] > '9') {
		return LOOPDEV_NONE;
	}
	n = strtoul(name + 4, &end, 10);
	return *end || n > 0xfffff ? LOOPDEV_NONE : (int)n;
}

/* Devices without a file have no directory "loop" in sysfs: they are not opened. */
static bool has_file(const char *name)
{
	char path[64];

	return snprintf(path, sizeof(path), "/sys/block/%.20s/loop/backing_file", name) > 0 &&
	       access(path, F_OK) == 0;
}

int loopdev_find(const struct stat *st, int *ret_number, struct err *e)
{
	DIR *dir = opendir("/sys/block");
	int found = LOOPDEV_NONE;
	struct dirent *entry;

	if (!dir) {
		return err_sys(e, errno, "cannot read /sys/block");
	}
	while (found == LOOPDEV_NONE && (entry = readdir(dir))) {
		int number = number_of(entry->d_name);
		struct loop_info64 info;

		if (number != LOOPDEV_NONE && has_file(entry->d_name)) {
			CLEANUP_CLOSE int device = open_device(number, O_RDONLY);

			found = device >= 0 && shows(device, st, &info) ? number : found;
		}
	}
	closedir(dir);
	*ret_number = found;
	return 0;
}

bool loopdev_is_claimed(int number)
{
	CLEANUP_CLOSE int fd = open_device(number, O_RDONLY | O_EXCL);

	return fd < 0 && errno == EBUSY;
}

/* While others have the device open, the kernel only promises to detach it when they are done: that
 * promise is taken back, because it would take the device away from under somebody. */
static int try_detach(int number, const struct stat *st)
{
	CLEANUP_CLOSE int device = open_device(number, O_RDONLY | O_EXCL);
	struct loop_info64 info;

	if (device < 0) {
		return -errno;
	}
	if (!shows(device, st, &info)) {
		return 0;
	}
	if (ioctl(device, LOOP_CLR_FD, 0) < 0) {
		return -errno;
	}
	if (!shows(device, st, &info)) {
		return 0;
	}
	info.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
	ioctl(device, LOOP_SET_STATUS64, &info);
	return -EBUSY;
}

int loopdev_detach(int number, const struct stat *st, struct err *e)
{
	int r = try_detach(number, st);

	for (int i = 0; r == -EBUSY && i < BUSY_TRIES; i++) {
		nap();
		r = try_detach(number, st);
	}
	if (r == -EBUSY) {
		return err_set(
			e, r, "/dev/loop%d is in use: mounted, or open in a program", number);
	}
	return r < 0 ? err_sys(e, r, "cannot detach /dev/loop%d", number) : 0;
}
