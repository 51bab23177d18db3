/* SPDX-License-Identifier: Apache-2.0 */
/* Read at once, replaced by rename. */
#include "cache/atfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "core/rw.h"

int atfile_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *e)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_FREE char *data = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		return err_sys(e, errno, "cache: read %s", name);
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > max) {
		return err_set(e, -EFBIG, "cache: %s is not a small file", name);
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = rw_pread(fd, data, (size_t)st.st_size, 0);
	if (r < 0) {
		return err_sys(e, r, "cache: read %s", name);
	}
	data[st.st_size] = '\0';
	*ret = TAKE_PTR(data);
	*ret_len = (size_t)st.st_size;
	return 0;
}

static int write_new(int dirfd, const char *name, const void *data, size_t len)
{
	CLEANUP_CLOSE int fd =
		openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0) {
		return -errno;
	}
	r = rw_pwrite(fd, data, len, 0);
	if (r == 0 && fsync(fd) < 0) {
		r = -errno;
	}
	return r;
}

int atfile_replace(int dirfd, const char *name, const void *data, size_t len, struct err *e)
{
	static _Atomic unsigned int serial;
	char tmp[64];
	int r;

	/* In containers, others have our pid, too, and who was killed left files. */
	do {
		snprintf(
			tmp, sizeof(tmp), "tmp.%d.%u", (int)getpid(), atomic_fetch_add(&serial, 1));
		r = write_new(dirfd, tmp, data, len);
	} while (r == -EEXIST);
	if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0) {
		r = -errno;
	}
	if (r < 0) {
		(void)unlinkat(dirfd, tmp, 0);
		return err_sys(e, r, "cache: write %s", name);
	}
	(void)fsync(dirfd);
	return 0;
}
