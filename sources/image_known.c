/* SPDX-License-Identifier: Apache-2.0 */
/* What records say of an image, without asking anybody. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "sources/json_text.h"
#include "sources/oci_digest.h"
#include "sources/oci_manifest.h"
#include "sources/registry_ref.h"
#include "sources/source.h"

/* Of an index and what it names. */
#define MANIFESTS_MAX 256U

struct walk {
	const struct source_records *records;
	source_known_fn *fn;
	void *ctx;
	char digests[MANIFESTS_MAX][OCI_DIGEST_MAX]; /* of manifests to be looked at */
	size_t count;
};

static void push(struct walk *w, const char *digest)
{
	if (w->count < MANIFESTS_MAX && oci_digest_check(digest, NULL) == 0) {
		memcpy(w->digests[w->count++], digest, strlen(digest) + 1);
	}
}

static int visit(struct walk *w, const struct oci_manifest *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->count; i++) {
		if (m->is_index) {
			push(w, m->items[i].blob.digest);
		} else {
			r = w->fn(w->ctx, m->items[i].blob.digest, false);
		}
	}
	if (r == 0 && *m->config.blob.digest) {
		r = w->fn(w->ctx, m->config.blob.digest, true);
	}
	return r;
}

/* A record of a manifest is a line with its media type, and its bytes. */
static int look_at(struct walk *w, const char *digest)
{
	CLEANUP_FREE void *data = NULL;
	struct oci_manifest m;
	const char *end;
	size_t len = 0;
	int r;

	if (w->records->get(w->records->ctx, digest, &data, &len) < 0) {
		return 0;
	}
	end = memchr(data, '\n', len);
	r = w->fn(w->ctx, digest, true);
	if (r < 0 || !end) {
		return r;
	}
	end++;
	if (oci_manifest_parse("", end, len - (size_t)(end - (char *)data), "", &m, NULL) == 0) {
		r = visit(w, &m);
		oci_manifest_clear(&m);
	}
	return r;
}

static int recall_top(struct walk *w, const struct registry_ref *ref, struct err *e)
{
	CLEANUP(json_text_dropp) json_t *json = NULL;
	CLEANUP_FREE void *data = NULL;
	const char *digest = NULL;
	size_t len = 0;

	if (w->records->get(w->records->ctx, ref->text, &data, &len) == 0 &&
		json_text_parse("", data, len, &json, NULL) == 0) {
		digest = json_text_get(json, "manifest");
	}
	if (!digest) {
		return err_set(e, -ENOENT, "%s: not cached", ref->text);
	}
	push(w, digest);
	return w->fn(w->ctx, ref->text, true);
}

int source_image_known(const struct source_records *records, const char *spec, source_known_fn *fn,
	void *ctx, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct registry_ref ref;
	int r;

	if (!w) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->records = records;
	w->fn = fn;
	w->ctx = ctx;
	r = registry_ref_parse(spec, &ref, e);
	if (r == 0) {
		r = recall_top(w, &ref, e);
		for (size_t i = 0; r == 0 && i < w->count; i++) {
			r = look_at(w, w->digests[i]);
		}
		registry_ref_clear(&ref);
	}
	free(w);
	return r;
}
