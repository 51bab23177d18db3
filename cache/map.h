/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map file of an object: which granules are in the data file, and their checksums. A page of
 * header, then one u32 a granule; 0 is absent, one value (which depends on the granule and the
 * generation) says that the granule is all zeros and not stored, any other is the checksum of its
 * bytes mixed with its index and the generation. A word left over from another generation matches
 * nothing.
 *
 * The file is mapped and shared between processes. All of it is allocated at creation, so that a
 * store into it never meets a full disk.
 *
 * Who changes the data file under granules, to fill or to evict, holds map_lock() on them. Readers
 * take no lock: they compare map_epoch() from before and after. The evictor clears the words, then
 * moves the epoch, then punches; so bytes read under one epoch, of granules seen present under it,
 * are not from a hole.
 */
#ifndef CACHE_MAP_H
#define CACHE_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct map {
	int fd;
	uint64_t gen;
	uint64_t granules;
	size_t length; /* bytes mapped */
	uint8_t *base;
	_Atomic uint32_t *slots;
	bool readonly;
};

/* Replaces the map @name in @dirfd by an empty one. Nobody else has it open. */
int map_create(
	int dirfd, const char *name, uint64_t size, uint64_t gen, struct map *ret, struct err *e);

/* -EBADMSG: it is not the map of @size bytes and generation @gen. */
int map_open(int dirfd, const char *name, uint64_t size, uint64_t gen, bool readonly,
	struct map *ret, struct err *e);

/* Replaces the map @name of @old_size bytes by one of @size bytes of the same generation. The words
 * of granules that are whole in both stay. Nobody else has it open. When it fails, neither may be
 * there. */
int map_resize(
	int dirfd, const char *name, uint64_t old_size, uint64_t size, uint64_t gen, struct err *e);

/* Makes it durable first, if @sync. */
void map_close(struct map *m, bool sync);

static inline uint32_t map_get(const struct map *m, uint64_t granule)
{
	return atomic_load_explicit(&m->slots[granule], memory_order_acquire);
}

/* Publishes; the bytes were written before. */
static inline void map_set(struct map *m, uint64_t granule, uint32_t slot)
{
	atomic_store_explicit(&m->slots[granule], slot, memory_order_release);
}

/* Makes @granule absent if its word still is @slot, and moves the epoch then. Whether it did. */
bool map_drop(struct map *m, uint64_t granule, uint32_t slot);

/* The word for a granule of @len bytes at @data; the word of a granule that is all zeros. */
uint32_t map_sum(const struct map *m, uint64_t granule, const void *data, size_t len);
uint32_t map_zero(const struct map *m, uint64_t granule);

uint64_t map_epoch(const struct map *m);
void map_move_epoch(struct map *m);

/* Tries to lock granules against other holders of the map (other processes, and other map_open()s
 * in this one). False: somebody has some of them. */
bool map_lock(struct map *m, uint64_t first, uint64_t count);
void map_unlock(struct map *m, uint64_t first, uint64_t count);

/* Keeps everybody's map_lock() out, of every granule, that of @m too; others may do so at the same
 * time. The lock has a file of its own, *ret_fd, and ends when that is closed: locks of one open
 * file are one to the kernel, and would be given up with it. @name in @dirfd is the file of @m.
 * False: somebody holds a map_lock(), or it cannot be told. */
bool map_guard(const struct map *m, int dirfd, const char *name, int *ret_fd);

/* Whether map_lock() of these fails because of a map_guard(): then nobody fills or evicts them. */
bool map_is_guarded(const struct map *m, uint64_t first, uint64_t count);

/* How many granules are present. Reads the file, so that pages never used stay out of memory. */
uint64_t map_count(const struct map *m);

#endif
