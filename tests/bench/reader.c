/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a file in the ways that the benchmark times, and can compare what it got with a file that
 * is known to be right:
 *
 *   reader stream FILE --bytes N [--passes N] [--forget | --direct] [--compare RIGHT]
 *   reader random FILE --bytes N --count N [--depth N] [--seed N] [--compare RIGHT]
 *   reader fill FILE --bytes N [--seed N]
 *   reader heat --bytes N
 *
 * stream: the first N bytes in order, 1 MiB a call; the seconds of each pass, a line each. --forget
 * drops the file's pages from the kernel's cache before each pass, --direct goes past that.
 * random: pages of 4 KiB at random places of the first N bytes, by that many threads at once; the
 * seconds of the whole, then the microseconds of each read, a line each.
 * fill: makes FILE of random bytes. heat: touches that much memory and gives it back, for virtual
 * machines where memory that was not used lately is slow at first.
 * Wrong bytes are exit code 3.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"

#define BLOCK     MIB(1)
#define PAGE      4096U
#define DEPTH_MAX 256U

struct job {
	const char *file;
	const char *right;
	uint64_t bytes, passes, count, depth, seed;
	bool forget, direct;

	int fd;
	const uint8_t *want; /* the right file, mapped; or NULL */
	uint64_t *offsets;
	double *took; /* seconds of each random read */
	uint64_t next;
};

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* xorshift64*: fast, and good enough not to compress. */
static uint64_t draw(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static uint64_t seeded(uint64_t seed)
{
	return seed * 0x9e3779b97f4a7c15ULL + 0x1234567;
}

static uint8_t *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		die("mmap");
	}
	return p;
}

static void check(const struct job *j, const uint8_t *got, uint64_t off, size_t len)
{
	if (j->want && memcmp(got, j->want + off, len) != 0) {
		fprintf(stderr, "reader: %s: WRONG BYTES in the %zu at %llu\n", j->file, len,
			(unsigned long long)off);
		exit(3);
	}
}

static void read_exactly(const struct job *j, uint8_t *buf, size_t len, uint64_t off)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(j->fd, buf + have, len - have, (off_t)(off + have));

		if (n == 0) {
			errno = ENODATA;
		}
		if (n <= 0) {
			die(j->file);
		}
		have += (size_t)n;
	}
}

static void map_right(struct job *j)
{
	int fd = open(j->right, O_RDONLY | O_CLOEXEC);
	void *p;

	if (fd < 0) {
		die(j->right);
	}
	p = mmap(NULL, j->bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED) {
		die(j->right);
	}
	close(fd);
	j->want = p;
}

static void open_file(struct job *j)
{
	j->fd = open(j->file, O_RDONLY | O_CLOEXEC | (j->direct ? O_DIRECT : 0));
	if (j->fd < 0) {
		die(j->file);
	}
}

static void stream(struct job *j)
{
	uint8_t *buf = pages(BLOCK);

	open_file(j);
	for (uint64_t pass = 0; pass < j->passes; pass++) {
		double begin;

		if (j->forget) {
			posix_fadvise(j->fd, 0, 0, POSIX_FADV_DONTNEED);
		}
		begin = now_s();
		for (uint64_t off = 0; off < j->bytes; off += BLOCK) {
			size_t len = min_u64(BLOCK, j->bytes - off);

			read_exactly(j, buf, len, off);
			check(j, buf, off, len);
		}
		printf("%.6f\n", now_s() - begin);
	}
}

static void *random_reads(void *ctx)
{
	struct job *j = ctx;
	uint8_t *buf = pages(PAGE);

	for (;;) {
		uint64_t i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
		double begin;

		if (i >= j->count) {
			return NULL;
		}
		begin = now_s();
		read_exactly(j, buf, PAGE, j->offsets[i]);
		j->took[i] = now_s() - begin;
		check(j, buf, j->offsets[i], PAGE);
	}
}

static void random_places(struct job *j)
{
	pthread_t threads[DEPTH_MAX];
	uint64_t state = seeded(j->seed);
	double begin;

	if (j->count == 0 || j->depth == 0) {
		fprintf(stderr, "reader: nothing to read\n");
		exit(2);
	}
	open_file(j);
	j->offsets = calloc(j->count, sizeof(*j->offsets));
	j->took = calloc(j->count, sizeof(*j->took));
	if (!j->offsets || !j->took) {
		die("calloc");
	}
	for (uint64_t i = 0; i < j->count; i++) {
		j->offsets[i] = draw(&state) % (j->bytes / PAGE) * PAGE;
	}
	begin = now_s();
	for (uint64_t i = 0; i < j->depth; i++) {
		errno = pthread_create(&threads[i], NULL, random_reads, j);
		if (errno) {
			die("pthread_create");
		}
	}
	for (uint64_t i = 0; i < j->depth; i++) {
		pthread_join(threads[i], NULL);
	}
	printf("%.6f\n", now_s() - begin);
	for (uint64_t i = 0; i < j->count; i++) {
		printf("%.0f\n", j->took[i] * 1e6);
	}
}

static void fill(struct job *j)
{
	uint8_t *buf = pages(BLOCK);
	uint64_t state = seeded(j->seed);
	int fd = open(j->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0) {
		die(j->file);
	}
	for (uint64_t off = 0; off < j->bytes; off += BLOCK) {
		size_t len = min_u64(BLOCK, j->bytes - off);

		for (size_t i = 0; i < BLOCK; i += sizeof(uint64_t)) {
			store_le64(buf + i, draw(&state));
		}
		if (pwrite(fd, buf, len, (off_t)off) != (ssize_t)len) {
			die(j->file);
		}
	}
	if (close(fd) != 0) {
		die(j->file);
	}
}

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end != '\0') {
		fprintf(stderr, "reader: '%s' is not a number\n", text);
		exit(2);
	}
	return n;
}

static void parse(struct job *j, int argc, char **argv)
{
	static const struct option options[] = {
		{ "bytes", required_argument, NULL, 'b' },
		{ "passes", required_argument, NULL, 'p' },
		{ "count", required_argument, NULL, 'c' },
		{ "depth", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ "compare", required_argument, NULL, 'r' },
		{ "forget", no_argument, NULL, 'f' },
		{ "direct", no_argument, NULL, 'D' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'b':
			j->bytes = number(optarg);
			break;
		case 'p':
			j->passes = number(optarg);
			break;
		case 'c':
			j->count = number(optarg);
			break;
		case 'd':
			j->depth = number(optarg);
			break;
		case 's':
			j->seed = number(optarg);
			break;
		case 'r':
			j->right = optarg;
			break;
		case 'f':
			j->forget = true;
			break;
		case 'D':
			j->direct = true;
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct job j = { .passes = 1, .depth = 1 };
	const char *what = argc > 1 ? argv[1] : "";

	parse(&j, argc, argv);
	j.file = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (j.bytes < PAGE || j.depth > DEPTH_MAX) {
		fprintf(stderr, "reader: see the top of reader.c\n");
		return 2;
	}
	if (strcmp(what, "heat") == 0) {
		pages(j.bytes);
		return 0;
	}
	if (!j.file) {
		fprintf(stderr, "reader: no file\n");
		return 2;
	}
	if (j.right) {
		map_right(&j);
	}
	if (strcmp(what, "stream") == 0) {
		stream(&j);
	} else if (strcmp(what, "random") == 0) {
		random_places(&j);
	} else if (strcmp(what, "fill") == 0) {
		fill(&j);
	} else {
		fprintf(stderr, "reader: '%s' is nothing to do\n", what);
		return 2;
	}
	return 0;
}
