/* SPDX-License-Identifier: Apache-2.0 */
/* The directory itself: trust, version, the objects in it and who holds them. */
#include "cache/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <xxhash.h>

#include "cache/atfile.h"
#include "cache/blobdir.h"
#include "core/cleanup.h"

#define VERSION_TEXT "lazydisk-cache 1\n"
/* How long an exclusive holder may take: it creates or deletes a few files. */
#define LOCK_PATIENCE_MS 5000U
#define LOCK_STEP_MS     5U
#define OPEN_TRIES       100U

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xff534d42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42
#endif

static int make_dirs(const char *dir, struct err *e)
{
	CLEANUP_FREE char *path = strdup(dir);

	if (!path) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!*path) {
		return err_set(e, -EINVAL, "the cache directory has no name");
	}
	for (char *p = path + 1; *p; p++) {
		if (*p == '/') {
			*p = '\0';
			(void)mkdir(path, 0700); /* an error shows at the last one */
			*p = '/';
		}
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		return err_sys(e, errno, "cannot create the cache directory %s", dir);
	}
	return 0;
}

static int check_trust(int fd, const char *dir, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		return err_sys(e, errno, "cache directory %s", dir);
	}
	if (st.st_uid != geteuid()) {
		return err_set(e, -EACCES,
			"the cache directory %s belongs to another user (uid %u)", dir, st.st_uid);
	}
	if (st.st_mode & 022) {
		return err_set(e, -EACCES,
			"the cache directory %s is writable by others (mode %04o)", dir,
			st.st_mode & 07777);
	}
	return 0;
}

/* Locks and shared mappings of these do not hold between hosts. */
static int check_filesystem(int fd, const char *dir, struct err *e)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0) {
		return err_sys(e, errno, "cache directory %s", dir);
	}
	switch ((uint32_t)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case V9FS_MAGIC:
	case CEPH_SUPER_MAGIC:
		return err_set(
			e, -ENOTSUP, "the cache directory %s is on a network file system", dir);
	default:
		return 0;
	}
}

static int check_version(struct store *s, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r = atfile_read(s->fd, "VERSION", 256, &text, &len, NULL);

	if (r == -ENOENT) {
		r = atfile_replace(s->fd, "VERSION", VERSION_TEXT, strlen(VERSION_TEXT), e);
		return r;
	}
	if (r < 0) {
		return err_sys(e, r, "cache directory %s: VERSION", s->path);
	}
	if (strcmp(text, VERSION_TEXT) != 0) {
		return err_set(
			e, -ENOTSUP, "the cache directory %s is of another version", s->path);
	}
	return 0;
}

bool store_exists(const char *dir)
{
	CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && faccessat(fd, "VERSION", F_OK, AT_EACCESS) == 0;
}

static int open_checked(struct store *s, const char *dir, struct err *e)
{
	int r;

	s->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0) {
		return err_sys(e, errno, "cannot open the cache directory %s", dir);
	}
	r = check_trust(s->fd, dir, e);
	if (r == 0) {
		r = check_filesystem(s->fd, dir, e);
	}
	if (r < 0) {
		return r;
	}
	s->readonly = faccessat(s->fd, ".", W_OK, AT_EACCESS) < 0;
	r = check_version(s, e);
	if (r < 0) {
		return r;
	}
	if (mkdirat(s->fd, "obj", 0700) < 0 && errno != EEXIST && !s->readonly) {
		return err_sys(e, errno, "cannot write to the cache directory %s", dir);
	}
	return 0;
}

int store_open(const char *dir, struct store **ret, struct err *e)
{
	struct store *s;
	int r = make_dirs(dir, e);

	if (r < 0) {
		return r;
	}
	s = calloc(1, sizeof(*s));
	if (s) {
		s->fd = -1;
		s->path = strdup(dir);
	}
	if (!s || !s->path) {
		store_close(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = open_checked(s, dir, e);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (s) {
		if (s->fd >= 0) {
			close(s->fd);
		}
		free(s->path);
		free(s);
	}
}

void store_hash(const char *key, char ret[STORE_HASH + 1])
{
	XXH128_hash_t h = XXH3_128bits(key, strlen(key));

	snprintf(ret, STORE_HASH + 1, "%016llx%016llx", (unsigned long long)h.high64,
		(unsigned long long)h.low64);
}

static void object_path(const char *hash, char *ret, size_t room)
{
	snprintf(ret, room, "obj/%.2s/%s", hash, hash + 2);
}

#define BYTE_OPEN 0
#define BYTE_PIN  1

static int lock_byte(int fd, short type, off_t byte)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static int lock_object(struct store_object *o, short type)
{
	return lock_byte(o->lock, type, BYTE_OPEN);
}

void store_object_pin(struct store_object *o)
{
	(void)lock_byte(o->lock, F_RDLCK, BYTE_PIN);
}

bool store_object_is_pinned(const struct store_object *o)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = BYTE_PIN,
		.l_len = 1,
	};

	return fcntl(o->lock, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int store_elect(struct store *s)
{
	CLEANUP_CLOSE int fd =
		openat(s->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || lock_byte(fd, F_WRLCK, 0) < 0) {
		return -1;
	}
	return TAKE_FD(fd);
}

static int hold(struct store_object *o, bool readonly)
{
	int r = 0;

	if (!readonly && lock_object(o, F_WRLCK) == 0) {
		o->exclusive = true;
		return 0;
	}
	for (unsigned int waited = 0; waited <= LOCK_PATIENCE_MS; waited += LOCK_STEP_MS) {
		r = lock_object(o, F_RDLCK);
		if (r != -EAGAIN && r != -EACCES) {
			return r;
		}
		usleep(LOCK_STEP_MS * 1000);
	}
	return -EBUSY;
}

static int open_files(struct store *s, bool create, struct store_object *o)
{
	char path[64];

	object_path(o->hash, path, sizeof(path));
	if (create) {
		char parent[16];

		snprintf(parent, sizeof(parent), "obj/%.2s", o->hash);
		if ((mkdirat(s->fd, parent, 0700) < 0 && errno != EEXIST) ||
			(mkdirat(s->fd, path, 0700) < 0 && errno != EEXIST)) {
			return -errno;
		}
	}
	o->fd = openat(s->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (o->fd < 0) {
		return -errno;
	}
	o->lock = openat(o->fd, "lock",
		s->readonly ? O_RDONLY | O_CLOEXEC | O_NOFOLLOW
			    : O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		0600);
	return o->lock < 0 ? -errno : 0;
}

/* Whether the lock still is the one that others find: the object may have been deleted between
 * opening and locking. */
static bool still_there(const struct store_object *o)
{
	struct stat mine;
	struct stat found;

	return fstat(o->lock, &mine) == 0 &&
	       fstatat(o->fd, "lock", &found, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == found.st_ino && mine.st_dev == found.st_dev;
}

int store_object_open(
	struct store *s, const char *hash, bool create, struct store_object *ret, struct err *e)
{
	int r = -EBUSY;

	for (unsigned int i = 0; i < OPEN_TRIES; i++) {
		struct store_object o = { .fd = -1, .lock = -1 };

		snprintf(o.hash, sizeof(o.hash), "%s", hash);
		r = open_files(s, create && !s->readonly, &o);
		if (r == 0) {
			r = hold(&o, s->readonly);
		}
		if (r == 0 && still_there(&o)) {
			*ret = o;
			return 0;
		}
		store_object_close(&o);
		if (r < 0 && !(r == -ENOENT && create && !s->readonly)) {
			break;
		}
	}
	return err_sys(e, r < 0 ? r : -EBUSY, "cache object %s", hash);
}

void store_object_share(struct store_object *o)
{
	if (o->exclusive && lock_object(o, F_RDLCK) == 0) {
		o->exclusive = false;
	}
}

bool store_object_exclude(struct store_object *o)
{
	if (!o->exclusive && lock_object(o, F_WRLCK) == 0) {
		o->exclusive = true;
	}
	return o->exclusive;
}

void store_object_close(struct store_object *o)
{
	if (o->lock >= 0) {
		close(o->lock);
	}
	if (o->fd >= 0) {
		close(o->fd);
	}
	o->lock = -1;
	o->fd = -1;
}

/* Unlinks the files whose names begin with @prefix, but not the lock. */
static int unlink_files(int dirfd, const char *prefix)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return r;
	}
	while ((d = readdir(dir))) {
		if (d->d_name[0] != '.' && strcmp(d->d_name, "lock") != 0 &&
			strncmp(d->d_name, prefix, strlen(prefix)) == 0 &&
			unlinkat(dirfd, d->d_name, 0) < 0 && errno != ENOENT) {
			r = -errno;
		}
	}
	closedir(dir);
	return r;
}

int store_object_drop_records(int dirfd)
{
	return unlink_files(dirfd, BLOBDIR_PREFIX);
}

int store_object_delete(struct store *s, struct store_object *o, struct err *e)
{
	char path[64];
	int r = 0;

	object_path(o->hash, path, sizeof(path));
	(void)unlinkat(o->fd, "meta", 0); /* first: without it, nothing else means anything */
	(void)unlink_files(o->fd, "");
	/* Last: who finds no lock makes a new one. */
	(void)unlinkat(o->fd, "lock", 0);
	if (unlinkat(s->fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTEMPTY &&
		errno != EEXIST) {
		r = err_sys(e, errno, "cannot delete the cached object %s", o->hash);
	}
	store_object_close(o);
	return r;
}

void store_object_touch(const struct store_object *o)
{
	CLEANUP_CLOSE int fd =
		openat(o->fd, "use", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0) {
		(void)futimens(fd, NULL);
	}
}

static bool is_hex(const char *name, size_t len)
{
	return strspn(name, "0123456789abcdef") == len && name[len] == '\0';
}

static int each_in(int obj, const char *prefix, store_object_fn *fn, void *ctx)
{
	int fd = openat(obj, prefix, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		if (fd >= 0) {
			close(fd);
		}
		return 0;
	}
	while (r >= 0 && (d = readdir(dir))) {
		char hash[STORE_HASH + 1];

		if (is_hex(d->d_name, STORE_HASH - 2)) {
			snprintf(hash, sizeof(hash), "%.2s%.30s", prefix, d->d_name);
			r = fn(ctx, hash);
		}
	}
	closedir(dir);
	return r;
}

int store_each(struct store *s, store_object_fn *fn, void *ctx, struct err *e)
{
	int fd = openat(s->fd, "obj", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = err_sys(e, errno, "cannot list the cache directory %s", s->path);
		if (fd >= 0) {
			close(fd);
		}
		return r;
	}
	while (r >= 0 && (d = readdir(dir))) {
		if (is_hex(d->d_name, 2)) {
			r = each_in(dirfd(dir), d->d_name, fn, ctx);
		}
	}
	closedir(dir);
	return r < 0 ? r : 0;
}
