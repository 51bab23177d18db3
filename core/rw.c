/* SPDX-License-Identifier: Apache-2.0 */
/* Loops around pread() and pwrite(). */
#include "core/rw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/cleanup.h"

int rw_pread(int fd, void *buf, size_t len, uint64_t off)
{
	char *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int rw_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Reads until the end or until @max bytes are there; returns the count or a negative errno. */
static ssize_t read_up_to(int fd, char *buf, size_t max)
{
	size_t have = 0;

	while (have < max) {
		ssize_t n = read(fd, buf + have, max - have);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int rw_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct err *e)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *buf = NULL;
	ssize_t n;

	if (fd < 0) {
		return err_sys(e, errno, "%s", path);
	}
	buf = malloc(max + 2);
	if (!buf) {
		return err_set(e, -ENOMEM, "%s: out of memory", path);
	}
	n = read_up_to(fd, buf, max + 1);
	if (n < 0) {
		return err_sys(e, (int)n, "%s", path);
	}
	if ((size_t)n > max) {
		return err_set(e, -EFBIG, "%s: larger than %zu bytes", path, max);
	}
	buf[n] = '\0';
	*ret = TAKE_PTR(buf);
	*ret_len = (size_t)n;
	return 0;
}
