/* SPDX-License-Identifier: Apache-2.0 */
/* Granules in a sparse file and their words in the map. Nothing read from here is trusted before
 * its checksum was seen to match once in this process. */
#include "cache/disk_object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "cache/blobdir.h"
#include "core/cleanup.h"
#include "core/rw.h"

/* How often a granule is looked at again when an evictor came in between. */
#define CAREFUL_TRIES 4U
#define PUT_RUN       128U

static bool is_present(const struct disk *d, uint64_t g, uint32_t *ret_slot)
{
	uint32_t slot = map_get(&d->map, g);

	*ret_slot = slot;
	return slot != 0 && !bits_test(&d->bad, g);
}

/* Whether the bytes of @g need no look. What the kernel has in memory of writes that the disk then
 * refused is right only until it lets go of it. */
static bool is_proven(const struct disk *d, uint64_t g)
{
	return bits_test(&d->verified, g) &&
	       !atomic_load_explicit(&d->kept.doubted, memory_order_relaxed);
}

/* One granule less is absent. What others evicted was not counted: there may be none. */
static void count_present(struct disk *d)
{
	uint64_t n = atomic_load(&d->object.absent);

	while (n > 0 && !atomic_compare_exchange_weak(&d->object.absent, &n, n - 1)) {
	}
}

/* Counted before, so that who puts it again at once finds it counted; and taken back when somebody
 * else was quicker. */
static void drop(struct disk *d, uint64_t g, uint32_t slot)
{
	atomic_fetch_add(&d->object.absent, 1);
	if (!map_drop(&d->map, g, slot)) {
		count_present(d);
	}
}

/* Where the map cannot be changed, this process alone takes it for absent. */
static void disbelieve(struct disk *d, uint64_t g)
{
	if (!bits_set(&d->bad, g)) {
		atomic_fetch_add(&d->object.absent, 1);
	}
}

static void reject(struct disk *d, uint64_t g, uint32_t slot)
{
	atomic_fetch_add(&d->object.torn, 1);
	/* No verdict is of an image that lacks something: not before, and not after for who was
	 * about to write one down, and looks then whether all is still here. */
	blobdir_unverify(d->where.fd);
	if (d->map.readonly) {
		disbelieve(d, g);
	} else {
		drop(d, g, slot);
	}
	blobdir_unverify(d->where.fd);
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
	uint8_t *block = pool_get(d->env.pool);
	bool fine = block && read_careful(d, g, block);

	if (fine) {
		memcpy(buf, block + within, len);
	}
	pool_put(d->env.pool, block);
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
			(n < whole && !is_proven(d, g))) {
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

		if (!is_proven(d, g)) {
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
	if (!atomic_load_explicit(&d->kept.active, memory_order_relaxed)) {
		atomic_store_explicit(&d->kept.active, true, memory_order_relaxed);
	}
}

/* The next bytes from the files, or 0. */
static size_t read_some(struct disk *d, uint8_t *buf, size_t len, uint64_t off)
{
	uint64_t g = off / CACHE_GRANULE;
	size_t within = off % CACHE_GRANULE;
	size_t n = min_u64(len, CACHE_GRANULE - within);
	uint32_t slot;

	if (!is_present(d, g, &slot)) {
		return 0;
	}
	if (slot == map_zero(&d->map, g)) {
		memset(buf, 0, n);
		return n;
	}
	len = read_plain(d, buf, len, off);
	return len > 0 ? len : read_part(d, g, buf, n, within);
}

static size_t disk_read(struct object *o, uint8_t *buf, size_t len, uint64_t off)
{
	struct disk *d = (struct disk *)o;
	size_t done = 0;

	while (done < len) {
		size_t n = read_some(d, buf + done, len - done, off + done);

		if (n == 0 && atomic_load(&d->spilled)) {
			n = d->spill->ops->read(d->spill, buf + done, len - done, off + done);
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
	struct disk *d = (struct disk *)o;
	uint32_t slot;

	return is_present(d, granule, &slot) ||
	       (atomic_load(&d->spilled) && d->spill->ops->present(d->spill, granule));
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
		count_present(d);
	}
	bits_set(&d->verified, g);
	map_set(&d->map, g, slot);
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
	keeper_wrote(d->env.keeper, (uint64_t)n * CACHE_GRANULE);
	*ret_count = n;
	return 0;
}

/* Returns how many granules the disk took. */
static size_t put_on_disk(struct disk *d, uint64_t first, uint8_t *const *blocks, size_t count)
{
	size_t done = 0;

	if (d->map.readonly || !keeper_admits(d->env.keeper)) {
		return 0;
	}
	while (done < count) {
		size_t n;
		int r = put_run(d, first + done, blocks + done, count - done, &n);

		if (r < 0) {
			keeper_failed(d->env.keeper, r);
			break;
		}
		done += n;
	}
	return done;
}

static void put_absent(struct disk *d, uint64_t first, uint8_t *const *blocks, size_t count)
{
	size_t done = put_on_disk(d, first, blocks, count);

	if (done < count) {
		atomic_fetch_add(&d->object.bypassed, count - done);
		d->spill->ops->put(d->spill, first + done, blocks + done, count - done);
		atomic_store(&d->spilled, true);
	}
}

/* Others, whose claim was over before, may have brought some of it, and found it right. */
static void disk_put(struct object *o, uint64_t first, uint8_t *const *blocks, size_t count)
{
	size_t from = 0;

	while (from < count) {
		size_t n = 0;

		while (from + n < count && !disk_present(o, first + from + n)) {
			n++;
		}
		if (n > 0) {
			put_absent((struct disk *)o, first + from, blocks + from, n);
		}
		from += n + 1;
	}
}

/* The verdict goes before the first and after the last, as in reject(): between, whoever writes one
 * down sees that some went. Not with each: they may be a million, and readers wait. */
static void drop_run(struct disk *d, uint64_t first, uint64_t end)
{
	bool any = false;

	for (uint64_t g = first; g < end; g++) {
		uint32_t slot = map_get(&d->map, g);

		if (slot == 0) {
			continue;
		}
		if (!any) {
			blobdir_unverify(d->where.fd);
		}
		any = true;
		drop(d, g, slot);
		bits_reset(&d->verified, g);
	}
	if (any) {
		blobdir_unverify(d->where.fd);
	}
}

static void doubt_run(struct disk *d, uint64_t first, uint64_t end)
{
	for (uint64_t g = first; g < end; g++) {
		if (map_get(&d->map, g) != 0) {
			disbelieve(d, g);
		}
	}
}

static void disk_forget(struct object *o, uint64_t first, uint64_t count)
{
	struct disk *d = (struct disk *)o;

	if (d->map.readonly) {
		doubt_run(d, first, first + count);
	} else {
		drop_run(d, first, first + count);
	}
	d->spill->ops->forget(d->spill, first, count);
}

/* Where nothing can be written there is nothing to agree on. */
static bool disk_claim(struct object *o, uint64_t first, uint64_t count)
{
	struct disk *d = (struct disk *)o;

	return d->map.readonly || map_lock(&d->map, first, count);
}

static void disk_unclaim(struct object *o, uint64_t first, uint64_t count)
{
	struct disk *d = (struct disk *)o;

	map_unlock(&d->map, first, count);
}

static bool disk_is_lent(struct object *o, uint64_t first, uint64_t count)
{
	return map_is_guarded(&((struct disk *)o)->map, first, count);
}

static uint64_t disk_present_bytes(struct object *o)
{
	struct disk *d = (struct disk *)o;
	uint64_t bytes = map_count(&d->map) * CACHE_GRANULE;

	return min_u64(bytes, o->size);
}

static uint64_t disk_generation(struct object *o)
{
	return map_epoch(&((struct disk *)o)->map);
}

void disk_free(struct disk *d, bool sync)
{
	if (d->data >= 0) {
		if (sync && !d->map.readonly) {
			(void)fdatasync(d->data);
		}
		close(d->data);
	}
	map_close(&d->map, sync);
	if (d->spill) {
		d->spill->ops->close(d->spill);
	}
	blobdir_free(d->object.blobs);
	bits_fini(&d->verified);
	bits_fini(&d->bad);
	bits_fini(&d->kept.touched);
	store_object_close(&d->where);
	free(d);
}

static void disk_pin(struct object *o)
{
	store_object_pin(&((struct disk *)o)->where);
}

static void disk_close(struct object *o)
{
	struct disk *d = (struct disk *)o;

	keeper_remove(d->env.keeper, &d->kept);
	if (!d->map.readonly) {
		store_object_touch(&d->where);
	}
	disk_free(d, true);
}

const struct object_ops disk_ops = {
	.read = disk_read,
	.present = disk_present,
	.put = disk_put,
	.forget = disk_forget,
	.claim = disk_claim,
	.unclaim = disk_unclaim,
	.is_lent = disk_is_lent,
	.present_bytes = disk_present_bytes,
	.generation = disk_generation,
	.lend = disk_lend,
	.unlend = disk_unlend,
	.pin = disk_pin,
	.close = disk_close,
};
