/* SPDX-License-Identifier: Apache-2.0 */
/* The mark of a data file that was lent, and how it goes again. */
#include "cache/lent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/cleanup.h"

#define MARK "lent"

int lent_mark(int dirfd)
{
	CLEANUP_CLOSE int fd =
		openat(dirfd, MARK, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : 0;
}

void lent_unmark(int dirfd)
{
	(void)unlinkat(dirfd, MARK, 0);
}

bool lent_is_marked(int dirfd)
{
	return faccessat(dirfd, MARK, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* The kernel gives a lease for writing to who is the only one that has the file open. While we have
 * it, others who open the file wait: none of them can lend it before the mark is gone, and after
 * that they make one of their own. It tells us so with a signal, which by default ends us: that of
 * another kind is ignored. */
static bool take_lease(int data, unsigned int patience_ms)
{
	if (fcntl(data, F_SETSIG, SIGURG) < 0) {
		return false;
	}
	while (fcntl(data, F_SETLEASE, F_WRLCK) < 0) {
		if (errno != EAGAIN || patience_ms-- == 0) {
			return false;
		}
		usleep(1000);
	}
	return true;
}

void lent_settle(int dirfd, int data, unsigned int patience_ms)
{
	if (!lent_is_marked(dirfd) || !take_lease(data, patience_ms)) {
		return;
	}
	lent_unmark(dirfd);
	(void)fcntl(data, F_SETLEASE, F_UNLCK);
}

void lent_settle_unused(int dirfd)
{
	CLEANUP_CLOSE int data = -1;

	if (!lent_is_marked(dirfd)) {
		return;
	}
	data = openat(dirfd, "data", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (data >= 0) {
		lent_settle(dirfd, data, 0);
	}
}
