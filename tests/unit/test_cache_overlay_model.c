/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random writes, zeroes, flushes, remounts, full disks, kills and power cuts against a plain array.
 * The array remembers of each sector what it was at the last flush and all that it was since: that,
 * and nothing else, may be there after a crash. A failing seed is printed, and can be run alone:
 * test_cache_overlay_model SEED.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/overlay.h"
#include "cache/overlay_file.h"
#include "core/bytes.h"
#include "tests/unit/cache_dir.h"
#include "tests/unit/fake_image.h"
#include "tests/unit/power_disk.h"

/* What is sanitized is slow, and fewer seeds show it all the same. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS 3U
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SEEDS 3U
#endif
#endif
#ifndef SEEDS
#define SEEDS 20U
#endif
#define STEPS  10000U
#define LIVES  100U
#define SECTOR 512U
#define SIZE   (MIB(70) + 5 * SECTOR)

/* The parts of the disk that are used: the beginning, where one sector of the map ends and where
 * one page of it, and the end. */
#define WINDOWS 4U
#define WINDOW  KIB(40)
#define ALL     (WINDOWS * WINDOW / SECTOR)

static const uint64_t windows[WINDOWS] = {
	0,
	(uint64_t)OVERLAY_FILE_SLOTS *OVERLAY_UNIT - KIB(20),
	(uint64_t)OVERLAY_FILE_PAGE_SLOTS *OVERLAY_UNIT - KIB(20),
	SIZE - WINDOW,
};

struct sector {
	uint8_t now[SECTOR];
	uint8_t *past; /* `count` versions, the last flushed one first */
	size_t count;
	size_t room;
	size_t mark; /* the version that the flush under way found */
};

struct model {
	char *path;
	unsigned int rand;
	struct image *img;
	struct sector sectors[ALL];
	uint64_t crashes;
	uint64_t full;
};

static uint64_t draw(struct model *m, uint64_t below)
{
	return ((uint64_t)(unsigned int)rand_r(&m->rand) << 20 ^ (unsigned int)rand_r(&m->rand)) %
	       below;
}

static uint64_t place(size_t i)
{
	return windows[i / (WINDOW / SECTOR)] + i % (WINDOW / SECTOR) * SECTOR;
}

static void remember(struct sector *s)
{
	if (s->count > 0 && memcmp(s->past + (s->count - 1) * SECTOR, s->now, SECTOR) == 0) {
		return;
	}
	if (s->count == s->room) {
		s->room = s->room * 2 + 2;
		s->past = realloc(s->past, s->room * SECTOR);
		assert_non_null(s->past);
	}
	memcpy(s->past + s->count++ * SECTOR, s->now, SECTOR);
}

static void forget(struct sector *s)
{
	s->count = 0;
	remember(s);
}

static bool is_past(const struct sector *s, const uint8_t *content)
{
	for (size_t i = 0; i < s->count; i++) {
		if (memcmp(s->past + i * SECTOR, content, SECTOR) == 0) {
			return true;
		}
	}
	return false;
}

static void open_overlay(struct model *m)
{
	struct overlay_opts opts = { .path = m->path, .source = "src" };
	struct err e = { 0 };
	int r = overlay_open(&opts, &fake_image_new(SIZE, 7, "the base")->img, &m->img, &e);

	if (r < 0) {
		fprintf(stderr, "%s\n", e.text);
	}
	assert_int_equal(r, 0);
}

static void wrong(size_t i, const char *when)
{
	fprintf(stderr, "sector at %llu is wrong %s\n", (unsigned long long)place(i), when);
	fail();
}

/* What is there is one of what may be, and from now on that. */
static void accept(struct model *m, const char *when)
{
	uint8_t *buf = malloc(WINDOW);

	for (size_t w = 0; w < WINDOWS; w++) {
		assert_int_equal(image_read_at(m->img, buf, WINDOW, windows[w], NULL), 0);
		for (size_t k = 0; k < WINDOW / SECTOR; k++) {
			size_t i = w * (WINDOW / SECTOR) + k;

			if (!is_past(&m->sectors[i], buf + k * SECTOR)) {
				wrong(i, when);
			}
			memcpy(m->sectors[i].now, buf + k * SECTOR, SECTOR);
		}
	}
	free(buf);
}

static void check(struct model *m, const char *when)
{
	uint8_t *buf = malloc(WINDOW);

	for (size_t w = 0; w < WINDOWS; w++) {
		assert_int_equal(image_read_at(m->img, buf, WINDOW, windows[w], NULL), 0);
		for (size_t k = 0; k < WINDOW / SECTOR; k++) {
			size_t i = w * (WINDOW / SECTOR) + k;

			if (memcmp(m->sectors[i].now, buf + k * SECTOR, SECTOR) != 0) {
				wrong(i, when);
			}
		}
	}
	free(buf);
}

static void flushed(struct model *m)
{
	for (size_t i = 0; i < ALL; i++) {
		forget(&m->sectors[i]);
	}
}

/* The process is gone: killed, or with the power. */
static void reopen_after_crash(struct model *m)
{
	bool cut = draw(m, 2);

	if (cut) {
		power_disk_cut();
	} else {
		power_disk_restart();
	}
	open_overlay(m);
	accept(m, cut ? "after a power cut" : "after a kill");
	if (cut) {
		flushed(m); /* nothing else is left of the past */
	}
	m->crashes++;
}

static void crash(struct model *m)
{
	power_disk_die(0);
	image_close(m->img);
	reopen_after_crash(m);
}

/* @r is what the overlay said to a change that the array has seen already, in @after. */
static void settle(struct model *m, int r, uint8_t (*after)[SECTOR], const bool *changed)
{
	for (size_t i = 0; i < ALL; i++) {
		uint8_t buf[SECTOR];

		if (!changed[i]) {
			continue;
		}
		if (r == 0) {
			memcpy(m->sectors[i].now, after[i], SECTOR);
		} else if (!power_disk_dead()) {
			/* A write that failed may have been done in part. */
			assert_int_equal(image_read_at(m->img, buf, SECTOR, place(i), NULL), 0);
			if (memcmp(buf, m->sectors[i].now, SECTOR) != 0 &&
				memcmp(buf, after[i], SECTOR) != 0) {
				wrong(i, "after a write that failed");
			}
			memcpy(m->sectors[i].now, buf, SECTOR);
		}
	}
}

/* Writes @buf, or zeroes when it is NULL, here and there. */
static void change(struct model *m, uint64_t off, uint64_t len, const uint8_t *buf)
{
	static uint8_t after[ALL][SECTOR];
	static bool changed[ALL];
	bool full = draw(m, 60) == 0;
	struct err e = { 0 };
	int r;

	for (size_t i = 0; i < ALL; i++) {
		uint64_t from = max_u64(off, place(i));
		uint64_t to = min_u64(off + len, place(i) + SECTOR);
		struct sector next = m->sectors[i];

		changed[i] = from < to;
		if (!changed[i]) {
			continue;
		}
		memcpy(after[i], m->sectors[i].now, SECTOR);
		if (buf) {
			memcpy(after[i] + (from - place(i)), buf + (from - off), to - from);
		} else {
			memset(after[i] + (from - place(i)), 0, to - from);
		}
		memcpy(next.now, after[i], SECTOR);
		remember(&next);
		memcpy(next.now, m->sectors[i].now, SECTOR);
		m->sectors[i] = next;
	}
	power_disk_fill(full ? 1 : 0);
	r = buf ? image_write_at(m->img, buf, len, off, &e) : image_zero_at(m->img, off, len, &e);
	power_disk_fill(0);
	if (r < 0 && !power_disk_dead()) {
		if (!full) {
			fprintf(stderr, "%d: %s\n", r, e.text);
		}
		assert_true(full);
		assert_int_equal(r, -ENOSPC);
		assert_non_null(strstr(e.text, "No space left"));
		m->full++;
	}
	settle(m, r, after, changed);
}

static uint64_t draw_length(struct model *m, uint64_t most)
{
	static const uint64_t steps[] = { 1, SECTOR, OVERLAY_UNIT };
	uint64_t step = steps[draw(m, ARRAY_SIZE(steps))];
	uint64_t len = (draw(m, KIB(12) / step) + 1) * step;

	return min_u64(len, most);
}

static void draw_range(struct model *m, uint64_t *ret_off, uint64_t *ret_len)
{
	static const uint64_t steps[] = { 1, SECTOR, OVERLAY_UNIT };
	uint64_t step = steps[draw(m, ARRAY_SIZE(steps))];
	uint64_t window = windows[draw(m, WINDOWS)];
	uint64_t off = max_u64(round_down(window + draw(m, WINDOW), step), window);

	*ret_off = off;
	*ret_len = draw_length(m, window + WINDOW - off);
}

static void step_write(struct model *m)
{
	uint8_t buf[KIB(12)];
	uint64_t off;
	uint64_t len;

	draw_range(m, &off, &len);
	for (size_t i = 0; i < len; i++) {
		buf[i] = (uint8_t)rand_r(&m->rand);
	}
	change(m, off, len, buf);
}

static void step_zero(struct model *m)
{
	uint64_t off;
	uint64_t len;

	draw_range(m, &off, &len);
	if (draw(m, 30) == 0) {
		uint64_t other;
		uint64_t more;
		uint64_t end;

		draw_range(m, &other, &more);
		end = max_u64(off + len, other + more);
		off = min_u64(off, other);
		len = end - off;
	}
	change(m, off, len, NULL);
}

static void step_read(struct model *m)
{
	uint8_t buf[KIB(12)];
	uint64_t off;
	uint64_t len;

	draw_range(m, &off, &len);
	assert_int_equal(image_read_at(m->img, buf, len, off, NULL), 0);
	for (size_t i = 0; i < ALL; i++) {
		uint64_t from = max_u64(off, place(i));
		uint64_t to = min_u64(off + len, place(i) + SECTOR);

		if (from < to && memcmp(buf + (from - off), m->sectors[i].now + (from - place(i)),
					 to - from) != 0) {
			wrong(i, "when read");
		}
	}
}

/* A hole is zeros. */
static void step_extent(struct model *m)
{
	struct extent x;
	uint64_t off;
	uint64_t len;

	draw_range(m, &off, &len);
	assert_int_equal(image_extent_at(m->img, off, &x, NULL), 0);
	for (size_t i = 0; x.zero && i < ALL; i++) {
		if (place(i) >= x.offset && place(i) + SECTOR <= x.offset + x.length &&
			!is_zero(m->sectors[i].now, SECTOR)) {
			wrong(i, "in a hole");
		}
	}
}

static void write_meanwhile(void *ctx)
{
	struct model *m = ctx;

	if (draw(m, 3) == 0) {
		step_write(m);
	} else if (draw(m, 6) == 0) {
		step_zero(m);
	}
}

/* What is written while it goes on may be durable then, or not. */
static void step_flush(struct model *m)
{
	for (size_t i = 0; i < ALL; i++) {
		remember(&m->sectors[i]);
		m->sectors[i].mark = m->sectors[i].count - 1;
	}
	power_disk_ctx = m;
	power_disk_meanwhile = write_meanwhile;
	if (image_flush(m->img, NULL) < 0) {
		assert_true(power_disk_dead());
		power_disk_meanwhile = NULL;
		return;
	}
	power_disk_meanwhile = NULL;
	for (size_t i = 0; i < ALL; i++) {
		struct sector *s = &m->sectors[i];

		s->count -= s->mark;
		memmove(s->past, s->past + s->mark * SECTOR, s->count * SECTOR);
	}
}

/* The disk fails to sync: nothing can be flushed or written any more, and what was is there. */
static void step_broken(struct model *m)
{
	uint8_t byte = 1;

	assert_int_equal(image_write_at(m->img, &byte, 1, SIZE / 2, NULL), 0);
	power_disk_break_sync();
	assert_int_equal(image_flush(m->img, NULL), -EIO);
	assert_int_equal(image_flush(m->img, NULL), -EIO);
	assert_int_equal(image_write_at(m->img, &byte, 1, SIZE / 2, NULL), -EIO);
	assert_int_equal(image_zero_at(m->img, 0, 1, NULL), -EIO);
	check(m, "after a sync that failed");
	crash(m);
}

static void step_remount(struct model *m)
{
	step_flush(m);
	if (power_disk_dead()) {
		return;
	}
	image_close(m->img); /* flushes what was written meanwhile */
	if (power_disk_dead()) {
		reopen_after_crash(m);
		return;
	}
	open_overlay(m);
	check(m, "after a remount");
	flushed(m);
}

static void step(struct model *m)
{
	switch (draw(m, 40)) {
	case 0:
		step_remount(m);
		break;
	case 1:
		crash(m);
		break;
	case 2:
		power_disk_die((unsigned int)draw(m, 12) + 1);
		break;
	case 3:
	case 4:
	case 5:
		step_flush(m);
		break;
	case 6:
	case 7:
		step_extent(m);
		break;
	case 8:
		if (draw(m, 10) == 0) {
			power_disk_restart(); /* not to die in the middle of it */
			step_broken(m);
		}
		break;
	default:
		if (draw(m, 3) == 0) {
			step_read(m);
		} else if (draw(m, 3) == 0) {
			step_zero(m);
		} else {
			step_write(m);
		}
	}
	if (power_disk_dead()) {
		crash(m);
	}
}

/* From a new overlay on: what was written once never shows the base again. */
static void run_life(struct model *m)
{
	for (size_t i = 0; i < ALL; i++) {
		for (size_t k = 0; k < SECTOR; k++) {
			m->sectors[i].now[k] = fake_byte(7, place(i) + k);
		}
		forget(&m->sectors[i]);
	}
	open_overlay(m);
	power_disk_watch(m->path, (unsigned int)draw(m, UINT32_MAX));
	for (unsigned int i = 0; i < STEPS / LIVES; i++) {
		step(m);
	}
	check(m, "at the end");
	image_close(m->img);
	power_disk_end();
	assert_int_equal(unlink(m->path), 0);
}

static void run_seed(const char *dir, unsigned int seed)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	assert_true(asprintf(&m->path, "%s/%u.overlay", dir, seed) > 0);
	m->rand = seed;
	for (unsigned int i = 0; i < LIVES; i++) {
		run_life(m);
	}
	assert_true(m->crashes > 100 && m->full > 10);
	for (size_t i = 0; i < ALL; i++) {
		free(m->sectors[i].past);
	}
	free(m->path);
	free(m);
}

static unsigned int only_seed;

static void whatever_happens_each_sector_is_old_or_new(void **state)
{
	unsigned int first = only_seed ? only_seed : 1;
	unsigned int last = only_seed ? only_seed : SEEDS;

	for (unsigned int seed = first; seed <= last; seed++) {
		fprintf(stderr, "# seed %u\n", seed);
		run_seed(*state, seed);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CACHE_DIR_TEST(whatever_happens_each_sector_is_old_or_new),
	};

	if (access("/dev/shm", W_OK) == 0) {
		setenv("TMPDIR", "/dev/shm", 0);
	}
	only_seed = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
