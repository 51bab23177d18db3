/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache over simulated links: a delay before each transfer's first byte, and a rate that all
 * transfers share. Prints what a stream, random reads and a recorded boot cost on each, to tune the
 * sizes of fills and readahead with.
 *
 *   replay_trace [TRACE.csv]      lines of "ms,offset,length"; see --help
 */
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/report.h"
#include "tests/unit/fake_image.h"

#define READS_MAX 100000U

struct read {
	uint64_t off;
	size_t len;
};

struct bench {
	struct fake_image *fake;
	struct cache *cache;
	struct image *img;
	_Atomic size_t next;
	size_t count;
	struct read *reads;
	double *latency; /* ms, of each read */
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t reported(struct image *img, const char *key)
{
	struct report r = REPORT_INIT;
	const struct report_item *item;
	uint64_t n;

	image_report(img, &r);
	item = report_find(&r, "cache", key);
	n = item ? item->number : 0;
	report_clear(&r);
	return n;
}

static void *reader(void *arg)
{
	struct bench *b = arg;
	uint8_t *buf = malloc(MIB(4));
	size_t i;

	while ((i = b->next++) < b->count) {
		double began = now_ms();
		struct err e = { 0 };

		if (image_read_at(b->img, buf, b->reads[i].len, b->reads[i].off, &e) < 0) {
			fprintf(stderr, "read failed: %s\n", e.text);
			exit(1);
		}
		b->latency[i] = now_ms() - began;
	}
	free(buf);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct link {
	unsigned int rtt_ms;
	unsigned int mbit;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool reported_flag(struct image *img, const char *key)
{
	return reported(img, key) != 0;
}

struct record {
	void *data;
	size_t len;
};

/* One boot over an empty cache on disk, on which @with (data NULL: nothing) is replayed. Prints a
 * line of numbers; *ret, unless NULL, is what was recorded. */
static void boot(struct link link, struct read *reads, size_t count, uint64_t size,
	const struct record *with, struct record *ret)
{
	char dir[] = "/tmp/lazydisk-bench-XXXXXX";
	struct cache_opts opts = { .dir = mkdtemp(dir) };
	struct cache_serve_opts serve = { .no_complete = true };
	struct bench b = { .count = count, .reads = reads };
	double began;
	double seconds;
	uint64_t waits;
	uint64_t wait_ms;

	b.fake = fake_image_new(size, 1, NULL);
	b.fake->delay_us = link.rtt_ms * 1000;
	b.fake->link_rate = (uint64_t)link.mbit * 125000;
	b.latency = calloc(count, sizeof(*b.latency));
	if (!opts.dir || cache_open(&opts, &b.cache, NULL) < 0 ||
		cache_image_open(b.cache, "bench", &b.fake->img, &b.img, NULL) < 0 ||
		cache_image_serve(b.img, &serve, NULL) < 0) {
		exit(1);
	}
	began = now_ms();
	if (with->data && cache_image_trace(b.img, with->data, with->len, NULL) < 0) {
		exit(1);
	}
	reader(&b);
	seconds = (now_ms() - began) / 1e3;
	waits = reported(b.img, "waits");
	wait_ms = reported(b.img, "wait_ms");
	while (reported_flag(b.img, "replaying")) {
		usleep(10000);
	}
	printf("%u %u %s %.3f %" PRIu64 " %.3f %.1f %" PRIu64 " %.1f\n", link.rtt_ms, link.mbit,
		with->data ? "trace" : "cold", seconds, waits, (double)wait_ms / 1e3,
		(double)b.fake->bytes / 1e6, reported(b.img, "fills"),
		(double)reported(b.img, "bytes_wasted") / 1e6);
	fflush(stdout);
	image_close(b.img);
	if (ret && cache_trace_get(b.cache, "bench", &ret->data, &ret->len, NULL) < 0) {
		exit(1);
	}
	cache_close(b.cache);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(b.latency);
}

/* The boot at all links, without and with what the first one recorded. */
static void boots(struct read *reads, size_t count, uint64_t size)
{
	static const unsigned int rtts[] = { 5, 30, 100 };
	static const unsigned int rates[] = { 100, 1000 };
	const struct record nothing = { NULL, 0 };

	for (size_t i = 0; i < ARRAY_SIZE(rtts) * ARRAY_SIZE(rates); i++) {
		struct link link = { rtts[i / 2], rates[i % 2] };
		struct record recorded = { NULL, 0 };
		const char *only = getenv("BENCH_RTT");

		if (only && strtoul(only, NULL, 10) != link.rtt_ms) {
			continue;
		}

		boot(link, reads, count, size, &nothing, &recorded);
		boot(link, reads, count, size, &recorded, NULL);
		free(recorded.data);
	}
}

/* Runs the reads with @threads at once over a fresh cache; prints one row. Returns seconds. */
static double run(const char *what, struct link link, struct read *reads, size_t count,
	unsigned int threads, uint64_t size)
{
	struct cache_opts opts = { .max_size = GIB(2) };
	struct bench b = { .count = count, .reads = reads };
	pthread_t thread[64];
	double began;
	double seconds;
	size_t stalls = 0;
	char dir[] = "/tmp/lazydisk-bench-XXXXXX";
	bool disk = getenv("BENCH_DISK") != NULL;

	if (disk && mkdtemp(dir)) {
		opts.dir = dir;
	}
	b.fake = fake_image_new(size, 1, NULL);
	b.fake->delay_us = link.rtt_ms * 1000;
	b.fake->link_rate = (uint64_t)link.mbit * 125000;
	b.latency = calloc(count, sizeof(*b.latency));
	if (cache_open(&opts, &b.cache, NULL) < 0 ||
		cache_image_open(b.cache, "bench", &b.fake->img, &b.img, NULL) < 0) {
		exit(1);
	}
	began = now_ms();
	for (unsigned int i = 0; i < threads; i++) {
		pthread_create(&thread[i], NULL, reader, &b);
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
	}
	seconds = (now_ms() - began) / 1e3;
	for (size_t i = 0; i < count; i++) {
		stalls += b.latency[i] > 0.5;
	}
	qsort(b.latency, count, sizeof(*b.latency), by_value);
	printf("%-12s %3u ms %4u Mbit/s: %7.2f s %6zu stalls %6.1f MB fetched (%" PRIu64
	       " fills), median %.2f ms p99 %.1f ms, est %" PRIu64 " us %.1f MB/s\n",
		what, link.rtt_ms, link.mbit, seconds, stalls, (double)b.fake->bytes / 1e6,
		reported(b.img, "fills"), b.latency[count / 2], b.latency[count * 99 / 100],
		reported(b.img, "rtt_us"), (double)reported(b.img, "bytes_per_s") / 1e6);
	fflush(stdout);
	image_close(b.img);
	cache_close(b.cache);
	if (opts.dir) {
		nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	}
	free(b.latency);
	return seconds;
}

static size_t load(const char *path, struct read *reads, uint64_t *ret_size)
{
	FILE *f = fopen(path, "re");
	char line[256];
	size_t n = 0;

	if (!f) {
		perror(path);
		exit(1);
	}
	while (n < READS_MAX && fgets(line, sizeof(line), f)) {
		uint64_t off;
		size_t len;

		if (sscanf(line, "%*u,%" SCNu64 ",%zu", &off, &len) == 2) {
			reads[n++] = (struct read){ off, len };
			*ret_size = max_u64(*ret_size, off + len);
		}
	}
	fclose(f);
	return n;
}

static void stream(struct link link, struct read *reads, size_t piece, unsigned int threads)
{
	size_t n = MIB(256) / piece;
	double seconds;

	for (size_t i = 0; i < n; i++) {
		reads[i] = (struct read){ i * piece, piece };
	}
	seconds = run("stream", link, reads, n, threads, MIB(256));
	printf("             %zu KiB x %u: %.2f of the link\n", piece >> 10, threads,
		(double)MIB(256) / 125000 / link.mbit / seconds);
}

static void scattered(struct link link, struct read *reads)
{
	double one;
	double many;

	srandom(1);
	for (size_t i = 0; i < 4000; i++) {
		reads[i] = (struct read){
			(uint64_t)random() % (GIB(1) / 4096) * 4096,
			4096,
		};
	}
	one = run("random 1", link, reads, 150, 1, GIB(1)) / 150;
	many = run("random 32", link, reads + 150, 2000, 32, GIB(1)) / 2000;
	printf("             32 at once: %.1f times one\n", one / many);
}

int main(int argc, char **argv)
{
	static const struct link links[] = { { 5, 1000 }, { 10, 1000 }, { 30, 100 }, { 30, 1000 },
		{ 50, 1000 }, { 100, 1000 } };
	struct read *reads = calloc(READS_MAX, sizeof(*reads));
	const char *only = getenv("BENCH_ONLY");
	const char *rtt = getenv("BENCH_RTT");

	if (argc == 3 && strcmp(argv[1], "--boots") == 0) {
		uint64_t size = 0;
		size_t n = load(argv[2], reads, &size);

		boots(reads, n, round_up(size, MIB(1)));
		free(reads);
		return 0;
	}
	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--help") == 0)) {
		printf("usage: replay_trace [TRACE.csv]\n"
		       "       replay_trace --boots TRACE.csv\n"
		       "The second prints, for each link, cold and with a trace: ms, Mbit/s, how,\n"
		       "seconds, reads that waited, seconds of that, MB fetched, fetches, MB in vain.\n"
		       "BENCH_DISK=1 caches on disk, BENCH_ONLY=stream|random|trace runs one part,\n"
		       "BENCH_RTT=N only the links of N ms\n");
		return argc > 2 ? 2 : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (rtt && strtoul(rtt, NULL, 10) != links[i].rtt_ms) {
			continue;
		}
		if (!only || strcmp(only, "stream") == 0) {
			stream(links[i], reads, MIB(1), 2);
			stream(links[i], reads, KIB(128), 2);
		}
		if (!only || strcmp(only, "random") == 0) {
			scattered(links[i], reads);
		}
		if (argc == 2 && (!only || strcmp(only, "trace") == 0)) {
			uint64_t size = 0;
			size_t n = load(argv[1], reads, &size);

			run("boot", links[i], reads, n, 1, round_up(size, MIB(1)));
		}
	}
	free(reads);
	return 0;
}
