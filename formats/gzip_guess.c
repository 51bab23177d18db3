/* SPDX-License-Identifier: Apache-2.0 */
/* A guess from the trailer, and from partition tables. */
#include "formats/gzip_guess.h"

#include <string.h>

#include "core/bytes.h"

/* The partition tables lie in so many first bytes. */
#define GPT_LEN 92U
#define MBR_LEN 512U

uint64_t gzip_guess_bound(uint64_t file_size)
{
	uint64_t bound;

	return checked_mul(file_size, GZIP_RATIO_MAX, &bound) && bound <= INT64_MAX ? bound
										    : INT64_MAX;
}

/* UEFI specification 5.3.2: the header names the last sector of the disk, where its copy is. */
static uint64_t gpt_size(const struct gzip_hints *h, uint64_t sector)
{
	uint64_t last;
	uint64_t size;

	if (h->head_len < sector + GPT_LEN || memcmp(h->head + sector, "EFI PART", 8) != 0) {
		return 0;
	}
	last = load_le64(h->head + sector + 32);
	return last < UINT64_MAX && checked_mul(last + 1, sector, &size) ? size : 0;
}

/* The end of the last partition of a master boot record. */
static uint64_t mbr_size(const struct gzip_hints *h)
{
	uint64_t most = 0;

	if (h->head_len < MBR_LEN || h->head[510] != 0x55 || h->head[511] != 0xaa) {
		return 0;
	}
	for (const uint8_t *entry = h->head + 446; entry < h->head + 510; entry += 16) {
		uint64_t end = (uint64_t)load_le32(entry + 8) + load_le32(entry + 12);

		/* 0xee stands for a GPT, and often for more than the disk. */
		if (entry[4] != 0 && entry[4] != 0xee) {
			most = max_u64(most, end * 512);
		}
	}
	return most;
}

/* The smallest number from @least on that is @isize modulo 4 GiB. */
static uint64_t from_trailer(uint32_t isize, uint64_t least)
{
	uint64_t size = (least & ~(uint64_t)UINT32_MAX) + isize;

	return size >= least ? size : size + GIB(4);
}

static uint64_t guess(const struct gzip_hints *h, uint64_t bound)
{
	uint64_t disk = max_u64(gpt_size(h, 512), gpt_size(h, 4096));
	/* What cannot be compressed grows by some bytes in ten thousand. */
	uint64_t least = h->file_size - h->file_size / 1000 - min_u64(h->file_size / 2, 64);
	double ratio = h->consumed ? (double)h->decoded / (double)h->consumed : 1;
	double size = (double)h->file_size * ratio;

	if (disk > 0 && disk <= bound && (h->many || (uint32_t)disk == h->isize)) {
		return disk;
	}
	least = max_u64(least, min_u64(max_u64(disk, mbr_size(h)), bound / 2));
	if (h->many) {
		return max_u64(least, size < (double)bound ? (uint64_t)size : bound);
	}
	return from_trailer(h->isize, least);
}

uint64_t gzip_guess(const struct gzip_hints *h)
{
	uint64_t bound = max_u64(gzip_guess_bound(h->file_size), 1);

	return max_u64(min_u64(guess(h, bound), bound), 1);
}
