/* SPDX-License-Identifier: Apache-2.0 */
/* A block device as a target: opened exclusively, which the kernel refuses for one that is mounted
 * or held, and written past the page cache. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "tools/sink.h"

/* BLKZEROOUT may fall back to writing zeros: a piece at a time it can be interrupted. */
#define ZEROOUT_PIECE MIB(128)

/* Ways to zero, cheapest first. The first that works for this device is remembered. */
enum way {
	WAY_PUNCH,   /* frees the space; guaranteed to read as zeros, else refused */
	WAY_ZEROOUT, /* keeps the space */
	WAY_WRITE,
};

struct sink_block {
	struct sink sink;
	int fd; /* O_DIRECT */
	_Atomic int way;
	bool is_zero;
};

static struct sink_block *block_of(struct sink *s)
{
	return (struct sink_block *)s;
}

static int block_write(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = rw_pwrite(block_of(s)->fd, buf, round_up(len, s->sector), off);

	return r < 0 ? err_sys(e, r, "write %s at byte %" PRIu64, s->path, off) : 0;
}

static int block_read(struct sink *s, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = rw_pread(block_of(s)->fd, buf, round_up(len, s->sector), off);

	return r < 0 ? err_sys(e, r, "read %s back at byte %" PRIu64, s->path, off) : 0;
}

static int zero_out(int fd, uint64_t off, uint64_t len)
{
	while (len > 0) {
		uint64_t range[2] = { off, min_u64(len, ZEROOUT_PIECE) };

		if (ioctl(fd, BLKZEROOUT, range) < 0) {
			return -errno;
		}
		off += range[1];
		len -= range[1];
	}
	return 0;
}

static int zero_by(int fd, enum way way, uint64_t off, uint64_t len)
{
	switch (way) {
	case WAY_PUNCH:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			       (off_t)len) < 0
			       ? -errno
			       : 0;
	case WAY_ZEROOUT:
		return zero_out(fd, off, len);
	case WAY_WRITE:
	default:
		return sink_write_zeros(fd, off, len);
	}
}

static bool is_refusal(int r)
{
	return r == -EOPNOTSUPP || r == -ENOTTY || r == -EINVAL || r == -ENODEV || r == -EREMOTEIO;
}

static int block_zero(struct sink *s, uint64_t off, uint64_t len, struct err *e)
{
	struct sink_block *b = block_of(s);
	int way = b->way;
	int r;

	/* The rest of the sector in which the image ends goes with what is before it. */
	len = round_up(off + len, s->sector);
	off = round_up(off, s->sector);
	len -= off;
	if (b->is_zero || len == 0) {
		return 0;
	}
	r = zero_by(b->fd, (enum way)way, off, len);
	while (is_refusal(r) && way < WAY_WRITE) {
		b->way = ++way;
		r = zero_by(b->fd, (enum way)way, off, len);
	}
	return r < 0 ? err_sys(e, r, "zero %s at byte %" PRIu64, s->path, off) : 0;
}

static int block_flush(struct sink *s, struct err *e)
{
	return fsync(block_of(s)->fd) < 0 ? err_sys(e, errno, "fsync %s", s->path) : 0;
}

static int block_resize(struct sink *s, uint64_t size, struct err *e)
{
	if (size > s->size) {
		return err_set(e, -ENOSPC,
			"%s is too small: it has %" PRIu64 " bytes, and %" PRIu64 " are needed",
			s->path, s->size, size);
	}
	return 0;
}

/* Only a loop device tells what stands behind it. */
static int block_allocated(struct sink *s, uint64_t *ret, struct err *e)
{
	CLEANUP_FREE char *backing = NULL;
	struct stat st;
	char attr[80];
	size_t len;

	if (fstat(block_of(s)->fd, &st) < 0) {
		return err_sys(e, errno, "%s", s->path);
	}
	snprintf(attr, sizeof(attr), "/sys/dev/block/%u:%u/loop/backing_file", major(st.st_rdev),
		minor(st.st_rdev));
	if (rw_read_file(attr, 8192, &backing, &len, NULL) < 0) {
		return err_set(
			e, -ENOTSUP, "%s does not tell how much of it is allocated", s->path);
	}
	backing[strcspn(backing, "\n")] = '\0';
	if (stat(backing, &st) < 0) {
		return err_set(e, -ENOTSUP, "the file behind %s is out of reach", s->path);
	}
	*ret = (uint64_t)st.st_blocks * 512;
	return 0;
}

static void block_close(struct sink *s)
{
	close(block_of(s)->fd);
	free(s);
}

static const struct sink_ops block_ops = {
	.write = block_write,
	.zero = block_zero,
	.read = block_read,
	.flush = block_flush,
	.resize = block_resize,
	.allocated = block_allocated,
	.close = block_close,
};

/* Where the device is mounted, for the message. */
static bool mounted_at(const char *path, char *ret, size_t room)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096];
	char want[32];
	struct stat st;

	if (!f || stat(path, &st) < 0) {
		return false;
	}
	snprintf(want, sizeof(want), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
	while (fgets(line, sizeof(line), f)) {
		char dev[32];
		char at[4000];

		if (sscanf(line, "%*d %*d %31s %*s %3999s", dev, at) == 2 &&
			strcmp(dev, want) == 0) {
			snprintf(ret, room, "%s", at);
			return true;
		}
	}
	return false;
}

static int open_device(const char *path, int *ret, struct err *e)
{
	int readonly = 0;
	char at[4000];
	int fd;

	if (mounted_at(path, at, sizeof(at))) {
		return err_set(e, -EBUSY, "%s is mounted at %.300s: unmount it first", path, at);
	}
	fd = open(path, O_RDWR | O_EXCL | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY) {
		return err_set(e, -EBUSY,
			"%s is in use: mounted elsewhere, a swap area, or part of LVM, RAID or a mapping",
			path);
	}
	if (fd < 0) {
		return err_sys(e, errno, "the target %s", path);
	}
	/* As root one opens it all the same. */
	if (ioctl(fd, BLKROGET, &readonly) == 0 && readonly) {
		close(fd);
		return err_set(e, -EROFS, "%s is read-only", path);
	}
	*ret = fd;
	return 0;
}

static int check_size(const struct sink_opts *o, uint64_t size, struct err *e)
{
	if (o->size > size) {
		return err_set(e, -ENOSPC,
			"%s is too small: it has %" PRIu64 " bytes, and %" PRIu64 " are needed",
			o->path, size, o->size);
	}
	return 0;
}

int sink_block_open(const struct sink_opts *o, struct sink **ret, struct err *e)
{
	CLEANUP_CLOSE int fd = -1;
	struct sink_block *b;
	uint64_t size;
	int sector;
	int r = open_device(o->path, &fd, e);

	if (r < 0) {
		return r;
	}
	if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0) {
		return err_sys(e, errno, "ask %s for its size", o->path);
	}
	r = check_size(o, size, e);
	if (r < 0) {
		return r;
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	b->sink = (struct sink){ &block_ops, o->path, size, (uint32_t)sector };
	b->fd = TAKE_FD(fd);
	b->is_zero = o->is_zero && o->prealloc == SINK_PREALLOC_OFF;
	b->way = o->prealloc == SINK_PREALLOC_OFF      ? WAY_PUNCH
		 : o->prealloc == SINK_PREALLOC_FALLOC ? WAY_ZEROOUT
						       : WAY_WRITE;
	*ret = &b->sink;
	return 0;
}
