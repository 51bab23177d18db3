/* SPDX-License-Identifier: Apache-2.0 */
/* Granules in a sparse file and their words in the map. Nothing read from here is trusted before
 * its checksum was seen to match once in this process. */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "cache/blobdir.h"
#include "cache/map.h"
#include "core/cleanup.h"
#include "core/rw.h"

/* How often a granule is looked at again when an evictor came in between. */
#define CAREFUL_TRIES 4U
#define PUT_RUN       128U

struct disk {
	struct object object;
	struct map map;
	int data;
	struct store_object where;
	struct kept kept;
	struct keeper *keeper;
	struct pool *pool;
	struct bits verified; /* seen right (or written) by this process */
	struct bits bad;      /* seen wrong, and the map cannot be changed */
};

static bool is_present(const struct disk *d, uint64_t g, uint32_t *ret_slot)
{
	uint32_t slot = map_get(&d->map, g);

	*ret_slot = slot;
	return slot != 0 && !bits_test(&d->bad, g);
}

static void reject(struct disk *d, uint64_t g, uint32_t slot)
{
	map_drop(&d->map, g, slot);
	bits_set(&d->bad, g);
	atomic_fetch_add(&d->object.torn, 1);
	atomic_fetch_add(&d->object.absent, 1);
}

/* Reads all of granule @g into @block and proves it. False: it is not to be had from here. */
static bool read_careful(struct disk *d, uint64_t g, uint8_t *block)
{
	size_t len = object_granule_len(&d->object, g);

	for (unsigned int i = 0; i < CAREFUL_TRIES; i++) {
		uint64_t epoch = map_epoch(&d->map);
		uint32_t slot;

		if (!is_present(d, g, &slot)) {
			return false;
		}
		if (slot == map_zero(&d->map, g)) {
			memset(block, 0, len);
			return true;
		}
		if (rw_pread(d->data, block, len, g * CACHE_GRANULE) == 0 &&
			map_sum(&d->map, g, block, len) == slot) {
			bits_set(&d->verified, g);
			return true;
		}
		if (map_epoch(&d->map) == epoch && map_get(&d->map, g) == slot) {
			reject(d, g, slot);
			return false;
		}
	}
	return false;
}

/* A part of granule @g, by way of a block. Returns @len or 0. */
static size_t read_part(struct disk *d, uint64_t g, uint8_t *buf, size_t len, size_t within)
{
	uint8_t *block = pool_get(d->pool);
	bool fine = block && read_careful(d, g, block);

	if (fine) {
		memcpy(buf, block + within, len);
	}
	pool_put(d->pool, block);
	return fine ? len : 0;
}

/* Bytes from @off on that can be read with one pread(): present, not zeros, and either verified or
 * wholly within the range. */
static size_t plain_run(const struct disk *d, size_t len, uint64_t off)
{
	size_t run = 0;

	while (run < len) {
		uint64_t g = (off + run) / CACHE_GRANULE;
		size_t within = (off + run) % CACHE_GRANULE;
		size_t whole = object_granule_len(&d->object, g);
		size_t n = min_u64(len - run, whole - within);
		uint32_t slot;

		if (!is_present(d, g, &slot) || slot == map_zero(&d->map, g) ||
			(n < whole && !bits_test(&d->verified, g))) {
			break;
		}
		run += n;
	}
	return run;
}

/* Proves the granules of [off, off + len), now in @buf, that were not yet; whole ones all. Returns
 * the bytes up to the first that is wrong. */
static size_t verify_run(struct disk *d, const uint8_t *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		uint64_t g = (off + done) / CACHE_GRANULE;
		size_t n = min_u64(len - done, (g + 1) * CACHE_GRANULE - (off + done));

		if (!bits_test(&d->verified, g)) {
			if (map_sum(&d->map, g, buf + done, n) != map_get(&d->map, g)) {
				break;
			}
			bits_set(&d->verified, g);
		}
		done += n;
	}
	return done;
}

/* The fast way: many granules, one pread(). Returns how many bytes are good. */
static size_t read_plain(struct disk *d, uint8_t *buf, size_t len, uint64_t off)
{
	uint64_t epoch = map_epoch(&d->map);
	size_t run = plain_run(d, len, off);

	if (run == 0 || rw_pread(d->data, buf, run, off) < 0) {
		return 0;
	}
	run = verify_run(d, buf, run, off);
	return map_epoch(&d->map) == epoch ? run : 0;
}

static void touch(struct disk *d, uint64_t off, size_t len)
{
	for (uint64_t s = off / EVICT_SEGMENT; s <= (off + len - 1) / EVICT_SEGMENT; s++) {
		bits_set(&d->kept.touched, s);
	}
}

static size_t disk_read(struct object *o, uint8_t *buf, size_t len, uint64_t off)
{
	struct disk *d = (struct disk *)o;
	size_t done = 0;

	while (done < len) {
		uint64_t pos = off + done;
		uint64_t g = pos / CACHE_GRANULE;
		size_t within = pos % CACHE_GRANULE;
		size_t n = min_u64(len - done, CACHE_GRANULE - within);
		uint32_t slot;

		if (!is_present(d, g, &slot)) {
			break;
		}
		if (slot == map_zero(&d->map, g)) {
			memset(buf + done, 0, n);
		} else {
			size_t run = read_plain(d, buf + done, len - done, pos);

			n = run > 0 ? run : read_part(d, g, buf + done, n, within);
		}
		if (n == 0) {
			break;
		}
		done += n;
	}
	if (done > 0) {
		touch(d, off, done);
	}
	return done;
}

static bool disk_present(struct object *o, uint64_t granule)
{
	uint32_t slot;

	return is_present((struct disk *)o, granule, &slot);
}

static int write_all(int fd, struct iovec *iov, unsigned int count, uint64_t off)
{
	while (count > 0) {
		ssize_t n = pwritev(fd, iov, (int)count, (off_t)off);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		off += (uint64_t)n;
		while (count > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static void publish(struct disk *d, uint64_t g, uint32_t slot)
{
	if (map_get(&d->map, g) == 0) {
		atomic_fetch_sub(&d->object.absent, 1);
	}
	bits_set(&d->verified, g);
	map_set(&d->map, g, slot);
	bits_reset(&d->bad, g);
}

/* Writes and publishes the granules from @first on until one that is all zeros, at most PUT_RUN.
 * *ret_count: how many. */
static int put_run(
	struct disk *d, uint64_t first, uint8_t *const *blocks, size_t count, size_t *ret_count)
{
	struct iovec iov[PUT_RUN];
	uint32_t sums[PUT_RUN];
	unsigned int n = 0;
	int r;

	while (n < count && n < PUT_RUN) {
		size_t len = object_granule_len(&d->object, first + n);

		if (is_zero(blocks[n], len)) {
			break;
		}
		sums[n] = map_sum(&d->map, first + n, blocks[n], len);
		iov[n] = (struct iovec){ blocks[n], len };
		n++;
	}
	if (n == 0) {
		publish(d, first, map_zero(&d->map, first));
		*ret_count = 1;
		return 0;
	}
	r = write_all(d->data, iov, n, first * CACHE_GRANULE);
	if (r < 0) {
		return r;
	}
	for (unsigned int i = 0; i < n; i++) {
		publish(d, first + i, sums[i]);
	}
	keeper_wrote(d->keeper, (uint64_t)n * CACHE_GRANULE);
	*ret_count = n;
	return 0;
}

static bool disk_put(struct object *o, uint64_t first, uint8_t *const *blocks, size_t count)
{
	struct disk *d = (struct disk *)o;
	bool admitted = !d->map.readonly && keeper_admits(d->keeper);
	size_t done = 0;

	while (admitted && done < count) {
		size_t n;
		int r = put_run(d, first + done, blocks + done, count - done, &n);

		if (r < 0) {
			keeper_failed(d->keeper, r);
			break;
		}
		done += n;
	}
	atomic_fetch_add(&o->bypassed, count - done);
	atomic_store(&o->bypass, !admitted);
	return done == count;
}

static bool disk_claim(struct object *o, uint64_t first, uint64_t count)
{
	return map_lock(&((struct disk *)o)->map, first, count);
}

static void disk_unclaim(struct object *o, uint64_t first, uint64_t count)
{
	map_unlock(&((struct disk *)o)->map, first, count);
}

static uint64_t disk_present_bytes(struct object *o)
{
	struct disk *d = (struct disk *)o;
	uint64_t bytes = map_count(&d->map) * CACHE_GRANULE;

	return min_u64(bytes, o->size);
}

static void disk_free(struct disk *d, bool sync)
{
	if (d->data >= 0) {
		if (sync && !d->map.readonly) {
			(void)fdatasync(d->data);
		}
		close(d->data);
	}
	map_close(&d->map, sync);
	blobdir_free(d->object.blobs);
	bits_fini(&d->verified);
	bits_fini(&d->bad);
	bits_fini(&d->kept.touched);
	store_object_close(&d->where);
	free(d);
}

static void disk_close(struct object *o)
{
	struct disk *d = (struct disk *)o;

	keeper_remove(d->keeper, &d->kept);
	if (!d->map.readonly) {
		store_object_touch(&d->where);
	}
	disk_free(d, true);
}

static const struct object_ops disk_ops = {
	.read = disk_read,
	.present = disk_present,
	.put = disk_put,
	.claim = disk_claim,
	.unclaim = disk_unclaim,
	.present_bytes = disk_present_bytes,
	.close = disk_close,
};

static int open_data(struct disk *d, bool create, struct err *e)
{
	int flags = (d->map.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW;

	d->data = openat(d->where.fd, "data", flags | (create ? O_CREAT : 0), 0600);
	if (d->data < 0) {
		return err_sys(e, errno, "cache data: open");
	}
	return 0;
}

static int reset_data(struct disk *d, struct err *e)
{
	int flags;
	int r;

	d->map.readonly = false;
	r = open_data(d, true, e);
	if (r < 0) {
		return r;
	}
	if (ftruncate(d->data, 0) < 0) {
		return err_sys(e, errno, "cache data: truncate");
	}
	if (ioctl(d->data, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL; /* random writes and holes: copy-on-write only fragments */
		(void)ioctl(d->data, FS_IOC_SETFLAGS, &flags);
	}
	if (ftruncate(d->data, (off_t)d->object.size) < 0) {
		return err_sys(e, errno, "cache data: truncate");
	}
	return 0;
}

/* What was learned from other bytes is not to survive them. */
static int drop_records(int dirfd, struct err *e)
{
	int r = store_object_drop_records(dirfd);

	return r < 0 ? err_sys(e, r, "cache: old records") : 0;
}

/* Empties the object: a new generation, under which no old word or byte means anything. */
static int reset(struct disk *d, const struct store_meta *want, struct err *e)
{
	struct store_meta meta = *want;
	int r;

	if (getrandom(&meta.gen, sizeof(meta.gen), 0) != sizeof(meta.gen)) {
		return err_sys(e, errno, "no random numbers");
	}
	r = drop_records(d->where.fd, e);
	if (r == 0) {
		r = reset_data(d, e);
	}
	if (r == 0) {
		r = map_create(d->where.fd, "map", d->object.size, meta.gen, &d->map, e);
	}
	if (r == 0) {
		r = store_meta_write(d->where.fd, &meta, e);
	}
	return r;
}

/* Opens what is there. False: it is of another image, or damaged. */
static bool resume(struct disk *d, const struct store_meta *want, bool readonly)
{
	struct store_meta have;
	bool fits;

	if (store_meta_read(d->where.fd, &have, NULL) < 0) {
		return false;
	}
	fits = strcmp(have.key, want->key) == 0 && strcmp(have.id, want->id) == 0 &&
	       have.size == want->size &&
	       map_open(d->where.fd, "map", have.size, have.gen, readonly, &d->map, NULL) == 0;
	store_meta_clear(&have);
	if (!fits) {
		return false;
	}
	if (open_data(d, !readonly, NULL) < 0) {
		map_close(&d->map, false);
		return false;
	}
	d->object.absent = d->object.granules - min_u64(map_count(&d->map), d->object.granules);
	return true;
}

static int attach(
	struct disk *d, const struct store_meta *want, bool fresh, bool readonly, struct err *e)
{
	if (!fresh && resume(d, want, readonly)) {
		return 0;
	}
	if (!d->where.exclusive) {
		return err_set(e, -EBUSY,
			"another process has another version of this image in the cache open");
	}
	return reset(d, want, e);
}

static int prepare(struct disk *d, uint64_t size, struct err *e)
{
	d->object.ops = &disk_ops;
	d->object.size = size;
	d->object.granules = object_granules(size);
	d->object.absent = d->object.granules;
	d->object.mode = "disk";
	if (bits_init(&d->verified, d->object.granules) < 0 ||
		bits_init(&d->bad, d->object.granules) < 0 ||
		bits_init(&d->kept.touched, size / EVICT_SEGMENT + 1) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

int disk_open(struct store *s, struct keeper *k, struct pool *p, const struct store_meta *want,
	unsigned int flags, struct object **ret, struct err *e)
{
	struct disk *d = calloc(1, sizeof(*d));
	char hash[STORE_HASH + 1];
	int r;

	if (!d) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	d->data = -1;
	d->where = (struct store_object){ .fd = -1, .lock = -1 };
	d->keeper = k;
	d->pool = p;
	store_hash(want->key, hash);
	r = prepare(d, want->size, e);
	if (r == 0) {
		r = store_object_open(s, hash, true, &d->where, e);
	}
	if (r == 0) {
		r = attach(d, want, flags & DISK_FRESH, s->readonly, e);
	}
	if (r == 0 && blobdir_new(d->where.fd, &d->object.blobs) < 0) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		disk_free(d, false);
		return r;
	}
	if (flags & DISK_PINNED) {
		store_object_pin(&d->where);
	}
	store_object_share(&d->where);
	if (!s->readonly) {
		store_object_touch(&d->where);
	}
	d->kept.where = &d->where;
	d->kept.data = d->data;
	d->kept.absent = &d->object.absent;
	keeper_add(k, &d->kept);
	*ret = &d->object;
	return 0;
}
