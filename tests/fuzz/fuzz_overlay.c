/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the file of an overlay, as they are and with their checksums made right: it is
 * refused, or it is a disk all of whose bytes can be asked for, that takes writes, and that reads
 * the same when it is opened again. The input is of sparse.h.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "cache/overlay.h"
#include "cache/overlay_file.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"
#include "tests/fuzz/sparse.h"

#define DISK   MIB(1)
#define HEADER KIB(64)
#define SUM_AT 88U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct image *new_base(void)
{
	uint8_t *zeros = calloc(1, DISK);
	struct image *base = sparse_image(zeros, DISK);

	free(zeros);
	return base;
}

/* As if whoever wrote the file had meant it. */
static void mend(uint8_t *file, size_t len)
{
	struct overlay_file_shape s;
	uint64_t seed;

	assert(overlay_file_shape(DISK, &s) == 0);
	if (len < HEADER) {
		return;
	}
	seed = XXH3_64bits(file + 16, 16);
	store_le64(file + SUM_AT, 0);
	store_le64(file + SUM_AT, XXH3_64bits(file, HEADER));
	for (uint64_t at = s.root_off;
		at < s.map_off + s.pages * OVERLAY_FILE_PAGE && at + OVERLAY_FILE_SECTOR <= len;
		at += OVERLAY_FILE_SECTOR) {
		overlay_file_seal(seed, (at - s.root_off) / OVERLAY_FILE_SECTOR, file + at);
	}
}

static int open_overlay(const char *path, struct image **ret)
{
	const struct overlay_opts opts = { .path = path, .existing = true };
	struct image *base = new_base();
	struct err e = { 0 };
	int r = overlay_open(&opts, base, ret, &e);

	assert(r == 0 || e.text[0]);
	if (r < 0) {
		image_close(base);
	}
	return r;
}

static void use(struct image *img, const char *path)
{
	CLEANUP_FREE uint8_t *before = malloc(DISK);
	CLEANUP_FREE uint8_t *after = malloc(DISK);
	struct err e = { 0 };

	assert(before && after && img->size == DISK);
	if (image_read_at(img, before, DISK, 0, &e) < 0 ||
		image_write_at(img, "written", 7, 5000, &e) < 0 || image_flush(img, &e) < 0) {
		assert(e.text[0]);
		image_close(img);
		return;
	}
	memcpy(before + 5000, "written", 7);
	image_close(img);
	assert(open_overlay(path, &img) == 0);
	assert(image_read_at(img, after, DISK, 0, &e) == 0);
	assert(memcmp(before, after, DISK) == 0);
	image_close(img);
}

static void check(const uint8_t *file, size_t len)
{
	CLEANUP_CLOSE int fd = memfd_create("overlay", MFD_CLOEXEC);
	struct overlay_info info;
	struct image *img;
	struct err e = { 0 };
	char path[64];

	assert(fd >= 0 && rw_pwrite(fd, file, len, 0) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (overlay_info_read(path, &info, &e) == 0) {
		overlay_info_clear(&info);
	} else {
		assert(e.text[0]);
	}
	if (open_overlay(path, &img) == 0) {
		use(img, path);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct image *input = sparse_image(data, len);
	CLEANUP_FREE uint8_t *file = malloc(input->size + 1);
	size_t n = input->size;

	assert(file && image_read_at(input, file, n, 0, NULL) == 0);
	image_close(input);
	check(file, n);
	mend(file, n);
	check(file, n);
	return 0;
}
