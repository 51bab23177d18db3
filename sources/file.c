/* SPDX-License-Identifier: Apache-2.0 */
/* The local file as an image: pread() with a check that it is still the file that was opened. */
#include "sources/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "core/rw.h"

struct file_image {
	struct image img;
	int fd;
	bool device;
	struct timespec mtime;
	char *path;
};

static struct file_image *of(struct image *img)
{
	return (struct file_image *)img;
}

/* The bytes that were just read are of the version that was opened, if it still is that one. */
static int check_unchanged(const struct file_image *f, struct err *e)
{
	struct stat st;

	if (f->device) {
		return 0;
	}
	if (fstat(f->fd, &st) < 0) {
		return err_sys(e, errno, "%s", f->path);
	}
	if ((uint64_t)st.st_size < f->img.size) {
		return err_set(e, -ESTALE,
			"%s: the file shrank from %" PRIu64 " to %" PRIu64
			" bytes while it was open",
			f->path, f->img.size, (uint64_t)st.st_size);
	}
	if ((uint64_t)st.st_size != f->img.size || st.st_mtim.tv_sec != f->mtime.tv_sec ||
		st.st_mtim.tv_nsec != f->mtime.tv_nsec) {
		return err_set(e, -ESTALE, "%s: the file changed while it was open", f->path);
	}
	return 0;
}

static int file_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct file_image *f = of(img);
	int r = rw_pread(f->fd, buf, len, off);
	int changed = check_unchanged(f, e);

	if (changed < 0) {
		return changed;
	}
	if (r < 0) {
		return err_sys(e, r, "%s: read at %" PRIu64, f->path, off);
	}
	return 0;
}

static int file_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct file_image *f = of(img);
	uint64_t end = img->size;
	off_t data = lseek(f->fd, (off_t)off, SEEK_DATA);
	off_t edge;

	ret->offset = off;
	if (data < 0 && errno == ENXIO) {
		ret->zero = true;
	} else if (data >= 0 && (uint64_t)data > off) {
		ret->zero = true;
		end = min_u64(end, (uint64_t)data);
	} else if (data >= 0) {
		edge = lseek(f->fd, (off_t)off, SEEK_HOLE);
		if (edge > data) {
			end = min_u64(end, (uint64_t)edge);
		}
	}
	ret->allocated = !ret->zero;
	ret->host = ret->zero ? EXTENT_NO_HOST : off;
	ret->length = end - off;
	return check_unchanged(f, e);
}

static int file_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct file_image *f = of(img);
	struct stat st;

	if (fstat(f->fd, &st) < 0) {
		return err_sys(e, errno, "%s", f->path);
	}
	*ret = f->device ? img->size : min_u64(img->size, (uint64_t)st.st_blocks * 512);
	return 0;
}

static void file_report(struct image *img, struct report *r)
{
	report_text(r, "path", of(img)->path);
}

static void file_destroy(struct image *img)
{
	struct file_image *f = of(img);

	image_fini(img);
	close(f->fd);
	free(f->path);
	free(f);
}

static const struct image_ops file_ops = {
	.name = "file",
	.read_at = file_read_at,
	.extent_at = file_extent_at,
	.allocated = file_allocated,
	.report = file_report,
	.destroy = file_destroy,
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. False when an escape is broken or hides a NUL. */
static bool percent_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%') {
			int hi = hex_value(s[1]);
			int lo = hi < 0 ? -1 : hex_value(s[2]);

			if (lo < 0 || (hi == 0 && lo == 0)) {
				return false;
			}
			*out++ = (char)(hi << 4 | lo);
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	return true;
}

int file_path(const char *spec, char **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	const char *p = spec;
	bool url = strncasecmp(spec, "file://", 7) == 0;

	if (url) {
		p += 7;
		if (strncasecmp(p, "localhost/", 10) == 0) {
			p += 9;
		}
		if (*p != '/') {
			return err_set(e, -EINVAL,
				"%s: a file URL has three slashes and an absolute path", spec);
		}
	}
	path = strdup(p);
	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (url && !percent_decode(path)) {
		return err_set(e, -EINVAL, "%s: a broken percent escape", spec);
	}
	if (!*path) {
		return err_set(e, -EINVAL, "the path of the source is empty");
	}
	*ret = TAKE_PTR(path);
	return 0;
}

static int device_size(int fd, const char *path, uint64_t *ret, struct err *e)
{
	if (ioctl(fd, BLKGETSIZE64, ret) < 0) {
		return err_sys(e, errno, "%s: size of the device", path);
	}
	return 0;
}

/* The kind and size of what was opened; refuses what has no size of its own. */
static int measure(struct file_image *f, struct stat *ret_st, uint64_t *ret_size, struct err *e)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0) {
		return err_sys(e, errno, "%s", f->path);
	}
	*ret_st = st;
	if (S_ISREG(st.st_mode)) {
		*ret_size = (uint64_t)st.st_size;
		return 0;
	}
	if (S_ISBLK(st.st_mode)) {
		f->device = true;
		return device_size(f->fd, f->path, ret_size, e);
	}
	return err_set(e, -EINVAL, "%s: %s, not a disk image", f->path,
		S_ISDIR(st.st_mode) ? "a directory" : "neither a regular file nor a block device");
}

/* The number of a file system's device is not in it: many get another at each boot. */
static char *make_id(const struct file_image *f, const struct stat *st, uint64_t size)
{
	CLEANUP_FREE char *real = realpath(f->path, NULL);
	const char *path = real ? real : f->path;
	uint64_t nonce = 0;
	char *id = NULL;
	int n;

	if (f->device) {
		getentropy(&nonce, sizeof(nonce));
		n = asprintf(&id, "file://%s rdev=%" PRIx64 " size=%" PRIu64 " open=%016" PRIx64,
			path, (uint64_t)st->st_rdev, size, nonce);
	} else {
		n = asprintf(&id, "file://%s ino=%" PRIu64 " mtime=%" PRId64 ".%09ld size=%" PRIu64,
			path, (uint64_t)st->st_ino, (int64_t)st->st_mtim.tv_sec,
			st->st_mtim.tv_nsec, size);
	}
	return n < 0 ? NULL : id;
}

static int file_setup(struct file_image *f, struct err *e)
{
	CLEANUP_FREE char *id = NULL;
	struct stat st = { 0 };
	uint64_t size = 0;
	int r = measure(f, &st, &size, e);

	if (r < 0) {
		return r;
	}
	f->mtime = st.st_mtim;
	id = make_id(f, &st, size);
	if (!id || image_init(&f->img, &file_ops, NULL, size, id) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	f->img.flags = IMAGE_LOCAL | (f->device ? IMAGE_UNVERSIONED : 0);
	return 0;
}

/* O_NONBLOCK: a FIFO must not hang us before we can refuse it. */
int file_open(const char *spec, struct image **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE struct file_image *f = calloc(1, sizeof(*f));
	CLEANUP_CLOSE int fd = -1;
	int r = file_path(spec, &path, e);

	if (r < 0) {
		return r;
	}
	if (!f) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		return err_sys(e, errno, "%s", path);
	}
	f->fd = fd;
	f->path = path;
	r = file_setup(f, e);
	if (r < 0) {
		return r;
	}
	TAKE_FD(fd);
	TAKE_PTR(path);
	*ret = &TAKE_PTR(f)->img;
	return 0;
}

int file_key(const char *spec, char **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *cwd = NULL;
	CLEANUP_FREE char *real = NULL;
	int r = file_path(spec, &path, e);

	if (r < 0) {
		return r;
	}
	real = realpath(path, NULL);
	if (!real && *path != '/') {
		cwd = getcwd(NULL, 0);
	}
	if (asprintf(ret, "file://%s%s%s", cwd ? cwd : "", cwd ? "/" : "", real ? real : path) <
		0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

int file_sibling(const char *spec, const char *name, char **ret, struct err *e)
{
	CLEANUP_FREE char *path = NULL;
	const char *slash;
	int r = file_path(spec, &path, e);
	int dir;

	if (r < 0) {
		return r;
	}
	slash = strrchr(path, '/');
	dir = slash ? (int)(slash + 1 - path) : 2;
	if (asprintf(ret, "%.*s%s", dir, slash ? path : "./", name) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}
