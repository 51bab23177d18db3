/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the layers of an image through sources/ alone, without cache, formats or filesystem, so
 * that tests can see what goes over the wire.
 *
 *      blobcat [OPTIONS] SOURCE                  the image's facts, as JSON
 *      blobcat --records DIR --keys SOURCE       what the records know of it
 *      blobcat [OPTIONS] --layer N SOURCE        all of a layer, to stdout
 *      blobcat [OPTIONS] --layer N --steps SIZE SOURCE
 *              SIZE bytes of it whenever a line comes in, to the end
 * Options: --platform P, --authfile F, --insecure, --cacert F, --client-cert F, --client-key F,
 * --user U, --password P, --timeout S, --threads N, --records DIR, --known, --label NAME. Exit: 0;
 * 2 usage; else the errno of the failure, whose text goes to stderr.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/image.h"
#include "core/report.h"
#include "core/rw.h"
#include "sources/source.h"

#define PIECE MIB(1)

static struct source_opts opts;
static const char *records_dir;
static const char *label;
static long layer = -1;
static uint64_t steps;
static unsigned int threads = 1;
static bool known;
static bool keys;

/* --- records: one file each --- */

static char *record_path(const char *key)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", records_dir, key) < 0) {
		abort();
	}
	for (char *p = path + strlen(records_dir) + 1; *p; p++) {
		*p = *p == '/' ? '_' : *p;
	}
	return path;
}

static int record_get(void *ctx, const char *key, void **ret, size_t *ret_len)
{
	CLEANUP_FREE char *path = record_path(key);

	(void)ctx;
	return rw_read_file(path, MIB(8), (char **)ret, ret_len, NULL);
}

static void record_put(void *ctx, const char *key, const void *data, size_t len)
{
	CLEANUP_FREE char *path = record_path(key);
	FILE *f = fopen(path, "w");

	(void)ctx;
	if (!f || fwrite(data, 1, len, f) != len) {
		perror(path);
	}
	if (f) {
		fclose(f);
	}
}

static const struct source_records records = { record_get, record_put, NULL };

static int print_key(void *ctx, const char *key, bool record)
{
	(void)ctx;
	printf("%s %s\n", record ? "record" : "layer", key);
	return 0;
}

/* --- facts --- */

static int print_facts(struct source_image *s, struct err *e)
{
	const struct source_facts *f = source_image_facts(s);
	CLEANUP_FREE char *text = NULL;
	json_t *list = json_array();
	json_t *all;
	int r = label ? source_image_label(s, label, &text, e) : 0;

	for (size_t i = 0; i < f->layer_count; i++) {
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:I}", "digest", f->layers[i].digest, "type",
				f->layers[i].media_type, "size", (json_int_t)f->layers[i].size));
	}
	all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:s*}", "reference",
		f->reference, "digest", f->digest, "media_type", f->media_type, "artifact_type",
		f->artifact_type, "config_type", f->config_type, "platform", f->platform, "account",
		f->account, "warning", f->warning, "unconfirmed", f->unconfirmed, "layers", list,
		"label", text);
	json_dumpf(all, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(all);
	return r;
}

/* --- bytes --- */

static int to_stdout(void *ctx, uint64_t off, const void *buf, size_t n)
{
	uint64_t *next = ctx;

	if (off != *next || fwrite(buf, 1, n, stdout) != n) {
		return -EIO;
	}
	*next += n;
	return 0;
}

static int cat_stepwise(struct image *img, struct err *e)
{
	char line[16];
	uint8_t *buf = malloc(steps);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t off = 0; r == 0 && off < img->size; off += steps) {
		size_t n = min_u64(steps, img->size - off);

		if (!fgets(line, sizeof(line), stdin)) {
			break;
		}
		r = image_read_at(img, buf, n, off, e);
		if (r == 0) {
			fwrite(buf, 1, n, stdout);
			fflush(stdout);
		}
	}
	free(buf);
	return r;
}

struct reader {
	struct image *img;
	uint8_t *all;
	unsigned int number;
	int r;
	struct err e;
};

static void *read_share(void *arg)
{
	struct reader *me = arg;

	for (uint64_t off = me->number * PIECE; me->r == 0 && off < me->img->size;
		off += PIECE * threads) {
		me->r = image_read_at(
			me->img, me->all + off, min_u64(PIECE, me->img->size - off), off, &me->e);
	}
	return NULL;
}

/* Pieces by turns, as several readers would. */
static int cat_threads(struct image *img, struct err *e)
{
	struct reader readers[64] = { 0 };
	pthread_t ids[64];
	uint8_t *all = malloc(img->size + 1);
	int r = 0;

	for (unsigned int i = 0; i < threads; i++) {
		readers[i] = (struct reader){ .img = img, .all = all, .number = i };
		pthread_create(&ids[i], NULL, read_share, &readers[i]);
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		if (r == 0 && readers[i].r < 0) {
			r = readers[i].r;
			*e = readers[i].e;
		}
	}
	if (r == 0) {
		fwrite(all, 1, img->size, stdout);
	}
	free(all);
	return r;
}

static void print_counts(struct image *img)
{
	struct report r = REPORT_INIT;
	const struct report_item *requests;
	const struct report_item *bytes;

	image_report(img, &r);
	requests = report_find(&r, "http", "requests");
	bytes = report_find(&r, "http", "bytes_fetched");
	if (requests && bytes) {
		fprintf(stderr, "requests %" PRIu64 " bytes %" PRIu64 "%s\n", requests->number,
			bytes->number, img->flags & IMAGE_SEQUENTIAL ? " sequential" : "");
	}
	report_clear(&r);
}

static int cat(struct source_image *s, struct err *e)
{
	struct image *img = NULL;
	uint64_t next = 0;
	int r = source_image_blob_open(
		s, (size_t)layer, NULL, known ? SOURCE_HERE_SOME : SOURCE_HERE_NONE, &img, e);

	if (r < 0) {
		return r;
	}
	if (steps) {
		r = cat_stepwise(img, e);
	} else if (threads > 1) {
		r = cat_threads(img, e);
	} else {
		r = image_stream_at(img, 0, img->size, to_stdout, &next, e);
	}
	print_counts(img);
	image_close(img);
	return r;
}

static const struct option options[] = {
	{ "platform", required_argument, NULL, 'p' },
	{ "authfile", required_argument, NULL, 'a' },
	{ "insecure", no_argument, NULL, 'i' },
	{ "cacert", required_argument, NULL, 'c' },
	{ "client-cert", required_argument, NULL, 'C' },
	{ "client-key", required_argument, NULL, 'K' },
	{ "user", required_argument, NULL, 'u' },
	{ "password", required_argument, NULL, 'w' },
	{ "timeout", required_argument, NULL, 't' },
	{ "threads", required_argument, NULL, 'T' },
	{ "records", required_argument, NULL, 'r' },
	{ "known", no_argument, NULL, 'k' },
	{ "label", required_argument, NULL, 'L' },
	{ "keys", no_argument, NULL, 'e' },
	{ "layer", required_argument, NULL, 'l' },
	{ "steps", required_argument, NULL, 's' },
	{ 0 },
};

static bool take(int c)
{
	const struct {
		int c;
		const char **field;
	} texts[] = {
		{ 'p', &opts.platform },
		{ 'a', &opts.authfile },
		{ 'c', &opts.cacert },
		{ 'C', &opts.client_cert },
		{ 'K', &opts.client_key },
		{ 'u', &opts.user },
		{ 'w', &opts.password },
		{ 'r', &records_dir },
		{ 'L', &label },
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (texts[i].c == c) {
			*texts[i].field = optarg;
			return true;
		}
	}
	switch (c) {
	case 'i':
		opts.insecure = true;
		return true;
	case 'e':
		keys = true;
		return true;
	case 'k':
		known = true;
		return true;
	case 't':
		opts.timeout_s = (unsigned int)strtoul(optarg, NULL, 10);
		return true;
	case 'T':
		threads = (unsigned int)strtoul(optarg, NULL, 10) % 65;
		return true;
	case 'l':
		layer = strtol(optarg, NULL, 10);
		return true;
	case 's':
		steps = strtoul(optarg, NULL, 10);
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct source_image *s = NULL;
	struct net *net = NULL;
	struct err e = { 0 };
	int c;
	int r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (!take(c)) {
			return 2;
		}
	}
	if (optind != argc - 1) {
		return 2;
	}
	opts.records = records_dir ? &records : NULL;
	if (keys) {
		r = source_image_known(&records, argv[optind], print_key, NULL, &e);
		fputs(e.text, stderr);
		return -r;
	}
	r = net_new(0, &net, &e);
	if (r == 0) {
		r = source_image_open(net, argv[optind], &opts, &s, &e);
	}
	if (r == 0 && layer >= 0 && (size_t)layer >= source_image_facts(s)->layer_count) {
		r = -EDOM;
	}
	if (r == 0) {
		r = layer < 0 ? print_facts(s, &e) : cat(s, &e);
	}
	if (r < 0) {
		fprintf(stderr, "%s\n", e.text);
	}
	source_image_close(s);
	net_free(net);
	return -r;
}
