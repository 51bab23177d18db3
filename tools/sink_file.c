/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file as a target. It gets its final size at once, so that all of it reads as zeros, and
 * data is written past the page cache where the file system can do that. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "tools/sink.h"

struct sink_file {
	struct sink sink;
	int fd;     /* buffered: ends that are not aligned, holes */
	int direct; /* O_DIRECT, or -1 */
	enum sink_prealloc prealloc;
	bool blank; /* nothing was in it before: what was not written reads as zeros */
};

static struct sink_file *file_of(struct sink *s)
{
	return (struct sink_file *)s;
}

static int failed(const struct sink *s, int code, uint64_t off, struct err *e)
{
	bool full = code == -ENOSPC || code == -EDQUOT;

	if (full && s->size == 0) { /* of a stream: nobody knows yet */
		return err_set(e, code, "%s: no space left at byte %" PRIu64, s->path, off);
	}
	if (full) {
		return err_set(e, code, "%s: no space left at byte %" PRIu64 " of %" PRIu64,
			s->path, off, s->size);
	}
	return err_sys(e, code, "write %s at byte %" PRIu64, s->path, off);
}

/* The aligned part goes past the page cache, what is left of the end through it. */
static int file_write(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct sink_file *f = file_of(s);
	size_t whole = f->direct >= 0 ? round_down(len, SINK_ALIGN) : 0;
	int r = whole ? rw_pwrite(f->direct, buf, whole, off) : 0;

	if (r == -EINVAL) {
		whole = 0; /* stricter than we know: the page cache takes all */
		r = 0;
	}
	if (r == 0 && whole < len) {
		r = rw_pwrite(f->fd, (const uint8_t *)buf + whole, len - whole, off + whole);
	}
	return r < 0 ? failed(s, r, off, e) : 0;
}

static int file_zero(struct sink *s, uint64_t off, uint64_t len, struct err *e)
{
	struct sink_file *f = file_of(s);
	int r = 0;

	if (f->prealloc == SINK_PREALLOC_FULL) {
		r = sink_write_zeros(
			f->direct >= 0 && off % SINK_ALIGN == 0 && len % SINK_ALIGN == 0 ? f->direct
											 : f->fd,
			off, len);
	} else if (!f->blank) {
		int how = f->prealloc == SINK_PREALLOC_OFF ? FALLOC_FL_PUNCH_HOLE
							   : FALLOC_FL_ZERO_RANGE;

		if (fallocate(f->fd, how | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0) {
			r = sink_write_zeros(f->fd, off, len);
		}
	}
	return r < 0 ? failed(s, r, off, e) : 0;
}

static int file_read(struct sink *s, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct sink_file *f = file_of(s);
	size_t whole = f->direct >= 0 ? round_down(len, SINK_ALIGN) : 0;
	int r = whole ? rw_pread(f->direct, buf, whole, off) : 0;

	if (r == -EINVAL) {
		whole = 0;
		r = 0;
	}
	if (r == 0 && whole < len) {
		posix_fadvise(
			f->fd, (off_t)(off + whole), (off_t)(len - whole), POSIX_FADV_DONTNEED);
		r = rw_pread(f->fd, (uint8_t *)buf + whole, len - whole, off + whole);
	}
	return r < 0 ? err_sys(e, r, "read %s back at byte %" PRIu64, s->path, off) : 0;
}

/* Reserves what the preallocation asks for. */
static int reserve(struct sink_file *f, uint64_t size, struct err *e)
{
	if (f->prealloc == SINK_PREALLOC_OFF || size == 0 ||
		fallocate(f->fd, 0, 0, (off_t)size) == 0) {
		return 0;
	}
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
		return err_sys(e, errno, "reserve %" PRIu64 " bytes for %s", size, f->sink.path);
	}
	/* No fallocate() here: zeros that are written take space, too. */
	f->prealloc = SINK_PREALLOC_FULL;
	return 0;
}

static int file_resize(struct sink *s, uint64_t size, struct err *e)
{
	struct sink_file *f = file_of(s);

	if (ftruncate(f->fd, (off_t)size) < 0) {
		return err_sys(e, errno, "make %s %" PRIu64 " bytes long", s->path, size);
	}
	s->size = size;
	return reserve(f, size, e);
}

static int file_flush(struct sink *s, struct err *e)
{
	return fsync(file_of(s)->fd) < 0 ? err_sys(e, errno, "fsync %s", s->path) : 0;
}

static int file_allocated(struct sink *s, uint64_t *ret, struct err *e)
{
	struct stat st;

	if (fstat(file_of(s)->fd, &st) < 0) {
		return err_sys(e, errno, "%s", s->path);
	}
	*ret = (uint64_t)st.st_blocks * 512;
	return 0;
}

static void file_close(struct sink *s)
{
	struct sink_file *f = file_of(s);

	if (f->fd >= 0) {
		close(f->fd);
	}
	if (f->direct >= 0) {
		close(f->direct);
	}
	free(f);
}

static const struct sink_ops file_ops = {
	.write = file_write,
	.zero = file_zero,
	.read = file_read,
	.flush = file_flush,
	.resize = file_resize,
	.allocated = file_allocated,
	.close = file_close,
};

/* Whether a loop device shows the file: then somebody else reads and writes it. */
static bool backs_loop(const char *path, char *ret_device, size_t room)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	DIR *dir = opendir("/sys/block");
	const struct dirent *d;
	bool found = false;

	while (real && dir && !found && (d = readdir(dir))) {
		CLEANUP_FREE char *backing = NULL;
		char attr[300];
		size_t len;

		if (strncmp(d->d_name, "loop", 4) != 0) {
			continue;
		}
		snprintf(attr, sizeof(attr), "/sys/block/%s/loop/backing_file", d->d_name);
		if (rw_read_file(attr, 8192, &backing, &len, NULL) < 0) {
			continue;
		}
		backing[strcspn(backing, "\n")] = '\0';
		found = strcmp(backing, real) == 0;
		if (found) {
			snprintf(ret_device, room, "/dev/%s", d->d_name);
		}
	}
	if (dir) {
		closedir(dir);
	}
	return found;
}

static int check_existing(const struct sink_opts *o, struct err *e)
{
	char device[300];

	if (backs_loop(o->path, device, sizeof(device))) {
		return err_set(e, -EBUSY, "%s is in use: it is the file behind %s; copy onto that",
			o->path, device);
	}
	if (!o->force && !o->resume) {
		return err_set(
			e, -EEXIST, "%s exists already: give --force to replace it", o->path);
	}
	return 0;
}

/* Two copies into one file would mix. The lock goes with the descriptor. */
static int lock(const struct sink_file *f, struct err *e)
{
	if (flock(f->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		return err_set(e, -EBUSY,
			"%s is in use: another copy fills it, or another program has locked it",
			f->sink.path);
	}
	return 0;
}

/* Gives the file its final size, and its space where that is asked for. */
static int shape(struct sink_file *f, const struct sink_opts *o, struct err *e)
{
	if (!o->resume && ftruncate(f->fd, 0) < 0) {
		return err_sys(e, errno, "empty %s", o->path);
	}
	if (ftruncate(f->fd, (off_t)o->size) < 0) {
		return err_sys(e, errno, "make %s %" PRIu64 " bytes long", o->path, o->size);
	}
	return reserve(f, o->size, e);
}

int sink_file_open(const struct sink_opts *o, struct sink **ret, struct err *e)
{
	struct sink_file *f;
	bool created = true;
	int fd = open(o->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r;

	if (fd < 0 && errno == EEXIST) {
		r = check_existing(o, e);
		if (r < 0) {
			return r;
		}
		created = false;
		fd = open(o->path, O_RDWR | O_CLOEXEC);
	}
	if (fd < 0) {
		return err_sys(e, errno, "the target %s", o->path);
	}
	f = calloc(1, sizeof(*f));
	if (!f) {
		close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	f->sink = (struct sink){ &file_ops, o->path, o->size, 0 };
	f->fd = fd;
	f->direct = open(o->path, O_RDWR | O_CLOEXEC | O_DIRECT);
	f->prealloc = o->prealloc;
	f->blank = !o->resume || created;
	r = lock(f, e);
	if (r == 0) {
		r = shape(f, o, e);
	}
	if (r < 0) {
		if (created) {
			unlink(o->path);
		}
		file_close(&f->sink);
		return r;
	}
	*ret = &f->sink;
	return 0;
}
