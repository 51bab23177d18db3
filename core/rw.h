/* SPDX-License-Identifier: Apache-2.0 */
/* Full reads and writes of file descriptors: no short counts, no EINTR. 0 or a negative errno;
 * a read that meets the end of the file is -EIO. */
#ifndef CORE_RW_H
#define CORE_RW_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

int rw_pread(int fd, void *buf, size_t len, uint64_t off);
int rw_pwrite(int fd, const void *buf, size_t len, uint64_t off);

/* The whole of a small file, NUL-terminated behind *ret_len bytes; *ret is malloc()ed. -EFBIG when
 * it is larger than @max. For sysfs, certificates, passwords, manifests. */
int rw_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e);

#endif
