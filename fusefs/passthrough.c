/* SPDX-License-Identifier: Apache-2.0 */
/* Passing reads through to a file: what the kernel is told, and who may have it when. */
#include "fusefs/passthrough.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fusefs/state.h"

/* Of the protocol's version 7.40, which Debian 12's <linux/fuse.h> does not have yet. */
#define INIT_EXT         (1U << 30)
#define INIT_PASSTHROUGH (1U << 5) /* in flags2 */
#define OPEN_PASSTHROUGH (1U << 7)

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* The head of struct fuse_init_out, up to what follows flags2. */
struct init_out {
	uint32_t major;
	uint32_t minor;
	uint32_t max_readahead;
	uint32_t flags;
	uint16_t max_background;
	uint16_t congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran;
	uint16_t max_pages;
	uint16_t map_alignment;
	uint32_t flags2;
	uint32_t max_stack_depth;
};

struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

/* What release() finds in fi->fh. */
enum {
	HANDLE_CACHED,
	HANDLE_PASSED,
};

static struct passthrough *of_session(void *userdata)
{
	return &((struct fusefs *)userdata)->passthrough;
}

/* Whether a request says that the kernel could. */
static bool offers(const void *buf, size_t n)
{
	const struct fuse_in_header *head = buf;
	const struct fuse_init_in *in = (const void *)(head + 1);

	return n >= sizeof(*head) + offsetof(struct fuse_init_in, flags2) + sizeof(in->flags2) &&
	       head->opcode == FUSE_INIT && (in->flags & INIT_EXT) &&
	       (in->flags2 & INIT_PASSTHROUGH);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	struct passthrough *p = of_session(userdata);
	ssize_t n = read(fd, buf, len);

	if (!p->negotiated && n > 0 && offers(buf, (size_t)n)) {
		p->possible = true;
	}
	return n;
}

/* The kernel's first request has its answer before it sends another. */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct passthrough *p = of_session(userdata);

	if (!p->negotiated) {
		p->negotiated = true;
		if (p->possible && count == 2 && iov[1].iov_len >= sizeof(struct init_out)) {
			struct init_out *out = iov[1].iov_base;

			out->flags |= INIT_EXT;
			out->flags2 |= INIT_PASSTHROUGH;
			out->max_stack_depth = 1;
		} else {
			p->possible = false;
		}
	}
	return writev(fd, iov, count);
}

int passthrough_attach(struct passthrough *p, struct fuse_session *se, int device)
{
	static const struct fuse_custom_io io = { .read = io_read, .writev = io_writev };

	*p = (struct passthrough){ .device = device };
	return fuse_session_custom_io(se, &io, device);
}

void passthrough_file_init(struct passthrough_file *f)
{
	*f = (struct passthrough_file){ 0 };
	pthread_mutex_init(&f->lock, NULL);
}

void passthrough_file_fini(struct passthrough_file *f)
{
	pthread_mutex_destroy(&f->lock);
}

/* Makes the image's file known to the kernel. Lock held. */
static bool register_file(struct passthrough *p, struct passthrough_file *f, struct image *image)
{
	struct backing_map map = { 0 };
	int fd;
	int r = image_lend_file(image, &fd);

	if (r < 0) {
		return false;
	}
	map.fd = fd;
	f->backing_id = ioctl(p->device, BACKING_OPEN, &map);
	if (f->backing_id > 0) {
		return true;
	}
	log_debug("no passthrough: %s", strerrordesc_np(errno));
	/* It is the kernel or the filesystem of the cache that refuses: it would again. */
	p->possible = false;
	image_return_file(image, true);
	return false;
}

static void unregister_file(struct passthrough *p, struct passthrough_file *f, struct image *image)
{
	uint32_t id = (uint32_t)f->backing_id;

	(void)ioctl(p->device, BACKING_CLOSE, &id);
	image_return_file(image, true);
}

/* Counts one open more and says how it is to be. */
static bool begin(struct passthrough *p, struct passthrough_file *f, struct image *image)
{
	LOCK_SCOPE(&f->lock);

	if (f->passed > 0 || (p->possible && f->cached == 0 && register_file(p, f, image))) {
		f->passed++;
		return true;
	}
	f->cached++;
	return false;
}

static void end(struct passthrough *p, struct passthrough_file *f, struct image *image, bool passed)
{
	LOCK_SCOPE(&f->lock);

	if (!passed) {
		f->cached--;
	} else if (--f->passed == 0) {
		unregister_file(p, f, image);
	}
}

void passthrough_reply_open(struct passthrough *p, struct passthrough_file *f, struct image *image,
	fuse_req_t req, struct fuse_file_info *fi)
{
	bool passed = begin(p, f, image);
	int r;

	if (passed) {
		struct open_out out = { HANDLE_PASSED, OPEN_PASSTHROUGH, f->backing_id };

		r = fuse_reply_buf(req, (const char *)&out, sizeof(out));
	} else {
		fi->keep_cache = 1;
		fi->fh = HANDLE_CACHED;
		r = fuse_reply_open(req, fi);
	}
	/* Whoever opened it was interrupted: there will be no release. */
	if (r < 0) {
		end(p, f, image, passed);
	}
}

void passthrough_release(struct passthrough *p, struct passthrough_file *f, struct image *image,
	const struct fuse_file_info *fi)
{
	end(p, f, image, fi->fh == HANDLE_PASSED);
}

void passthrough_forget(struct passthrough_file *f, struct image *image)
{
	LOCK_SCOPE(&f->lock);

	if (f->passed > 0) {
		f->passed = 0;
		/* An open that was answered may still be on its way to the file. */
		image_return_file(image, false);
	}
}
