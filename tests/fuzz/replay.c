/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzzer's function over files, where libFuzzer is not at hand: as an ordinary test.
 *
 *      fuzz_x [--mutate N] DIRECTORY
 *
 * Every file of DIRECTORY as it is and, with --mutate, N variants of each with a few bits flipped
 * or bytes replaced, always the same ones. Memory is limited to 64 MiB beyond what it is at the
 * start.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define INPUT_MAX MIB(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Half of all changes hit the beginning, where headers are. */
static void mutate(uint8_t *data, size_t len, uint64_t *state)
{
	unsigned int changes = 1 + (unsigned int)(next_random(state) % 4);

	for (unsigned int i = 0; i < changes && len > 0; i++) {
		uint64_t r = next_random(state);
		size_t at =
			(r & 1 ? next_random(state) % min_u64(len, 256) : next_random(state) % len);

		if (r & 2) {
			data[at] ^= (uint8_t)(1U << (r >> 8 & 7));
		} else {
			data[at] = (uint8_t)(r & 4 ? 0xff : r >> 8);
		}
	}
}

static int run_file(const char *path, unsigned long variants)
{
	CLEANUP_FREE char *data = NULL;
	CLEANUP_FREE uint8_t *copy = NULL;
	uint64_t state = 0x9e3779b97f4a7c15ULL;
	struct err e;
	size_t len;

	if (rw_read_file(path, INPUT_MAX, &data, &len, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)data, len);
	copy = malloc(len + 1);
	for (unsigned long i = 0; copy && i < variants; i++) {
		memcpy(copy, data, len);
		mutate(copy, len, &state);
		LLVMFuzzerTestOneInput(copy, len);
	}
	return copy ? 0 : -1;
}

/* Sanitizers reserve address space and cannot live with it. */
static void limit_memory(void)
{
#ifdef LIMIT_MEMORY
	const struct rlimit most = { MIB(64), MIB(64) };

	setrlimit(RLIMIT_DATA, &most);
#endif
}

static int run_directory(const char *path, unsigned long variants)
{
	DIR *dir = opendir(path);
	int count = 0;

	for (struct dirent *d = dir ? readdir(dir) : NULL; d; d = readdir(dir)) {
		CLEANUP_FREE char *file = NULL;

		if (d->d_name[0] == '.') {
			continue;
		}
		if (asprintf(&file, "%s/%s", path, d->d_name) < 0 || run_file(file, variants) < 0) {
			count = -1;
			break;
		}
		count++;
	}
	if (dir) {
		closedir(dir);
	}
	return count;
}

int main(int argc, char **argv)
{
	bool mutating = argc == 4 && strcmp(argv[1], "--mutate") == 0;
	int count;

	if (argc != 2 && !mutating) {
		fprintf(stderr, "usage: %s [--mutate N] DIRECTORY\n", argv[0]);
		return 2;
	}
	limit_memory();
	count = run_directory(argv[argc - 1], mutating ? strtoul(argv[2], NULL, 10) : 0);
	printf("%d files\n", count);
	return count > 0 ? 0 : 1;
}
