/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/power_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/rw.h"

#define SECTOR  512U
#define FOREVER UINT32_MAX

int __real_rw_pwrite(int fd, const void *buf, size_t len, uint64_t off);
int __wrap_rw_pwrite(int fd, const void *buf, size_t len, uint64_t off);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);

void (*power_disk_meanwhile)(void *ctx);
void *power_disk_ctx;
unsigned int power_disk_syncs;

/* Sectors, each once. */
struct list {
	uint64_t *items;
	size_t count;
	size_t room;
	uint8_t *listed; /* one a sector */
};

static struct {
	bool watching;
	int fd;
	uint64_t length;
	uint8_t *durable;    /* what the disk has */
	struct list touched; /* sectors in which the file may differ from that */
	struct list ever;    /* sectors that were ever written */
	unsigned int rand;
	unsigned int life; /* changes until death */
	bool dead;
	unsigned int full;
	bool bad_sync;
} disk;

static unsigned int draw(unsigned int below)
{
	return (unsigned int)rand_r(&disk.rand) % below;
}

static void *map_memory(uint64_t length)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(p != MAP_FAILED);
	return p;
}

static void list_add(struct list *l, uint64_t sector)
{
	if (l->listed[sector]) {
		return;
	}
	l->listed[sector] = 1;
	if (l->count == l->room) {
		l->room = l->room * 2 + 64;
		l->items = reallocarray(l->items, l->room, sizeof(*l->items));
		assert(l->items);
	}
	l->items[l->count++] = sector;
}

static void list_empty(struct list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		l->listed[l->items[i]] = 0;
	}
	l->count = 0;
}

static void list_fini(struct list *l)
{
	munmap(l->listed, disk.length / SECTOR);
	free(l->items);
}

static void write_back(uint64_t sector)
{
	assert(rw_pread(disk.fd, disk.durable + sector * SECTOR, SECTOR, sector * SECTOR) == 0);
}

void power_disk_watch(const char *path, unsigned int seed)
{
	struct stat st;

	assert(!disk.watching);
	disk.fd = open(path, O_RDWR | O_CLOEXEC);
	assert(disk.fd >= 0 && fstat(disk.fd, &st) == 0);
	/* Its end is zeros when it is read whole; nothing is written behind it. */
	disk.length = round_up((uint64_t)st.st_size, SECTOR);
	assert(disk.length == (uint64_t)st.st_size);
	disk.durable = map_memory(disk.length);
	disk.touched.listed = map_memory(disk.length / SECTOR);
	disk.ever.listed = map_memory(disk.length / SECTOR);
	for (off_t at = 0; (at = lseek(disk.fd, at, SEEK_DATA)) >= 0;) {
		off_t end = lseek(disk.fd, at, SEEK_HOLE);

		for (; at < end; at += SECTOR) {
			list_add(&disk.ever, (uint64_t)at / SECTOR);
			write_back((uint64_t)at / SECTOR);
		}
	}
	disk.rand = seed;
	disk.life = FOREVER;
	disk.watching = true;
}

void power_disk_end(void)
{
	assert(disk.watching);
	munmap(disk.durable, disk.length);
	list_fini(&disk.touched);
	list_fini(&disk.ever);
	close(disk.fd);
	disk = (__typeof__(disk)){ 0 };
}

/* The kernel writes whatever it likes, whenever it likes. */
static void write_back_some(void)
{
	for (size_t i = 0; i < disk.touched.count; i++) {
		if (draw(2)) {
			write_back(disk.touched.items[i]);
		}
	}
}

static void write_back_all(void)
{
	for (size_t i = 0; i < disk.touched.count; i++) {
		write_back(disk.touched.items[i]);
	}
	list_empty(&disk.touched);
}

static void touch(uint64_t off, uint64_t len)
{
	for (uint64_t s = off / SECTOR; s * SECTOR < off + len; s++) {
		list_add(&disk.touched, s);
		list_add(&disk.ever, s);
	}
	if (draw(4) == 0) {
		write_back_some();
	}
}

/* What was never written is zeros before and after. */
static void touch_hole(uint64_t off, uint64_t len)
{
	for (size_t i = 0; i < disk.ever.count; i++) {
		uint64_t s = disk.ever.items[i];

		if ((s + 1) * SECTOR > off && s * SECTOR < off + len) {
			list_add(&disk.touched, s);
		}
	}
	if (draw(4) == 0) {
		write_back_some();
	}
}

/* True: this is the call that the process dies in. */
static bool dies(void)
{
	if (disk.life != FOREVER && disk.life-- == 0) {
		disk.dead = true;
		disk.life = FOREVER;
		return true;
	}
	return false;
}

/* Of a write that is cut: whole pages of the page cache. */
static uint64_t part(uint64_t off, uint64_t len)
{
	uint64_t pages = (off + len - 1) / 4096 - off / 4096 + 1;
	uint64_t end = round_down(off, 4096) + draw((unsigned int)pages) * 4096;

	return end <= off ? 0 : end - off;
}

int __wrap_rw_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	bool last;

	if (!disk.watching) {
		return __real_rw_pwrite(fd, buf, len, off);
	}
	if (disk.dead) {
		return -EIO;
	}
	last = dies();
	if (last || disk.full > 0) {
		len = part(off, len);
	}
	assert(__real_rw_pwrite(fd, buf, len, off) == 0);
	touch(off, len);
	if (disk.full > 0) {
		disk.full--;
		return -ENOSPC;
	}
	return last ? -EIO : 0;
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	if (!disk.watching) {
		return __real_fallocate64(fd, mode, off, len);
	}
	if (disk.dead || dies()) {
		errno = EIO;
		return -1;
	}
	if (__real_fallocate64(fd, mode, off, len) < 0) {
		return -1;
	}
	touch_hole((uint64_t)off, (uint64_t)len);
	return 0;
}

int __wrap_fdatasync(int fd)
{
	if (!disk.watching) {
		return __real_fdatasync(fd);
	}
	if (disk.dead) {
		errno = EIO;
		return -1;
	}
	if (dies() || disk.bad_sync) {
		write_back_some();
		disk.bad_sync = false;
		errno = EIO;
		return -1;
	}
	power_disk_syncs++;
	write_back_all();
	if (power_disk_meanwhile) {
		power_disk_meanwhile(power_disk_ctx);
	}
	return 0;
}

void power_disk_die(unsigned int n)
{
	if (n == 0) {
		disk.dead = true;
	} else {
		disk.life = n - 1;
	}
}

bool power_disk_dead(void)
{
	return disk.dead;
}

void power_disk_restart(void)
{
	disk.dead = false;
	disk.life = FOREVER;
	disk.full = 0;
	disk.bad_sync = false;
}

void power_disk_cut(void)
{
	/* Some, all or none of what was not synced. */
	switch (draw(4)) {
	case 0:
		break;
	case 1:
		write_back_all();
		break;
	default:
		write_back_some();
	}
	for (size_t i = 0; i < disk.touched.count; i++) {
		uint64_t s = disk.touched.items[i];

		assert(__real_rw_pwrite(disk.fd, disk.durable + s * SECTOR, SECTOR, s * SECTOR) ==
			0);
	}
	list_empty(&disk.touched);
	power_disk_restart();
}

void power_disk_fill(unsigned int n)
{
	disk.full = n;
}

void power_disk_break_sync(void)
{
	disk.bad_sync = true;
}
