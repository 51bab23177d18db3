/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob that is read here and there cannot be verified on the way. When the cache below has all of
 * it, it is read through once, and from then on it is known whether it is what its digest says.
 * That is remembered beside it, so that the next mount does not do it again, and so that others may
 * use it who asked another registry. Before anything of it is fetched again (the cache gave it up),
 * it is unverified again.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/image.h"
#include "core/listener.h"
#include "core/report.h"
#include "sources/blob_facts.h"
#include "sources/digest.h"
#include "sources/source.h"
#include "sources/watch.h"

/* How often it looks whether all is here, milliseconds; and how rarely at most when reading it all
 * came to nothing. */
#define LOOK_MS  1000U
#define LOOK_MAX 256000U
#define PIECE    MIB(1)
#define RECORD   "verified"
#define WRONG    "wrong" /* as the record */

enum state {
	STATE_PARTIAL,
	STATE_GOOD,
	STATE_BAD,
	STATE_FAILED
};

struct watch {
	struct image img;
	struct blobs *blobs; /* NULL: nothing is remembered */
	char *digest;
	struct digest_want want;
	_Atomic int state;
	struct listener withdrawn;
	_Atomic uint64_t fetched; /* how often something was */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t wake;
	bool ending;
};

static struct watch *watch_of(struct image *img)
{
	return (struct watch *)img;
}

static int refuse(const struct watch *w, struct err *e)
{
	return err_set(e, -ENOKEY,
		"%s: the bytes that the server sent are not those of this digest: it is not the image "
		"that was meant, or it is damaged",
		w->digest);
}

static int watch_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	const struct watch *w = watch_of(img);

	return w->state == STATE_BAD ? refuse(w, e) : image_read_at(img->below, buf, len, off, e);
}

static int watch_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	const struct watch *w = watch_of(img);

	return w->state == STATE_BAD ? refuse(w, e)
				     : image_stream_at(img->below, off, len, sink, ctx, e);
}

static int watch_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	return image_extent_at(img->below, off, ret, e);
}

static void watch_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static void watch_distrust(struct image *img, uint64_t off, uint64_t len)
{
	image_distrust(img->below, off, len);
}

static int watch_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

static void watch_report(struct image *img, struct report *r)
{
	static const char *const words[] = { "not yet, parts of it were not read", "yes",
		"no, the bytes are others", "no, it could not be read" };
	const struct watch *w = watch_of(img);

	report_text(r, "digest", w->digest);
	report_text(r, "verified", words[w->state]);
}

static void watch_interrupt(struct image *img)
{
	struct watch *w = watch_of(img);
	LOCK_SCOPE(&w->lock);

	w->ending = true;
	pthread_cond_signal(&w->wake);
}

static void watch_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	listener_set(&watch_of(img)->withdrawn, fn, ctx);
}

static void watch_destroy(struct image *img)
{
	struct watch *w = watch_of(img);

	blob_facts_listen(img->below, NULL, NULL);
	if (w->has_thread) {
		watch_interrupt(img);
		pthread_join(w->thread, NULL);
	}
	listener_fini(&w->withdrawn);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	image_fini(img);
	free(w->digest);
	free(w);
}

static const struct image_ops watch_ops = {
	.name = "blob",
	.read_at = watch_read_at,
	.stream_at = watch_stream_at,
	.extent_at = watch_extent_at,
	.prefetch = watch_prefetch,
	.distrust = watch_distrust,
	.allocated = watch_allocated,
	.report = watch_report,
	.interrupt = watch_interrupt,
	.listen = watch_listen,
	.destroy = watch_destroy,
};

struct image *watch_find(struct image *top)
{
	while (top && top->ops != &watch_ops) {
		top = top->below;
	}
	return top;
}

int watch_check(struct image *watch, struct err *e)
{
	const struct watch *w = watch_of(watch);

	return w->state == STATE_BAD ? refuse(w, e) : 0;
}

/* Whether all of @cache is here, as it says. */
static bool is_complete(struct image *cache)
{
	struct report r = REPORT_INIT;
	const struct report_item *present;
	bool complete;

	image_report(cache, &r);
	present = report_find(&r, NULL, "present_bytes");
	complete = present && present->number >= cache->size;
	report_clear(&r);
	return complete;
}

static void remember(struct blobs *blobs, const char *text)
{
	if (blobs) {
		blobs_put(blobs, RECORD, text, strlen(text), NULL);
	}
}

static void cleanup_md(EVP_MD_CTX **hash)
{
	EVP_MD_CTX_free(*hash);
}

static bool is_ending(struct watch *w)
{
	LOCK_SCOPE(&w->lock);

	return w->ending;
}

/* A piece as the cache has it. What is not right there any more is to come again. */
static int look(struct watch *w, void *buf, size_t len, uint64_t off)
{
	int r = is_ending(w) ? -ECANCELED : image_peek_at(w->img.below, buf, len, off, NULL);

	if (r == -EAGAIN) {
		image_prefetch(w->img.below, off, len);
	}
	return r;
}

static enum state verify(struct watch *w)
{
	const EVP_MD *type = EVP_get_digestbyname(w->want.algorithm);
	CLEANUP(cleanup_md) EVP_MD_CTX *hash = EVP_MD_CTX_new();
	CLEANUP_FREE uint8_t *buf = malloc(PIECE);
	uint8_t value[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	bool ok = hash && buf && type && EVP_DigestInit_ex(hash, type, NULL) == 1;

	for (uint64_t off = 0; ok && off < w->img.size; off += PIECE) {
		size_t n = min_u64(PIECE, w->img.size - off);
		int r = look(w, buf, n, off);

		if (r == -EAGAIN) {
			return STATE_PARTIAL;
		}
		ok = r == 0 && EVP_DigestUpdate(hash, buf, n) == 1;
	}
	if (!ok || EVP_DigestFinal_ex(hash, value, &len) != 1) {
		return STATE_FAILED;
	}
	return len == w->want.length && memcmp(value, w->want.value, len) == 0 ? STATE_GOOD
									       : STATE_BAD;
}

/* Before something is fetched: what was verified is not what will be here. */
static void on_fetch(void *ctx)
{
	struct watch *w = ctx;
	LOCK_SCOPE(&w->lock);

	w->fetched++;
	if (w->state == STATE_GOOD) {
		remember(w->blobs, "");
	}
	if (w->state == STATE_GOOD || w->state == STATE_FAILED) {
		w->state = STATE_PARTIAL;
		pthread_cond_signal(&w->wake);
	}
}

/* Waits until it is time to look, at least @ms. False: it is to end. */
static bool wait_turn(struct watch *w, unsigned int ms)
{
	struct timespec until;
	int r = 0;
	LOCK_SCOPE(&w->lock);

	while (!w->ending && (w->state == STATE_GOOD || w->state == STATE_BAD)) {
		pthread_cond_wait(&w->wake, &w->lock);
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	while (!w->ending && r == 0) {
		r = pthread_cond_timedwait(&w->wake, &w->lock, &until);
	}
	return !w->ending;
}

/* What was fetched while all was being read may not be what was read. Whether there is a verdict
 * now. */
static bool settle(struct watch *w, enum state state, uint64_t fetched)
{
	LOCK_SCOPE(&w->lock);

	if (state != STATE_BAD && w->fetched != fetched) {
		return false;
	}
	/* First the record: whoever is told a verdict finds it there. */
	if (state == STATE_GOOD) {
		remember(w->blobs, w->digest);
	} else if (state == STATE_BAD) {
		remember(w->blobs, WRONG);
	}
	w->state = state;
	if (state == STATE_BAD) {
		listener_tell(&w->withdrawn);
	}
	return state == STATE_GOOD || state == STATE_BAD;
}

static void *run(void *arg)
{
	struct watch *w = arg;
	unsigned int ms = LOOK_MS;

	while (wait_turn(w, ms)) {
		uint64_t fetched = w->fetched;

		if (is_complete(w->img.below)) {
			ms = settle(w, verify(w), fetched)
				     ? LOOK_MS
				     : (unsigned int)min_u64(2 * ms, LOOK_MAX);
		}
	}
	return NULL;
}

/* What was verified in an earlier life counts as long as nothing of it went since. */
enum source_verdict source_verdict_recall(
	struct image *image, const char *digest, struct blobs *blobs)
{
	CLEANUP_FREE void *text = NULL;
	size_t len = 0;

	if (!blobs || blobs_get(blobs, RECORD, &text, &len, NULL) < 0) {
		return SOURCE_UNVERIFIED;
	}
	if (len == strlen(WRONG) && memcmp(text, WRONG, len) == 0) {
		return SOURCE_WRONG;
	}
	if (len == strlen(digest) && memcmp(text, digest, len) == 0 && is_complete(image)) {
		return SOURCE_VERIFIED;
	}
	/* Nor when somebody who does not watch has fetched the rest. */
	if (len > 0) {
		remember(blobs, "");
	}
	return SOURCE_UNVERIFIED;
}

static void begin(struct watch *w)
{
	switch (source_verdict_recall(w->img.below, w->digest, w->blobs)) {
	case SOURCE_VERIFIED:
		w->state = STATE_GOOD;
		break;
	case SOURCE_WRONG:
		w->state = STATE_BAD;
		return;
	case SOURCE_UNVERIFIED:
		break;
	}
	blob_facts_listen(w->img.below, on_fetch, w);
	w->has_thread = pthread_create(&w->thread, NULL, run, w) == 0;
}

static void init_locks(struct watch *w)
{
	pthread_condattr_t attr;

	listener_init(&w->withdrawn);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attr);
	pthread_condattr_destroy(&attr);
}

int source_watch_open(struct image *below, const char *digest, struct blobs *blobs,
	struct image **ret, struct err *e)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r = w ? digest_parse(digest, &w->want, e) : err_set(e, -ENOMEM, "out of memory");

	if (r == 0) {
		w->digest = strdup(digest);
		if (!w->digest ||
			image_init(&w->img, &watch_ops, below, below->size, below->id) < 0) {
			r = err_set(e, -ENOMEM, "out of memory");
		}
	}
	if (r < 0) {
		free(w ? w->digest : NULL);
		free(w);
		return r;
	}
	w->img.block = below->block;
	w->img.flags = below->flags;
	w->blobs = blobs;
	init_locks(w);
	begin(w);
	*ret = &w->img;
	return 0;
}
