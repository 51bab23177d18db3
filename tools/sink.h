/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a copy goes: a regular file or a block device. sink_open() checks everything that can be
 * checked before a byte is written: what the target is, that nobody uses it, that it is large
 * enough. Afterwards every byte of the target up to `size` is written or zeroed exactly once by the
 * copier, so that nothing of what was there before survives.
 *
 * write, read and zero may be called from several threads at once, for ranges that do not overlap.
 * Offsets and buffers are multiples of SINK_ALIGN; so are lengths, but for the end of the image and
 * of the target. There, a buffer goes on to the next multiple: with zeros when it is written (a
 * device takes them, up to a whole sector), with whatever when it was read.
 */
#ifndef TOOLS_SINK_H
#define TOOLS_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define SINK_ALIGN 4096U

enum sink_prealloc {
	SINK_PREALLOC_OFF,    /* zeros take no space where the target can do that */
	SINK_PREALLOC_FALLOC, /* all space is reserved */
	SINK_PREALLOC_FULL,   /* all space is written */
};

struct sink_opts {
	const char *path;
	uint64_t size; /* of a file when the copy is done; a device has at least as much */
	enum sink_prealloc prealloc;
	bool force;   /* an existing file may be replaced */
	bool resume;  /* the target holds the beginning of this very copy: keep what is there */
	bool is_zero; /* the caller promises that the target reads as zeros: zero() of a device then
			 does nothing, but with preallocation */
};

struct sink;

struct sink_ops {
	int (*write)(struct sink *s, const void *buf, size_t len, uint64_t off, struct err *e);

	/* Makes the range read as zeros, by the cheapest means that guarantees it, allocated or
	 * not as the preallocation asks. */
	int (*zero)(struct sink *s, uint64_t off, uint64_t len, struct err *e);

	/* What was written before is durable when it returns. */
	int (*flush)(struct sink *s, struct err *e);

	/* Reads back what is stored, not what the page cache remembers, where that can be told
	 * apart. */
	int (*read)(struct sink *s, void *buf, size_t len, uint64_t off, struct err *e);

	/* The target is to have @size bytes: a file then has them, reserved as the preallocation
	 * asks; a device must have as many. */
	int (*resize)(struct sink *s, uint64_t size, struct err *e);

	/* How many bytes of storage the target occupies, measured. -ENOTSUP: cannot be known. */
	int (*allocated)(struct sink *s, uint64_t *ret, struct err *e);

	/* Does not flush. */
	void (*close)(struct sink *s);
};

struct sink {
	const struct sink_ops *ops;
	const char *path; /* borrowed from the options */
	uint64_t size;    /* of the whole target, bytes */
	uint32_t sector;  /* logical sector size of a device; 0: a file */
};

/* Errors: -ENOENT, -EACCES, -EEXIST (a file, without force), -EBUSY (mounted, held, backs a loop
 * device, is being read or filled), -EFBIG or -ENOSPC (too small; the text names both sizes),
 * -EROFS (a device), -ENOTSUP (neither file nor device). Nothing has been changed then, and no new
 * file is left. */
int sink_open(const struct sink_opts *o, struct sink **ret, struct err *e);

/* What names this target across runs: the same file, or the same device with the same file behind
 * it. -ENOENT: there is none yet. *ret is malloc()ed; *ret_device: it is a device. */
int sink_identity(const char *path, char **ret, bool *ret_device, struct err *e);

/* NULL is nothing. */
void sink_close(struct sink *s);

/* For sink_open(): one kind each. */
int sink_file_open(const struct sink_opts *o, struct sink **ret, struct err *e);
int sink_block_open(const struct sink_opts *o, struct sink **ret, struct err *e);

/* Writes zeros, for targets that know nothing better: 0 or a negative errno. */
int sink_write_zeros(int fd, uint64_t off, uint64_t len);

#endif
