/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least FUSE server that shows a file: a pread() and an answer. What it costs on a machine is
 * what any server of the kind costs there at least; the benchmark measures hits beside it.
 *
 *   least [--mapped] FILE DIR		DIR/file is FILE, until it is unmounted
 *
 * --mapped: the answers come from a mapping of all of FILE, so the daemon copies nothing itself.
 * That shows what the kernel's own copy costs. A server whose file others may punch holes into
 * cannot do so: it would hand out zeros and not notice.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"

#define NAME    "file"
#define INODE   2
#define FOREVER 1e6
#define BUFFER  MIB(1)
#define THREADS 4

static int file;
static struct stat of_file;
static const char *mapped; /* all of it, or NULL */
static _Thread_local char *buffer;

static void init(void *ctx, struct fuse_conn_info *conn)
{
	(void)ctx;
	conn->want &= ~(
		unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_background = 64;
}

static struct stat attr(fuse_ino_t ino)
{
	struct stat st = { .st_ino = ino, .st_nlink = 1, .st_mode = S_IFDIR | 0555 };

	if (ino == INODE) {
		st.st_mode = S_IFREG | 0444;
		st.st_size = of_file.st_size;
	}
	return st;
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {
		.ino = INODE, .attr = attr(INODE), .attr_timeout = FOREVER, .entry_timeout = FOREVER
	};

	(void)parent;
	if (strcmp(name, NAME) == 0) {
		fuse_reply_entry(req, &entry);
	} else {
		fuse_reply_err(req, ENOENT);
	}
}

static void getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attr(ino);

	(void)fi;
	fuse_reply_attr(req, &st, FOREVER);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void reply_mapped(fuse_req_t req, size_t size, off_t off)
{
	off_t left = of_file.st_size > off ? of_file.st_size - off : 0;

	fuse_reply_buf(req, mapped + (left ? off : 0), min_u64(size, (uint64_t)left));
}

static void do_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t n;

	(void)ino;
	(void)fi;
	if (mapped) {
		reply_mapped(req, size, off);
		return;
	}
	if (!buffer) {
		buffer = mmap(
			NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	n = buffer == MAP_FAILED ? -1 : pread(file, buffer, min_u64(size, BUFFER), off);
	if (n < 0) {
		fuse_reply_err(req, EIO);
	} else {
		fuse_reply_buf(req, buffer, (size_t)n);
	}
}

static bool open_file(const char *path, bool map)
{
	void *p;

	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &of_file) < 0) {
		return false;
	}
	if (!map) {
		return true;
	}
	p = mmap(NULL, (size_t)of_file.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
	mapped = p;
	return p != MAP_FAILED;
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops ops = {
		.init = init, .lookup = lookup, .getattr = getattr, .open = do_open, .read = do_read
	};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	bool map = argc == 4 && strcmp(argv[1], "--mapped") == 0;

	if (!se || argc != 3 + map || !open_file(argv[1 + map], map) ||
		fuse_session_mount(se, argv[2 + map]) < 0) {
		fprintf(stderr, "least: see the top of least.c\n");
		return 1;
	}
	fuse_set_signal_handlers(se);
	fuse_loop_cfg_set_max_threads(config, THREADS);
	fuse_loop_cfg_set_idle_threads(config, THREADS);
	fuse_session_loop_mt(se, config);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	return 0;
}
