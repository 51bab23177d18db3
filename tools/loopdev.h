/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loop devices: a file seen as a block device. Devices are known by their number: 10 is
 * /dev/loop10. Needs root. See loop(4) and linux/loop.h.
 */
#ifndef TOOLS_LOOPDEV_H
#define TOOLS_LOOPDEV_H

#include <stdbool.h>
#include <sys/stat.h>

#include "core/err.h"

/* No device. */
#define LOOPDEV_NONE (-1)

/* Room for the path of a device. */
#define LOOPDEV_PATH_MAX 32

/* Fills @buf (LOOPDEV_PATH_MAX bytes) with "/dev/loopN" and returns it. */
char *loopdev_path(int number, char *buf);

/* Attaches the file @fd (open for writing; may be closed afterwards), whose path is @file, with
 * sectors of 512 bytes: to device @wanted when that is free, else (or when it is LOOPDEV_NONE) to
 * any. *ret_direct: whether the device bypasses the page cache of the file, which is asked for but
 * not possible on every filesystem. */
int loopdev_attach(
	int fd, const char *file, int wanted, int *ret_number, bool *ret_direct, struct err *e);

/* The first device that shows the file @st, or LOOPDEV_NONE. */
int loopdev_find(const struct stat *st, int *ret_number, struct err *e);

/* Whether somebody holds the device for himself: mounted, under a mapping, swapped to. */
bool loopdev_is_claimed(int number);

/* Detaches the device, if it shows the file @st. -EBUSY when anybody has it open; then it stays
 * attached. */
int loopdev_detach(int number, const struct stat *st, struct err *e);

#endif
