/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache directory:
 *
 *   VERSION             "lazydisk-cache 1"; anything else: not ours to touch
 *   lock                held by the process that evicts
 *   obj/ab/cdef.../     one directory an object, named by the hash of its key, with
 *     lock              record locks: byte 0 shared while the object is open, exclusive to create,
 *                       empty or delete it; byte 1 shared while it must not lose granules
 *     meta              text: key, id, size, generation; a checksum line last
 *     map, data         see map.h; data is sparse and as large as the image
 *     lent              empty, see lent.h: somebody may be reading data without us
 *     use               empty; its mtime is the object's last use
 *     blob.*            small records
 */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

#define STORE_HASH 32U /* characters */

struct store {
	char *path;
	int fd;
	bool readonly;
};

/* Whether @dir was made by store_open(). */
bool store_exists(const char *dir);

/* Creates what is missing of @dir. -EACCES: it is somebody else's or open to others; -ENOTSUP: of
 * another version, or on a file system that cannot carry it. */
int store_open(const char *dir, struct store **ret, struct err *e);
/* NULL is nothing. */
void store_close(struct store *s);

struct store_meta {
	char *key; /* owned */
	char *id;  /* owned */
	uint64_t size;
	uint64_t gen;
};
void store_meta_clear(struct store_meta *m);

/* -EBADMSG: it is not whole. -ENOENT: there is none. */
int store_meta_read(int dirfd, struct store_meta *ret, struct err *e);
int store_meta_write(int dirfd, const struct store_meta *m, struct err *e);

/* An object's directory, held by its lock. */
struct store_object {
	int fd;
	int lock;
	bool exclusive;
	char hash[STORE_HASH + 1];
};

/* Opens and locks: exclusively when nobody else has it, else shared. -ENOENT: it does not exist and
 * @create is false. -EBUSY: somebody holds it exclusively for long. */
int store_object_open(
	struct store *s, const char *hash, bool create, struct store_object *ret, struct err *e);
/* From exclusive to shared. */
void store_object_share(struct store_object *o);
/* From shared to exclusive, if nobody else has it. */
bool store_object_exclude(struct store_object *o);
void store_object_close(struct store_object *o);

/* While it is open, its bytes cannot be fetched again one by one: eviction spares it. */
void store_object_pin(struct store_object *o);
bool store_object_is_pinned(const struct store_object *o);

/* Deletes the object; it is held exclusively. Closes it. */
int store_object_delete(struct store *s, struct store_object *o, struct err *e);

/* Deletes its small records. */
int store_object_drop_records(int dirfd);

/* Records that it is used now. */
void store_object_touch(const struct store_object *o);

void store_hash(const char *key, char ret[STORE_HASH + 1]);

/* Calls @fn for the hash of each object there is; stops at a negative return and returns it. */
typedef int store_object_fn(void *ctx, const char *hash);
int store_each(struct store *s, store_object_fn *fn, void *ctx, struct err *e);

/* Tries to become the only one who evicts. A descriptor to close when done, or -1. */
int store_elect(struct store *s);

#endif
