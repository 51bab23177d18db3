/* SPDX-License-Identifier: Apache-2.0 */
/* Facts for `info` and `status`; bytes pass through. */
#include "sources/blob_facts.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/report.h"

enum fact {
	REFERENCE,
	DIGEST,
	PLATFORM,
	ACCOUNT,
	MEDIA_TYPE,
	FACTS
};

struct blob_facts {
	struct image img;
	char *texts[FACTS];
	bool unconfirmed;
	uint64_t layer; /* from 1 on */
	uint64_t layers;
	pthread_mutex_t lock; /* protects what follows */
	blob_fetch_fn *fn;
	void *ctx;
};

static struct blob_facts *of(struct image *img)
{
	return (struct blob_facts *)img;
}

static void tell(struct image *img)
{
	struct blob_facts *b = of(img);
	LOCK_SCOPE(&b->lock);

	if (b->fn) {
		b->fn(b->ctx);
	}
}

static int facts_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	tell(img);
	return image_read_at(img->below, buf, len, off, e);
}

static int facts_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	tell(img);
	return image_stream_at(img->below, off, len, sink, ctx, e);
}

static int facts_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	return image_extent_at(img->below, off, ret, e);
}

static void facts_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static int facts_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

static void facts_report(struct image *img, struct report *r)
{
	static const char *const keys[] = { "reference", "manifest", "platform", "account",
		"media_type" };
	const struct blob_facts *b = of(img);

	for (int i = 0; i < FACTS; i++) {
		if (*b->texts[i]) {
			report_text(r, keys[i], b->texts[i]);
		}
	}
	report_u64(r, "layer", b->layer);
	report_u64(r, "layers", b->layers);
	report_bool(r, "unconfirmed", b->unconfirmed);
}

static void free_texts(struct blob_facts *b)
{
	for (int i = 0; i < FACTS; i++) {
		free(b->texts[i]);
	}
}

static void facts_destroy(struct image *img)
{
	free_texts(of(img));
	pthread_mutex_destroy(&of(img)->lock);
	image_fini(img);
	free(img);
}

static const struct image_ops facts_ops = {
	.name = "image",
	.read_at = facts_read_at,
	.stream_at = facts_stream_at,
	.extent_at = facts_extent_at,
	.prefetch = facts_prefetch,
	.allocated = facts_allocated,
	.report = facts_report,
	.destroy = facts_destroy,
};

static bool copy_texts(struct blob_facts *b, const struct source_facts *facts, size_t layer)
{
	const char *const texts[] = { facts->reference, facts->digest, facts->platform,
		facts->account, facts->layers[layer].media_type };

	for (int i = 0; i < FACTS; i++) {
		b->texts[i] = strdup(texts[i]);
		if (!b->texts[i]) {
			return false;
		}
	}
	return true;
}

bool blob_facts_listen(struct image *top, blob_fetch_fn *fn, void *ctx)
{
	while (top && top->ops != &facts_ops) {
		top = top->below;
	}
	if (top) {
		LOCK_SCOPE(&of(top)->lock);

		of(top)->fn = fn;
		of(top)->ctx = ctx;
	}
	return top;
}

int blob_facts_open(struct image *below, const struct source_facts *facts, size_t layer,
	const char *id, struct image **ret, struct err *e)
{
	struct blob_facts *b = calloc(1, sizeof(*b));

	if (!b || !copy_texts(b, facts, layer) ||
		image_init(&b->img, &facts_ops, below, below->size, id ? id : below->id) < 0) {
		if (b) {
			free_texts(b);
		}
		free(b);
		return err_set(e, -ENOMEM, "out of memory");
	}
	b->img.block = below->block;
	b->img.flags = below->flags;
	b->unconfirmed = facts->unconfirmed;
	b->layer = layer + 1;
	b->layers = facts->layer_count;
	pthread_mutex_init(&b->lock, NULL);
	*ret = &b->img;
	return 0;
}
