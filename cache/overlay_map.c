/* SPDX-License-Identifier: Apache-2.0 */
/* Two bits a unit, in sectors as they stand in the file, but for their sums: those are made when a
 * sector is saved. */
#include "cache/overlay_map.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/bits.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define PAGE         OVERLAY_FILE_PAGE
#define SECTOR       OVERLAY_FILE_SECTOR
#define PAGE_SECTORS (PAGE / SECTOR)
#define BATCH        256U /* pages that are saved in one go */

#define DATA_BITS 0x5555555555555555ULL /* of 32 units that are data; twice that: zeros */

struct overlay_map {
	pthread_mutex_t lock; /* what follows, but for `fd`, `seed` and `shape` */
	int fd;
	uint64_t seed;
	struct overlay_file_shape shape;
	uint8_t *memory; /* the pages of the roots, then those of the map */
	size_t length;
	struct bits dirty; /* one a page of `memory` */
	uint64_t data;     /* units */
	uint64_t zero;
	int broken;
};

/* Where a unit's two bits are. */
struct place {
	uint64_t page; /* of the map */
	uint8_t *sector;
	unsigned int slot; /* in the sector */
};

static struct place place_of(const struct overlay_map *m, uint64_t unit)
{
	uint64_t page = unit / OVERLAY_FILE_PAGE_SLOTS;
	unsigned int rest = (unsigned int)(unit % OVERLAY_FILE_PAGE_SLOTS);
	uint8_t *p = m->memory + (m->shape.roots + page) * PAGE;

	return (struct place){ page, p + rest / OVERLAY_FILE_SLOTS * SECTOR,
		rest % OVERLAY_FILE_SLOTS };
}

/* The byte of the roots and the bit in it that stand for @page of the map. */
static uint8_t *root_of(const struct overlay_map *m, uint64_t page, uint8_t *ret_bit)
{
	uint64_t rest = page % OVERLAY_FILE_ROOT_BITS;

	*ret_bit = (uint8_t)(1U << (rest % 8));
	return m->memory + page / OVERLAY_FILE_ROOT_BITS * SECTOR + rest / 8;
}

static bool exists(const struct overlay_map *m, uint64_t page)
{
	uint8_t bit;
	const uint8_t *byte = root_of(m, page, &bit);

	return *byte & bit;
}

static enum overlay_state slot_get(const struct place *p)
{
	return (enum overlay_state)(p->sector[p->slot / 4] >> (p->slot % 4 * 2) & 3);
}

static uint64_t number_of_sector(const struct overlay_map *m, const uint8_t *sector)
{
	return (uint64_t)(sector - m->memory) / SECTOR;
}

/* Counts what a sector says. False: it says what means nothing. */
static bool sector_count(const uint8_t *sector, uint64_t *ret_data, uint64_t *ret_zero)
{
	uint64_t data = 0;
	uint64_t zero = 0;

	for (size_t i = 0; i < OVERLAY_FILE_PAYLOAD; i += sizeof(uint64_t)) {
		uint64_t w = load_le64(sector + i);
		uint64_t low = w & DATA_BITS;
		uint64_t high = w >> 1 & DATA_BITS;

		if (low & high) {
			return false;
		}
		data += (unsigned int)__builtin_popcountll(low);
		zero += (unsigned int)__builtin_popcountll(high);
	}
	*ret_data = data;
	*ret_zero = zero;
	return true;
}

static int damaged(const char *path, const char *what, uint64_t number, struct err *e)
{
	return err_set(e, -EBADMSG,
		"the overlay %s is damaged: sector %" PRIu64 " of its %s has a wrong checksum",
		path, number, what);
}

/* Nothing may be said of units behind the end. */
static bool tail_is_clear(const struct overlay_map *m)
{
	uint64_t end = m->shape.pages * OVERLAY_FILE_PAGE_SLOTS;
	uint64_t pages = m->shape.roots * PAGE_SECTORS * OVERLAY_FILE_ROOT_BITS;

	for (uint64_t page = m->shape.pages; page < pages; page++) {
		if (exists(m, page)) {
			return false;
		}
	}
	for (uint64_t unit = m->shape.units; unit < end; unit++) {
		struct place p = place_of(m, unit);

		if (slot_get(&p) != OVERLAY_ABSENT) {
			return false;
		}
	}
	return true;
}

static int load_roots(struct overlay_map *m, const char *path, struct err *e)
{
	int r = rw_pread(m->fd, m->memory, m->shape.roots * PAGE, m->shape.root_off);

	if (r < 0) {
		return err_sys(e, r, "read the roots of the overlay %s", path);
	}
	for (uint64_t i = 0; i < m->shape.roots * PAGE_SECTORS; i++) {
		if (!overlay_file_sealed(m->seed, i, m->memory + i * SECTOR)) {
			return damaged(path, "roots", i, e);
		}
	}
	return 0;
}

static int load_page(struct overlay_map *m, uint64_t page, const char *path, struct err *e)
{
	uint8_t *p = m->memory + (m->shape.roots + page) * PAGE;
	int r = rw_pread(m->fd, p, PAGE, m->shape.map_off + page * PAGE);

	if (r < 0) {
		return err_sys(e, r, "read the map of the overlay %s", path);
	}
	for (unsigned int i = 0; i < PAGE_SECTORS; i++) {
		const uint8_t *sector = p + (size_t)i * SECTOR;
		uint64_t number = page * PAGE_SECTORS + i;
		uint64_t data;
		uint64_t zero;

		if (!overlay_file_sealed(m->seed, number_of_sector(m, sector), sector) ||
			!sector_count(sector, &data, &zero)) {
			return damaged(path, "map", number, e);
		}
		m->data += data;
		m->zero += zero;
	}
	return 0;
}

static int load(struct overlay_map *m, const char *path, struct err *e)
{
	int r = load_roots(m, path, e);

	for (uint64_t page = 0; r == 0 && page < m->shape.pages; page++) {
		if (exists(m, page)) {
			r = load_page(m, page, path, e);
		}
	}
	if (r == 0 && !tail_is_clear(m)) {
		r = err_set(e, -EBADMSG,
			"the overlay %s is damaged: its map has entries behind the end of the disk",
			path);
	}
	return r;
}

int overlay_map_new(int fd, const char *path, const struct overlay_file_header *h, bool fresh,
	struct overlay_map **ret, struct err *e)
{
	struct overlay_map *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	pthread_mutex_init(&m->lock, NULL);
	m->fd = fd;
	m->seed = overlay_file_seed(h);
	m->shape = h->shape;
	m->length = (h->shape.roots + h->shape.pages) * PAGE + PAGE;
	m->memory = mmap(NULL, m->length, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->memory == MAP_FAILED) {
		m->memory = NULL;
	}
	if (!m->memory || bits_init(&m->dirty, m->length / PAGE) < 0) {
		r = err_set(e, -ENOMEM, "out of memory");
	} else {
		r = fresh ? 0 : load(m, path, e);
	}
	if (r < 0) {
		overlay_map_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void overlay_map_free(struct overlay_map *m)
{
	if (m) {
		if (m->memory) {
			munmap(m->memory, m->length);
		}
		bits_fini(&m->dirty);
		pthread_mutex_destroy(&m->lock);
		free(m);
	}
}

/* How many units from @unit on, at most @most, have state @state, as far as that can be seen in one
 * step: a page that does not exist, a byte, a unit. */
static uint64_t step(
	const struct overlay_map *m, uint64_t unit, uint64_t most, enum overlay_state state)
{
	static const uint8_t pattern[] = { 0x00, 0x55, 0xaa };
	struct place p = place_of(m, unit);

	if (!exists(m, p.page)) {
		return state == OVERLAY_ABSENT
			       ? min_u64(most,
					 OVERLAY_FILE_PAGE_SLOTS - unit % OVERLAY_FILE_PAGE_SLOTS)
			       : 0;
	}
	if (p.slot % 4 == 0 && p.sector[p.slot / 4] == pattern[state]) {
		return min_u64(most, 4);
	}
	return slot_get(&p) == state ? 1 : 0;
}

enum overlay_state overlay_map_at(
	struct overlay_map *m, uint64_t unit, uint64_t most, uint64_t *ret_count)
{
	enum overlay_state state = OVERLAY_ABSENT;
	uint64_t count = 0;
	uint64_t more = 1;
	struct place p;
	LOCK_SCOPE(&m->lock);

	p = place_of(m, unit);
	if (exists(m, p.page)) {
		state = slot_get(&p);
	}
	while (count < most && more > 0) {
		more = step(m, unit + count, most - count, state);
		count += more;
	}
	*ret_count = count;
	return state;
}

/* Writes @page with nothing in it, so that its place in the file is there. */
static int make_page(struct overlay_map *m, uint64_t page)
{
	_Alignas(PAGE) uint8_t empty[PAGE] = { 0 };
	uint64_t first = (m->shape.roots + page) * PAGE_SECTORS;
	uint8_t *byte;
	uint8_t bit;
	int r;

	for (unsigned int i = 0; i < PAGE_SECTORS; i++) {
		overlay_file_seal(m->seed, first + i, empty + (size_t)i * SECTOR);
	}
	r = rw_pwrite(m->fd, empty, sizeof(empty), m->shape.map_off + page * PAGE);
	if (r < 0) {
		return r;
	}
	byte = root_of(m, page, &bit);
	*byte |= bit;
	bits_set(&m->dirty, (uint64_t)(byte - m->memory) / PAGE);
	return 0;
}

int overlay_map_reserve(struct overlay_map *m, uint64_t first, uint64_t count)
{
	int r = 0;
	LOCK_SCOPE(&m->lock);

	for (uint64_t page = first / OVERLAY_FILE_PAGE_SLOTS;
		r == 0 && page <= (first + count - 1) / OVERLAY_FILE_PAGE_SLOTS; page++) {
		r = exists(m, page) ? 0 : make_page(m, page);
	}
	return r;
}

static void set_slot(struct overlay_map *m, const struct place *p, enum overlay_state state)
{
	unsigned int shift = p->slot % 4 * 2;
	uint8_t *byte = &p->sector[p->slot / 4];
	enum overlay_state before = slot_get(p);

	m->data += (uint64_t)(state == OVERLAY_DATA) - (uint64_t)(before == OVERLAY_DATA);
	m->zero += (uint64_t)(state == OVERLAY_ZERO) - (uint64_t)(before == OVERLAY_ZERO);
	*byte = (uint8_t)((*byte & ~(3U << shift)) | (unsigned int)state << shift);
}

static void set_sector(struct overlay_map *m, uint8_t *sector, enum overlay_state state)
{
	uint64_t data = 0;
	uint64_t zero = 0;

	(void)sector_count(sector, &data, &zero);
	m->data -= data;
	m->zero -= zero;
	*(state == OVERLAY_DATA ? &m->data : &m->zero) += OVERLAY_FILE_SLOTS;
	memset(sector, state == OVERLAY_DATA ? 0x55 : 0xaa, OVERLAY_FILE_PAYLOAD);
}

void overlay_map_set(
	struct overlay_map *m, uint64_t first, uint64_t count, enum overlay_state state)
{
	LOCK_SCOPE(&m->lock);

	assert(state != OVERLAY_ABSENT);
	while (count > 0) {
		struct place p = place_of(m, first);
		uint64_t n = 1;

		assert(exists(m, p.page));
		if (p.slot == 0 && count >= OVERLAY_FILE_SLOTS) {
			n = OVERLAY_FILE_SLOTS;
			set_sector(m, p.sector, state);
		} else {
			set_slot(m, &p, state);
		}
		bits_set(&m->dirty, m->shape.roots + p.page);
		first += n;
		count -= n;
	}
}

/* Copies of pages on their way to the file. */
struct batch {
	uint8_t *copies; /* page-aligned, so that a write that is cut is cut between pages */
	uint64_t pages[BATCH];
	size_t count;
};

/* Takes the next dirty pages from *cursor on. */
static void collect(struct overlay_map *m, uint64_t *cursor, struct batch *b)
{
	uint64_t end = m->shape.roots + m->shape.pages;
	LOCK_SCOPE(&m->lock);

	for (b->count = 0; *cursor < end && b->count < BATCH; ++*cursor) {
		uint8_t *copy = b->copies + b->count * PAGE;

		if (!bits_reset(&m->dirty, *cursor)) {
			continue;
		}
		memcpy(copy, m->memory + *cursor * PAGE, PAGE);
		b->pages[b->count++] = *cursor;
	}
}

static int write_batch(struct overlay_map *m, struct batch *b)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->count; i++) {
		uint8_t *copy = b->copies + i * PAGE;

		for (unsigned int s = 0; s < PAGE_SECTORS; s++) {
			overlay_file_seal(
				m->seed, b->pages[i] * PAGE_SECTORS + s, copy + (size_t)s * SECTOR);
		}
		r = rw_pwrite(m->fd, copy, PAGE, m->shape.root_off + b->pages[i] * PAGE);
	}
	return r;
}

/* They are to be saved another time. */
static void put_back(struct overlay_map *m, const struct batch *b)
{
	for (size_t i = 0; i < b->count; i++) {
		bits_set(&m->dirty, b->pages[i]);
	}
}

/* After a sync that failed, the kernel forgets what it could not write, and the next sync succeeds:
 * nobody may believe that one. */
static int sync_file(struct overlay_map *m)
{
	int r = fdatasync(m->fd) < 0 ? -errno : 0;
	LOCK_SCOPE(&m->lock);

	if (r < 0 && !m->broken) {
		m->broken = r;
	}
	return m->broken;
}

static int save_all(struct overlay_map *m, struct batch *b)
{
	uint64_t cursor = 0;
	bool wrote = false;
	int r;

	do {
		collect(m, &cursor, b);
		r = sync_file(m);
		if (r == 0) {
			r = write_batch(m, b);
		}
		if (r < 0) {
			put_back(m, b);
			return r;
		}
		wrote |= b->count > 0;
	} while (b->count == BATCH);
	return wrote ? sync_file(m) : 0;
}

int overlay_map_save(struct overlay_map *m)
{
	struct batch b = { .copies = aligned_alloc(PAGE, (size_t)BATCH * PAGE) };
	int r = b.copies ? overlay_map_broken(m) : -ENOMEM;

	if (r == 0) {
		r = save_all(m, &b);
	}
	free(b.copies);
	return r;
}

int overlay_map_broken(struct overlay_map *m)
{
	LOCK_SCOPE(&m->lock);

	return m->broken;
}

void overlay_map_count(struct overlay_map *m, uint64_t *ret_data, uint64_t *ret_zero)
{
	LOCK_SCOPE(&m->lock);

	*ret_data = m->data;
	*ret_zero = m->zero;
}
