/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damages a disk image in memory and reads what is left, many times.
 *
 *      damage FORMAT FILE SEED TRUNCATIONS FLIPS
 *
 * Cut anywhere, it is refused, or each piece of the disk is an error or has its right bytes. With
 * any bit flipped it is refused, or each piece is an error or has any bytes, and what is said to be
 * zeros reads as zeros. Prints how often what happened, as JSON; exits 1 with a reason when it is
 * none of that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/image.h"
#include "core/log.h"
#include "core/rw.h"
#include "formats/format.h"

#define PIECE 65536U

struct tally {
	unsigned long refused;   /* not opened */
	unsigned long error;     /* read with an error somewhere */
	unsigned long same;      /* read as if nothing had happened */
	unsigned long different; /* other bytes, or another size */
};

struct memory {
	struct image img;
	const uint8_t *data; /* borrowed */
};

static const char *format;
static uint8_t *disk; /* as it is in the whole file */
static uint64_t disk_size;

static int memory_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(buf, ((struct memory *)img)->data + off, len);
	return 0;
}

static void memory_destroy(struct image *img)
{
	image_fini(img);
	free(img);
}

static const struct image_ops memory_ops = {
	.name = "memory",
	.read_at = memory_read_at,
	.destroy = memory_destroy,
};

static void fail(const char *what, uint64_t where)
{
	printf("%s at %" PRIu64 "\n", what, where);
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void check_code(int r, const struct err *e, uint64_t where)
{
	if ((r != -EBADMSG && r != -ENOTSUP) || e->code != r || !e->text[0]) {
		fail(e->text[0] ? e->text : "an error without words", where);
	}
}

/* NULL: refused. */
static struct image *open_bytes(const uint8_t *data, uint64_t size, uint64_t where)
{
	const struct format_opts opts = { .format = format };
	struct memory *m = calloc(1, sizeof(*m));
	struct image *img = NULL;
	struct err e = { 0 };
	int r;

	if (!m || image_init(&m->img, &memory_ops, NULL, size, "memory") < 0) {
		fail("out of memory", where);
	}
	m->data = data;
	r = format_open(&m->img, &opts, &img, &e);
	if (r < 0) {
		check_code(r, &e, where);
		image_close(&m->img);
		return NULL;
	}
	return img;
}

static void check_zeros(struct image *img, uint64_t off, const uint8_t *buf, size_t n)
{
	struct extent x;

	if (image_extent_at(img, off, &x, NULL) == 0 && x.zero &&
		!is_zero(buf, min_u64(n, x.length))) {
		fail("an extent hides data", off);
	}
}

static void read_all(struct image *img, bool exact, uint64_t where, struct tally *t)
{
	static uint8_t buf[PIECE];
	bool error = false;
	bool different = img->size != disk_size;

	/* A disk that became huge is looked at where it was. */
	for (uint64_t off = 0; off < min_u64(img->size, disk_size); off += PIECE) {
		size_t n = min_u64(PIECE, min_u64(img->size, disk_size) - off);
		struct err e = { 0 };
		int r = image_read_at(img, buf, n, off, &e);

		if (r < 0) {
			check_code(r, &e, where);
			error = true;
		} else {
			different = different || memcmp(buf, disk + off, n) != 0;
			check_zeros(img, off, buf, n);
		}
	}
	if (exact && different) {
		fail("wrong bytes after a cut", where);
	}
	t->error += error;
	t->different += !error && different;
	t->same += !error && !different;
}

static void try_bytes(
	const uint8_t *data, uint64_t size, bool exact, uint64_t where, struct tally *t)
{
	struct image *img = open_bytes(data, size, where);

	if (!img) {
		t->refused++;
		return;
	}
	read_all(img, exact, where, t);
	image_close(img);
}

static void print(const char *name, const struct tally *t, const char *end)
{
	printf("\"%s\": {\"refused\": %lu, \"error\": %lu, \"same\": %lu, \"different\": %lu}%s",
		name, t->refused, t->error, t->same, t->different, end);
}

static void load(const uint8_t *data, uint64_t size)
{
	struct image *img = open_bytes(data, size, 0);

	if (!img) {
		fail("the whole image is refused", 0);
	}
	disk_size = img->size;
	disk = malloc(disk_size + 1);
	if (!disk || image_read_at(img, disk, disk_size, 0, NULL) < 0) {
		fail("the whole image cannot be read", 0);
	}
	image_close(img);
}

int main(int argc, char **argv)
{
	CLEANUP_FREE char *file = NULL;
	CLEANUP_FREE uint8_t *copy = NULL;
	struct tally cut = { 0 };
	struct tally flipped = { 0 };
	uint64_t state;
	size_t size;

	if (argc != 6 || rw_read_file(argv[2], MIB(32), &file, &size, NULL) < 0) {
		fprintf(stderr, "usage: damage FORMAT FILE SEED TRUNCATIONS FLIPS\n");
		return 2;
	}
	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	format = argv[1];
	state = 0x9e3779b97f4a7c15ULL ^ strtoul(argv[3], NULL, 10);
	load((const uint8_t *)file, size);
	for (unsigned long i = strtoul(argv[4], NULL, 10); i > 0; i--) {
		uint64_t n = next_random(&state) % size;

		/* A buffer of its own: a read beyond the end is seen. */
		copy = malloc(n + 1);
		if (!copy) {
			fail("out of memory", n);
		}
		memcpy(copy, file, n);
		try_bytes(copy, n, true, n, &cut);
		free(TAKE_PTR(copy));
	}
	for (unsigned long i = strtoul(argv[5], NULL, 10); i > 0; i--) {
		uint64_t at = next_random(&state) % size;
		char bit = (char)(1 << next_random(&state) % 8);

		file[at] ^= bit;
		try_bytes((const uint8_t *)file, size, false, at, &flipped);
		file[at] ^= bit;
	}
	free(disk);
	putchar('{');
	print("cut", &cut, ", ");
	print("flipped", &flipped, "}\n");
	return 0;
}
