/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a disk image through sources/ and formats/ alone, without cache or filesystem, so that
 * tests can compare with other programs what the formats make of a file.
 *
 *      imgcat [OPTIONS] FILE                            the whole disk to stdout
 *      imgcat [OPTIONS] --read OFF LEN FILE             a part of it
 *      imgcat [OPTIONS] --map FILE                      extents, as qemu-img map --output=json
 *      imgcat [OPTIONS] --info FILE                     size, allocated and reports, as JSON
 *      imgcat [OPTIONS] --random SEED N THREADS RAW FILE    N random reads a thread against RAW
 *      imgcat [OPTIONS] --time THREADS FILE             reads all of it, prints MB/s
 * Options: --format F, --member PATH (of a tar archive), --allow-backing (names relative to FILE's
 * directory). Exit: 0; 2 usage; 4 corrupt or refused; 1 else.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/image.h"
#include "core/report.h"
#include "core/rw.h"
#include "formats/format.h"
#include "sources/source.h"

#define PIECE MIB(1)

enum action {
	ACTION_CAT,
	ACTION_READ,
	ACTION_MAP,
	ACTION_INFO,
	ACTION_RANDOM,
	ACTION_TIME,
};

static const char *member; /* --member */

static int open_backing(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e);

static int open_image(const char *path, const char *format, char *directory, unsigned int depth,
	struct image **ret, struct err *e)
{
	const struct source_opts sopts = { 0 };
	struct format_opts fopts = {
		.format = format,
		.depth = depth,
		.member = depth == 0 ? member : NULL,
		.open_backing = directory ? open_backing : NULL,
		.ctx = directory,
	};
	CLEANUP(image_closep) struct image *file = NULL;
	int r = source_open(NULL, path, &sopts, &file, e);

	if (r == 0) {
		r = format_open(file, &fopts, ret, e);
	}
	if (r == 0) {
		file = NULL;
	}
	return r;
}

static int open_backing(void *ctx, const char *name, const char *format, unsigned int depth,
	struct image **ret, struct err *e)
{
	char *directory = ctx;
	CLEANUP_FREE char *path = NULL;

	if (name[0] == '/' || strchr(name, ':') || strstr(name, "..")) {
		return err_set(e, -ENOTSUP, "not a relative name");
	}
	if (asprintf(&path, "%s/%s", directory, name) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return open_image(path, format, directory, depth, ret, e);
}

static int cat(struct image *img, uint64_t off, uint64_t len, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(PIECE);

	while (buf && len > 0) {
		size_t n = min_u64(len, PIECE);
		int r = image_read_at(img, buf, n, off, e);

		if (r < 0) {
			return r;
		}
		if (fwrite(buf, 1, n, stdout) != n) {
			return err_sys(e, errno, "stdout");
		}
		off += n;
		len -= n;
	}
	return buf && fflush(stdout) == 0 ? 0 : err_sys(e, errno, "stdout");
}

static void print_extent(const struct extent *x, bool first)
{
	bool data = !x->zero || x->hole_below;

	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
		first ? "[" : ",\n", x->offset, x->length, x->depth,
		x->allocated ? "true" : "false", x->zero ? "true" : "false",
		data ? "true" : "false");
	if (x->host != EXTENT_NO_HOST && !x->compressed) {
		printf(", \"offset\": %" PRIu64, x->host);
	}
	printf("}");
}

static int map(struct image *img, struct err *e)
{
	struct extent run = { 0 };
	bool first = true;

	for (uint64_t off = 0; off < img->size;) {
		struct extent x;
		int r = image_extent_at(img, off, &x, e);

		if (r < 0) {
			return r;
		}
		off = x.offset + x.length;
		if (run.length > 0 && extent_merge(&run, &x)) {
			continue;
		}
		if (run.length > 0) {
			print_extent(&run, first);
			first = false;
		}
		run = x;
	}
	if (run.length > 0) {
		print_extent(&run, first);
		first = false;
	}
	printf("%s]\n", first ? "[" : "");
	return 0;
}

static int info(struct image *img, struct err *e)
{
	struct report rep = REPORT_INIT;
	uint64_t allocated;
	int r = image_allocated(img, &allocated, e);

	if (r < 0) {
		return r;
	}
	image_report(img, &rep);
	printf("{ \"size\": %" PRIu64 ", \"allocated\": %" PRIu64, img->size, allocated);
	for (size_t i = 0; i < rep.count && (i == 0 || rep.items[i].kind != REPORT_LAYER); i++) {
		const struct report_item *item = &rep.items[i];

		if (item->kind == REPORT_LAYER) {
			printf(", \"layer\": \"%s\"", item->key);
		} else if (item->kind == REPORT_TEXT) {
			printf(", \"%s\": \"%s\"", item->key, item->text);
		} else {
			printf(", \"%s\": %" PRIu64, item->key, item->number);
		}
	}
	printf(" }\n");
	report_clear(&rep);
	return 0;
}

/* What the threads of --random and --time share. */
struct crew {
	struct image *img;
	int raw; /* --random */
	uint64_t seed;
	uint64_t reads;
	_Atomic uint64_t next; /* --time */
	_Atomic bool failed;
	_Atomic unsigned int number;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *random_reader(void *arg)
{
	struct crew *c = arg;
	uint64_t state = (c->seed + ++c->number) * 0x9e3779b97f4a7c15ULL;
	CLEANUP_FREE uint8_t *a = malloc(PIECE);
	CLEANUP_FREE uint8_t *b = malloc(PIECE);

	for (uint64_t i = 0; a && b && i < c->reads && !c->failed; i++) {
		uint64_t most = next_random(&state) % 4 ? 16384 : PIECE;
		uint64_t off = next_random(&state) % c->img->size;
		size_t len = 1 + next_random(&state) % min_u64(most, c->img->size - off);
		struct err e = { 0 };

		if (image_read_at(c->img, a, len, off, &e) < 0 ||
			rw_pread(c->raw, b, len, off) < 0 || memcmp(a, b, len) != 0) {
			fprintf(stderr, "imgcat: read of %zu at %" PRIu64 ": %s\n", len, off,
				e.code ? e.text : "wrong bytes");
			c->failed = true;
		}
	}
	return NULL;
}

static void *timed_reader(void *arg)
{
	struct crew *c = arg;
	CLEANUP_FREE uint8_t *buf = malloc(PIECE);

	while (buf && !c->failed) {
		uint64_t off = atomic_fetch_add(&c->next, PIECE);
		struct err e = { 0 };

		if (off >= c->img->size) {
			break;
		}
		if (image_read_at(c->img, buf, min_u64(PIECE, c->img->size - off), off, &e) < 0) {
			fprintf(stderr, "imgcat: %s\n", e.text);
			c->failed = true;
		}
	}
	return NULL;
}

static int run_crew(struct crew *c, unsigned int threads, void *(*fn)(void *))
{
	pthread_t ids[64];
	unsigned int n = 0;

	while (n < threads && n < ARRAY_SIZE(ids) && pthread_create(&ids[n], NULL, fn, c) == 0) {
		n++;
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(ids[i], NULL);
	}
	return n > 0 && !c->failed ? 0 : -EIO;
}

static int random_reads(struct image *img, char **args, struct err *e)
{
	struct crew c = {
		.img = img,
		.seed = strtoull(args[0], NULL, 0),
		.reads = strtoull(args[1], NULL, 0),
		.raw = open(args[3], O_RDONLY | O_CLOEXEC),
	};
	int r = c.raw < 0 ? -errno : 0;

	if (r == 0) {
		r = run_crew(&c, (unsigned int)strtoul(args[2], NULL, 0), random_reader);
		close(c.raw);
	}
	return r < 0 ? err_set(e, r, "random reads failed") : 0;
}

static int timed_reads(struct image *img, const char *threads, struct err *e)
{
	struct crew c = { .img = img };
	struct timespec a;
	struct timespec b;
	double s;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &a);
	r = run_crew(&c, (unsigned int)strtoul(threads, NULL, 0), timed_reader);
	clock_gettime(CLOCK_MONOTONIC, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("%.0f MB/s (%.3f s)\n", (double)img->size / 1e6 / s, s);
	return r < 0 ? err_set(e, r, "reading failed") : 0;
}

static int act(struct image *img, enum action action, char **args, struct err *e)
{
	switch (action) {
	case ACTION_CAT:
		return cat(img, 0, img->size, e);
	case ACTION_READ:
		return cat(img, strtoull(args[0], NULL, 0), strtoull(args[1], NULL, 0), e);
	case ACTION_MAP:
		return map(img, e);
	case ACTION_INFO:
		return info(img, e);
	case ACTION_RANDOM:
		return random_reads(img, args, e);
	case ACTION_TIME:
		return timed_reads(img, args[0], e);
	}
	return -EINVAL;
}

static int run(enum action action, char **args, const char *path, const char *format, bool backing)
{
	CLEANUP(image_closep) struct image *img = NULL;
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *directory = slash ? strndup(path, slash - path) : strdup(".");
	struct err e = { 0 };
	int r = open_image(path, format, backing ? directory : NULL, 0, &img, &e);

	if (r == 0) {
		r = act(img, action, args, &e);
	}
	if (r < 0) {
		fprintf(stderr, "imgcat: %s\n", e.text);
		return r == -EBADMSG || r == -ENOTSUP ? 4 : 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' },
		{ "member", required_argument, NULL, 'm' },
		{ "allow-backing", no_argument, NULL, 'b' },
		{ "read", no_argument, NULL, ACTION_READ },
		{ "map", no_argument, NULL, ACTION_MAP },
		{ "info", no_argument, NULL, ACTION_INFO },
		{ "random", no_argument, NULL, ACTION_RANDOM },
		{ "time", no_argument, NULL, ACTION_TIME },
		{ NULL, 0, NULL, 0 },
	};
	static const int operands[] = {
		[ACTION_CAT] = 0,
		[ACTION_READ] = 2,
		[ACTION_MAP] = 0,
		[ACTION_INFO] = 0,
		[ACTION_RANDOM] = 4,
		[ACTION_TIME] = 1,
	};
	enum action action = ACTION_CAT;
	const char *format = NULL;
	bool backing = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?') {
			return 2;
		}
		if (c == 'f') {
			format = optarg;
		} else if (c == 'm') {
			member = optarg;
		} else if (c == 'b') {
			backing = true;
		} else {
			action = (enum action)c;
		}
	}
	if (argc - optind != operands[action] + 1) {
		fprintf(stderr, "imgcat: wrong number of operands; see the head of imgcat.c\n");
		return 2;
	}
	return run(action, argv + optind, argv[argc - 1], format, backing);
}
