/* SPDX-License-Identifier: Apache-2.0 */
/* The operations that the kernel asks for. Each path answers exactly once. What is not here, the
 * kernel does itself (permissions, by default_permissions) or refuses. */
#include "fusefs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "fusefs/libfuse.h"
#include "fusefs/state.h"

/* Nothing here changes by itself, so what the kernel knows it may keep. */
#define FOREVER (365.0 * 24 * 3600)
#define BRIEFLY 1.0 /* but for how much of an image is data, which may become known later */

/* A search for holes can be interrupted after so many seconds. */
#define SEARCH_S 3

#define XATTR_PREFIX "user.lazydisk."
#define XATTR_PID    "pid" /* of the daemon; on the root */

/* The text of one open of .lazydisk/status. */
struct status_text {
	char *text;
	size_t len;
};

union handle {
	uint64_t fh; /* the kernel keeps it for us while the file is open */
	struct status_text *status;
};

static struct status_text *status_of(const struct fuse_file_info *fi)
{
	union handle h = { .fh = fi->fh };

	return h.status;
}

static struct fusefs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The volume behind @ino, or NULL. */
static struct volume *volume_of(struct fusefs *fs, fuse_ino_t ino)
{
	if (tree_kind(&fs->tree, ino) != TREE_KIND_VOLUME) {
		return NULL;
	}
	return &fs->volumes[tree_volume_index(&fs->tree, ino)];
}

/* Whether the range of a request lies within the file; the kernel's numbers are signed. */
static bool range_valid(const struct volume *vol, off_t off, uint64_t len)
{
	return off >= 0 && range_within((uint64_t)off, len, vol->v.image->size);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fusefs *fs = userdata;

	/* splice costs twice what it saves. An O_TRUNC that is passed on would have to be honoured;
	 * without it comes a setattr, which can refuse. Changes only come through the kernel, so
	 * times are no reason to drop pages. */
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				      FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
				      FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA);
	/* The kernel's 12 would cap the reads under way, and with them a link with latency. */
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	fs->initialised = true;
}

/* Attributes, and for how long the kernel may keep them. */
static bool attr_of(struct fusefs *fs, fuse_ino_t ino, struct stat *ret, double *ret_timeout)
{
	struct volume *vol = volume_of(fs, ino);
	bool final = true;
	uint64_t allocated = vol ? volume_allocated(vol, &final) : 0;

	if (!tree_attr(&fs->tree, ino, allocated, ret)) {
		return false;
	}
	if (vol && volume_written(vol, &ret->st_mtim)) {
		ret->st_ctim = ret->st_mtim;
	}
	*ret_timeout = final ? FOREVER : BRIEFLY;
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fusefs *fs = fs_of(req);
	struct fuse_entry_param entry = { .entry_timeout = FOREVER };

	/* An inode of 0 lets the kernel remember that there is no such name. */
	entry.ino = tree_lookup(&fs->tree, parent, name);
	if (entry.ino) {
		attr_of(fs, entry.ino, &entry.attr, &entry.attr_timeout);
	}
	fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	double timeout;

	(void)fi;
	if (!attr_of(fs_of(req), ino, &st, &timeout)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fuse_reply_attr(req, &st, timeout);
}

/* The size of a disk is what it is; times may be set to no effect, as touch and cp -p do. */
static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct volume *vol = volume_of(fs_of(req), ino);
	int refused = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;

	if (vol && !vol->writable) {
		fuse_reply_err(req, EROFS);
	} else if (!vol || (to_set & refused) ||
		   ((to_set & FUSE_SET_ATTR_SIZE) &&
			   (uint64_t)attr->st_size != vol->v.image->size)) {
		fuse_reply_err(req, EPERM);
	} else {
		op_getattr(req, ino, fi);
	}
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fusefs *fs = fs_of(req);
	CLEANUP_FREE char *buf = malloc(size ? size : 1);
	struct tree_entry entry;
	size_t used = 0;

	(void)fi;
	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (uint64_t pos = off < 0 ? 0 : (uint64_t)off; tree_entry(&fs->tree, ino, pos, &entry);
		pos++) {
		struct stat st = { .st_ino = entry.ino, .st_mode = entry.mode };
		size_t n = fuse_add_direntry(
			req, buf + used, size - used, entry.name, &st, (off_t)(pos + 1));

		if (n > size - used) {
			break;
		}
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

static void open_status(fuse_req_t req, struct fuse_file_info *fi)
{
	struct fusefs *fs = fs_of(req);
	struct status_text *s = calloc(1, sizeof(*s));
	int r = s ? -ENODATA : -ENOMEM;

	if (s && fs->opts.status) {
		r = fs->opts.status(fs->opts.ctx, &s->text, &s->len);
	}
	if (r < 0) {
		free(s);
		fuse_reply_err(req, -r);
		return;
	}
	/* The size says 0: only direct reads get past it. */
	fi->direct_io = 1;
	fi->fh = ((union handle){ .status = s }).fh;
	if (fuse_reply_open(req, fi) < 0) {
		free(s->text);
		free(s);
	}
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fusefs *fs = fs_of(req);
	struct volume *vol = volume_of(fs, ino);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	if (tree_kind(&fs->tree, ino) == TREE_KIND_STATUS) {
		if (writes) {
			fuse_reply_err(req, EACCES);
		} else {
			open_status(req, fi);
		}
	} else if (!vol) {
		fuse_reply_err(req, ENOENT);
	} else if (writes && !vol->writable) {
		fuse_reply_err(req, EROFS);
	} else {
		passthrough_reply_open(
			&fs->passthrough, &fs->opens[vol - fs->volumes], vol->v.image, req, fi);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fusefs *fs = fs_of(req);
	struct volume *vol = volume_of(fs, ino);

	if (vol) {
		passthrough_release(
			&fs->passthrough, &fs->opens[vol - fs->volumes], vol->v.image, fi);
	} else if (tree_kind(&fs->tree, ino) == TREE_KIND_STATUS) {
		struct status_text *s = status_of(fi);

		free(s->text);
		free(s);
	}
	fuse_reply_err(req, 0);
}

static void read_status(fuse_req_t req, size_t size, off_t off, const struct fuse_file_info *fi)
{
	const struct status_text *s = status_of(fi);

	uint64_t len = off < 0 || (uint64_t)off >= s->len ? 0 : s->len - (uint64_t)off;
	CLEANUP_FREE char *part = NULL;

	/* A part of its own: once the reader has its answer it may close the file, and op_release()
	 * frees the text while this thread is still on its way out of the system call. */
	len = min_u64(size, len);
	part = len > 0 ? malloc(len) : NULL;
	if (len > 0 && !part) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (part) {
		memcpy(part, s->text + off, len);
	}
	fuse_reply_buf(req, part, len);
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fusefs *fs = fs_of(req);
	struct volume *vol = volume_of(fs, ino);
	struct buffer buf;
	int r;

	if (!vol) {
		read_status(req, size, off, fi);
		return;
	}
	if (off < 0 || (uint64_t)off >= vol->v.image->size) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	size = min_u64(size, vol->v.image->size - (uint64_t)off);
	if (!buffers_get(fs->buffers, size, &buf)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	r = volume_read(vol, buf.mem, size, (uint64_t)off);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		fuse_reply_buf(req, (const char *)buf.mem, size);
	}
	buffers_put(fs->buffers, &buf);
}

/* As a block device: up to the end, and no further. */
static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct volume *vol = volume_of(fs_of(req), ino);
	int r;

	(void)fi;
	if (!vol || off < 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if ((uint64_t)off >= vol->v.image->size) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	size = min_u64(size, vol->v.image->size - (uint64_t)off);
	r = volume_write(vol, buf, size, (uint64_t)off);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		fuse_reply_write(req, size);
	}
}

static void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct volume *vol = volume_of(fs_of(req), ino);
	int zeroing = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int r;

	(void)fi;
	if (!vol || off < 0 || len <= 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (!zeroing || (mode & ~(zeroing | FALLOC_FL_KEEP_SIZE))) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && !range_valid(vol, off, (uint64_t)len)) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	if ((uint64_t)off >= vol->v.image->size) {
		fuse_reply_err(req, 0);
		return;
	}
	r = volume_zero(
		vol, (uint64_t)off, min_u64((uint64_t)len, vol->v.image->size - (uint64_t)off));
	fuse_reply_err(req, -r);
}

/* The tree is what was mounted: nothing comes, goes or gets another name. Without an answer of ours
 * the kernel would say ENOSYS, which users take for a defect. */
static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)fi;
	fuse_reply_err(req, EPERM);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)dev;
	fuse_reply_err(req, EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent;
	(void)name;
	(void)mode;
	fuse_reply_err(req, EPERM);
}

static void op_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags)
{
	(void)parent;
	(void)name;
	(void)new_parent;
	(void)new_name;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	(void)ino;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct volume *vol = volume_of(fs_of(req), ino);

	(void)datasync;
	(void)fi;
	fuse_reply_err(req, vol && vol->writable ? -volume_flush(vol) : 0);
}

/* A search through a large empty image may take long over a slow link. Not at once, for programs do
 * not expect EINTR of lseek() when some timer of theirs goes off. */
struct search {
	fuse_req_t req;
	time_t since;
};

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static bool interrupted(void *ctx)
{
	const struct search *s = ctx;

	return fuse_req_interrupted(s->req) && now_s() - s->since > SEARCH_S;
}

static void op_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct volume *vol = volume_of(fs_of(req), ino);
	struct search s = { req, now_s() };
	uint64_t at;
	int r;

	(void)fi;
	if (!vol) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	r = off < 0 ? -ENXIO : volume_seek(vol, (uint64_t)off, whence, interrupted, &s, &at);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		fuse_reply_lseek(req, (off_t)at);
	}
}

static int pid_text(char **ret)
{
	return asprintf(ret, "%d", (int)getpid()) < 0 ? -ENOMEM : 0;
}

/* The value of attribute @name of @ino, malloc()ed. */
static int xattr_value(struct fusefs *fs, fuse_ino_t ino, const char *name, char **ret)
{
	struct volume *vol = volume_of(fs, ino);
	size_t prefix = strlen(XATTR_PREFIX);

	if (strncmp(name, XATTR_PREFIX, prefix) != 0) {
		return -ENODATA;
	}
	name += prefix;
	if (ino == TREE_ROOT && strcmp(name, XATTR_PID) == 0) {
		return pid_text(ret);
	}
	return vol && vol->v.xattr ? vol->v.xattr(vol->v.ctx, name, ret) : -ENODATA;
}

/* An answer to a request that may only want to know the size. */
static void reply_sized(fuse_req_t req, const char *data, size_t len, size_t size)
{
	if (size == 0) {
		fuse_reply_xattr(req, len);
	} else if (size < len) {
		fuse_reply_err(req, ERANGE);
	} else {
		fuse_reply_buf(req, data, len);
	}
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	CLEANUP_FREE char *value = NULL;
	int r = xattr_value(fs_of(req), ino, name, &value);

	if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		reply_sized(req, value, strlen(value), size);
	}
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const char *const of_root[] = { XATTR_PID, NULL };
	struct volume *vol = volume_of(fs_of(req), ino);
	const char *const *names = vol ? vol->v.xattrs : ino == TREE_ROOT ? of_root : NULL;
	CLEANUP_FREE char *list = NULL;
	CLEANUP_FCLOSE FILE *f = NULL;
	size_t len = 0;

	f = open_memstream(&list, &len);
	if (!f) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (; names && *names; names++) {
		fprintf(f, XATTR_PREFIX "%s%c", *names, '\0');
	}
	if (fflush(f) != 0) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	reply_sized(req, list, len, size);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fusefs *fs = fs_of(req);
	struct statvfs st = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_files = fs->tree.count,
		.f_namemax = 255,
	};

	(void)ino;
	for (size_t i = 0; i < fs->tree.count; i++) {
		st.f_blocks += div_round_up(fs->tree.volumes[i].size, st.f_frsize);
	}
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readdir = op_readdir,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.create = op_create,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_remove,
	.rmdir = op_remove,
	.rename = op_rename,
	.symlink = op_symlink,
	.link = op_link,
	.fsync = op_fsync,
	.lseek = op_lseek,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.statfs = op_statfs,
};
