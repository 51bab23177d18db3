/* SPDX-License-Identifier: Apache-2.0 */
/* The words of presence: creation, validation, checksums, range locks. */
#include "cache/map.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define MAP_HEADER  4096U
#define MAP_MAGIC   0x31504d6b73445a4cULL /* "LZDskMP1" */
#define MAP_VERSION 1U

/* Layout of the header, little endian: magic u64, version u32, granule u32, size u64, gen u64,
 * xxh3 of these u64. The epoch lives apart, it changes and is not covered. */
#define HEADER_SUM   32U
#define HEADER_END   40U
#define HEADER_EPOCH 128U

static void header_make(uint8_t *h, uint64_t size, uint64_t gen)
{
	store_le64(h, MAP_MAGIC);
	store_le32(h + 8, MAP_VERSION);
	store_le32(h + 12, CACHE_GRANULE);
	store_le64(h + 16, size);
	store_le64(h + 24, gen);
	store_le64(h + HEADER_SUM, XXH3_64bits(h, HEADER_SUM));
}

static int map_bytes(uint64_t size, uint64_t *ret_granules, size_t *ret_length)
{
	uint64_t granules = div_round_up(size, CACHE_GRANULE);

	if (granules > (SIZE_MAX - MAP_HEADER) / (2 * sizeof(uint32_t))) {
		return -EFBIG;
	}
	*ret_granules = granules;
	*ret_length = MAP_HEADER + granules * sizeof(uint32_t);
	return 0;
}

static int map_attach(struct map *m)
{
	int prot = m->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
	void *p = mmap(NULL, m->length, prot, MAP_SHARED, m->fd, 0);

	if (p == MAP_FAILED) {
		return -errno;
	}
	m->base = p;
	m->slots = (_Atomic uint32_t *)(void *)(m->base + MAP_HEADER);
	return 0;
}

/* Copy-on-write file systems would need new space for each store into allocated space. */
static void refuse_cow(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

int map_create(
	int dirfd, const char *name, uint64_t size, uint64_t gen, struct map *ret, struct err *e)
{
	uint8_t header[HEADER_END];
	struct map m = { .gen = gen };
	CLEANUP_CLOSE int fd = -1;
	int r = map_bytes(size, &m.granules, &m.length);

	if (r < 0) {
		return err_sys(e, r, "cache map");
	}
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT) {
		return err_sys(e, errno, "cache map: unlink");
	}
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return err_sys(e, errno, "cache map: create");
	}
	refuse_cow(fd);
	if (fallocate(fd, 0, 0, (off_t)m.length) < 0) {
		return err_sys(e, errno, "cache map: allocate %zu bytes", m.length);
	}
	header_make(header, size, gen);
	r = rw_pwrite(fd, header, sizeof(header), 0);
	if (r < 0) {
		return err_sys(e, r, "cache map: write");
	}
	m.fd = fd;
	r = map_attach(&m);
	if (r < 0) {
		return err_sys(e, r, "cache map: mmap");
	}
	m.fd = TAKE_FD(fd);
	*ret = m;
	return 0;
}

static int header_check(int fd, const struct map *m, uint64_t size, struct err *e)
{
	uint8_t want[HEADER_END];
	uint8_t have[HEADER_END];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0) {
		return err_sys(e, errno, "cache map: stat");
	}
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->length) {
		return err_set(e, -EBADMSG, "cache map: wrong length");
	}
	r = rw_pread(fd, have, sizeof(have), 0);
	if (r < 0) {
		return err_sys(e, r, "cache map: read");
	}
	header_make(want, size, m->gen);
	if (memcmp(want, have, sizeof(want)) != 0) {
		return err_set(e, -EBADMSG, "cache map: not of this generation");
	}
	return 0;
}

int map_open(int dirfd, const char *name, uint64_t size, uint64_t gen, bool readonly,
	struct map *ret, struct err *e)
{
	struct map m = { .gen = gen, .readonly = readonly };
	CLEANUP_CLOSE int fd =
		openat(dirfd, name, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0) {
		return err_sys(e, errno, "cache map: open");
	}
	r = map_bytes(size, &m.granules, &m.length);
	if (r < 0) {
		return err_sys(e, r, "cache map");
	}
	r = header_check(fd, &m, size, e);
	if (r < 0) {
		return r;
	}
	m.fd = fd;
	r = map_attach(&m);
	if (r < 0) {
		return err_sys(e, r, "cache map: mmap");
	}
	m.fd = TAKE_FD(fd);
	*ret = m;
	return 0;
}

int map_resize(
	int dirfd, const char *name, uint64_t old_size, uint64_t size, uint64_t gen, struct err *e)
{
	uint64_t kept = min_u64(old_size, size) / CACHE_GRANULE;
	struct map old;
	struct map m;
	int r = map_open(dirfd, name, old_size, gen, false, &old, e);

	if (r < 0) {
		return r;
	}
	r = map_create(dirfd, name, size, gen, &m, e);
	if (r == 0) {
		for (uint64_t g = 0; g < kept; g++) {
			if (map_get(&old, g)) {
				map_set(&m, g, map_get(&old, g));
			}
		}
		map_close(&m, true);
	}
	map_close(&old, false);
	return r;
}

void map_close(struct map *m, bool sync)
{
	if (!m->base) {
		return;
	}
	if (sync && !m->readonly) {
		(void)msync(m->base, m->length, MS_SYNC);
		(void)fdatasync(m->fd);
	}
	munmap(m->base, m->length);
	close(m->fd);
	m->base = NULL;
}

bool map_drop(struct map *m, uint64_t granule, uint32_t slot)
{
	if (m->readonly || !atomic_compare_exchange_strong(&m->slots[granule], &slot, 0)) {
		return false;
	}
	map_move_epoch(m);
	return true;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint32_t map_zero(const struct map *m, uint64_t granule)
{
	uint32_t slot = (uint32_t)mix(m->gen + granule * 0x9e3779b97f4a7c15ULL);

	return slot ? slot : 1;
}

uint32_t map_sum(const struct map *m, uint64_t granule, const void *data, size_t len)
{
	uint64_t place = mix(m->gen ^ (granule + 1) * 0x9e3779b97f4a7c15ULL);
	uint32_t slot = (uint32_t)mix(XXH3_64bits(data, len) ^ place);

	/* 2 values mean something else; 3 in a row cannot all be taken. */
	while (slot == 0 || slot == map_zero(m, granule)) {
		slot++;
	}
	return slot;
}

static _Atomic uint64_t *epoch_word(const struct map *m)
{
	return (_Atomic uint64_t *)(void *)(m->base + HEADER_EPOCH);
}

uint64_t map_epoch(const struct map *m)
{
	return atomic_load(epoch_word(m));
}

void map_move_epoch(struct map *m)
{
	atomic_fetch_add(epoch_word(m), 1);
}

static struct flock range_of(short type, uint64_t first, uint64_t count)
{
	return (struct flock){
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)(MAP_HEADER + first * sizeof(uint32_t)),
		.l_len = (off_t)(count * sizeof(uint32_t)),
	};
}

static int range_lock(int fd, short type, uint64_t first, uint64_t count)
{
	struct flock lock = range_of(type, first, count);

	return fcntl(fd, F_OFD_SETLK, &lock);
}

bool map_lock(struct map *m, uint64_t first, uint64_t count)
{
	return !m->readonly && range_lock(m->fd, F_WRLCK, first, count) == 0;
}

void map_unlock(struct map *m, uint64_t first, uint64_t count)
{
	if (!m->readonly) {
		(void)range_lock(m->fd, F_UNLCK, first, count);
	}
}

/* Whether @fd is the file of @m, and not one that took its name. */
static bool is_file_of(const struct map *m, int fd)
{
	struct stat own;
	struct stat st;

	return fstat(m->fd, &own) == 0 && fstat(fd, &st) == 0 && own.st_ino == st.st_ino &&
	       own.st_dev == st.st_dev;
}

bool map_guard(const struct map *m, int dirfd, const char *name, int *ret_fd)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || !is_file_of(m, fd) || range_lock(fd, F_RDLCK, 0, m->granules) < 0) {
		return false;
	}
	*ret_fd = TAKE_FD(fd);
	return true;
}

bool map_is_guarded(const struct map *m, uint64_t first, uint64_t count)
{
	struct flock lock = range_of(F_WRLCK, first, count);

	return fcntl(m->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_RDLCK;
}

/* The words of [pos, pos + sizeof(buf)) that are not 0. */
static uint64_t count_piece(const struct map *m, uint64_t pos, uint64_t *ret_next)
{
	uint32_t words[4096];
	size_t n = min_u64(sizeof(words), m->length - pos);
	uint64_t present = 0;

	*ret_next = pos + n;
	if (rw_pread(m->fd, words, n, pos) < 0) {
		return 0;
	}
	for (size_t i = 0; i < n / sizeof(words[0]); i++) {
		present += words[i] != 0;
	}
	return present;
}

uint64_t map_count(const struct map *m)
{
	uint64_t present = 0;
	uint64_t pos = MAP_HEADER;

	while (pos < m->length) {
		off_t data = lseek(m->fd, (off_t)pos, SEEK_DATA);

		if (data < 0 && errno == ENXIO) {
			break;
		}
		if (data > 0 && (uint64_t)data > pos) {
			pos = round_down((uint64_t)data, sizeof(uint32_t));
			pos = max_u64(pos, MAP_HEADER);
		}
		if (pos < m->length) {
			present += count_piece(m, pos, &pos);
		}
	}
	return present;
}
