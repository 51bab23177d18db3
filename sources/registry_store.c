/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in a registry, and what is remembered of it: which manifest the tag named, how the
 * registry is reached, and the manifests themselves by their digests. What is known need not be
 * fetched; where the registry cannot be asked, it has to do.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "sources/json_text.h"
#include "sources/oci_store.h"
#include "sources/registry.h"

#define CONFIG_MAX 4194304U

struct registry_store {
	struct oci_store store;
	struct registry_ref ref;
	struct registry *registry;
	const struct source_records *records; /* NULL: none */

	/* what was remembered, and what is to be */
	json_t *known;            /* NULL: nothing */
	char top[OCI_DIGEST_MAX]; /* "": not yet */
	bool ranges;              /* blobs are served by ranges */
	bool changed;             /* to be remembered */
};

static struct registry_store *of(struct oci_store *s)
{
	return (struct registry_store *)s;
}

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* --- records --- */

/* A manifest by its digest: a line that says its media type, and its bytes. */
static bool recall_manifest(
	const struct registry_store *s, const char *digest, struct oci_bytes *ret)
{
	char *data = NULL;
	size_t len = 0;
	char *end;
	size_t head;

	if (!s->records || s->records->get(s->records->ctx, digest, (void **)&data, &len) < 0) {
		return false;
	}
	end = memchr(data, '\n', len);
	head = end ? (size_t)(end - data) : len;
	if (!end || head >= sizeof(ret->type) ||
		oci_digest_verify(digest, end + 1, len - head - 1, "", NULL) < 0) {
		free(data);
		return false;
	}
	memcpy(ret->type, data, head);
	ret->type[head] = '\0';
	ret->len = len - head - 1;
	memmove(data, end + 1, ret->len);
	data[ret->len] = '\0';
	ret->data = data;
	snprintf(ret->digest, sizeof(ret->digest), "%s", digest);
	return true;
}

static void remember_manifest(const struct registry_store *s, const struct oci_bytes *m)
{
	char *text = NULL;
	int head;

	if (!s->records) {
		return;
	}
	head = asprintf(&text, "%s\n", m->type);
	if (head >= 0) {
		char *more = realloc(text, (size_t)head + m->len);

		if (more) {
			text = more;
			memcpy(text + head, m->data, m->len);
			s->records->put(s->records->ctx, m->digest, text, (size_t)head + m->len);
		}
		free(text);
	}
}

static void recall(struct registry_store *s)
{
	void *data = NULL;
	size_t len = 0;
	const char *top;

	if (!s->records || s->records->get(s->records->ctx, s->ref.text, &data, &len) < 0) {
		return;
	}
	if (json_text_parse("", data, len, &s->known, NULL) == 0) {
		top = json_text_get(s->known, "manifest");
		if (!top || oci_digest_check(top, NULL) < 0) {
			json_decref(s->known);
			s->known = NULL;
		} else {
			s->ranges = json_is_true(json_object_get(s->known, "ranges"));
		}
	}
	free(data);
}

static void remember(struct registry_store *s)
{
	CLEANUP_FREE char *realm = NULL;
	CLEANUP_FREE char *service = NULL;
	CLEANUP_FREE char *text = NULL;
	json_t *json;

	if (!s->records || !s->changed || !s->top[0] ||
		!registry_challenge_known(s->registry, &realm, &service)) {
		return;
	}
	json = json_pack("{s:s, s:o*, s:b, s:s*, s:s*}", "manifest", s->top, "plain",
		registry_has_answered(s->registry) ? json_boolean(registry_is_plain(s->registry))
						   : NULL,
		"ranges", s->ranges, "realm", realm, "service", service);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (text) {
		s->records->put(s->records->ctx, s->ref.text, text, strlen(text));
		s->changed = false;
	}
}

static void note_top(struct registry_store *s, const char *digest)
{
	const char *known = json_text_get(s->known, "manifest");

	snprintf(s->top, sizeof(s->top), "%s", digest);
	s->changed = s->changed || !known || strcmp(known, digest) != 0;
}

/* --- manifests --- */

static int fetch(struct registry_store *s, const char *which, bool is_known, struct oci_bytes *ret,
	bool *ret_temporary, struct err *e)
{
	struct registry_manifest m;
	int r = registry_manifest_get(s->registry, which, is_known, &m, ret_temporary, e);

	if (r < 0) {
		return r;
	}
	ret->data = m.data;
	ret->len = m.len;
	memcpy(ret->type, m.type, sizeof(ret->type));
	memcpy(ret->digest, m.digest, sizeof(ret->digest));
	remember_manifest(s, ret);
	return 0;
}

static int by_digest(
	struct registry_store *s, const char *digest, struct oci_bytes *ret, struct err *e)
{
	bool temporary;

	return recall_manifest(s, digest, ret) ? 0 : fetch(s, digest, false, ret, &temporary, e);
}

/* The tag was @known before, and that manifest is here, in @ret: is it still? 0 with @ret as it is,
 * when it is, or nobody can tell; 1: no, or not in this way. */
static int confirm(struct registry_store *s, const char *known, struct err *e)
{
	struct registry_manifest head;
	struct err why;
	bool temporary;
	int r = registry_manifest_head(s->registry, s->ref.tag, &head, &temporary, &why);

	if (r < 0 && temporary) {
		s->store.unconfirmed = true;
		return 0;
	}
	if (r == -EACCES || r == -ENOENT || r == -ECANCELED) {
		return err_set(e, r, "%s", why.text);
	}
	return r == 0 && strcmp(head.digest, known) == 0 ? 0 : 1;
}

static int by_tag(struct registry_store *s, struct oci_bytes *ret, struct err *e)
{
	const char *known = json_text_get(s->known, "manifest");
	bool have = known && recall_manifest(s, known, ret);
	bool temporary = false;
	struct err why;
	int r = have ? confirm(s, known, e) : 1;

	if (r == 1) {
		struct oci_bytes now = { 0 };

		r = fetch(s, s->ref.tag, have, &now, &temporary, &why);
		if (r < 0 && temporary && have) {
			s->store.unconfirmed = true;
			return 0;
		}
		if (r < 0) {
			err_set(e, r, "%s", why.text);
		} else {
			free(ret->data);
			*ret = now;
		}
	}
	if (r < 0) {
		free(ret->data);
		ret->data = NULL;
	}
	return r;
}

static int store_top(struct oci_store *store, struct oci_bytes *ret, struct err *e)
{
	struct registry_store *s = of(store);
	struct oci_bytes bytes = { 0 };
	int r = s->ref.digest ? by_digest(s, s->ref.digest, &bytes, e) : by_tag(s, &bytes, e);

	if (r == 0) {
		note_top(s, bytes.digest);
		*ret = bytes;
	}
	return r;
}

static int store_manifest(struct oci_store *store, const struct oci_descriptor *d,
	struct oci_bytes *ret, struct err *e)
{
	struct oci_bytes bytes = { 0 };
	int r = by_digest(of(store), d->blob.digest, &bytes, e);

	if (r == 0) {
		*ret = bytes;
	}
	return r;
}

static int store_config(struct oci_store *store, const struct source_blob *b, char **ret,
	size_t *ret_len, struct err *e)
{
	struct registry_store *s = of(store);
	struct oci_bytes bytes = { 0 };
	int r;

	if (recall_manifest(s, b->digest, &bytes)) {
		*ret = bytes.data;
		*ret_len = bytes.len;
		return 0;
	}
	r = registry_blob_get(s->registry, b, CONFIG_MAX, ret, ret_len, e);
	if (r == 0) {
		snprintf(bytes.digest, sizeof(bytes.digest), "%.135s", b->digest);
		bytes.data = *ret;
		bytes.len = *ret_len;
		remember_manifest(s, &bytes);
	}
	return r;
}

/* A blob of which bytes are here need not be asked for, once it is known that there are ranges of
 * it. */
static int store_blob(struct oci_store *store, const struct source_blob *b, size_t layer,
	enum source_here here, struct image **ret, struct err *e)
{
	struct registry_store *s = of(store);
	bool skip = here == SOURCE_HERE_ALL ||
		    (here == SOURCE_HERE_SOME && (s->ranges || s->store.unconfirmed));
	int r = registry_blob_open(s->registry, b, skip, ret, e);

	(void)layer;

	if (r == 0 && !skip && s->ranges != !((*ret)->flags & IMAGE_SEQUENTIAL)) {
		s->ranges = !s->ranges;
		s->changed = true;
	}
	if (r == 0) {
		remember(s);
	}
	return r;
}

static void store_opened(struct oci_store *store)
{
	remember(of(store));
}

static char *store_account(struct oci_store *store)
{
	return registry_account(of(store)->registry);
}

static char *store_warning(struct oci_store *store)
{
	return registry_warning(of(store)->registry);
}

static char *store_origin(struct oci_store *store)
{
	return registry_origin(of(store)->registry);
}

static void store_free(struct oci_store *store)
{
	struct registry_store *s = of(store);

	registry_close(s->registry);
	registry_ref_clear(&s->ref);
	json_decref(s->known);
	free(s);
}

static const struct oci_store_ops store_ops = {
	.top = store_top,
	.manifest = store_manifest,
	.config = store_config,
	.blob = store_blob,
	.opened = store_opened,
	.account = store_account,
	.warning = store_warning,
	.origin = store_origin,
	.free = store_free,
};

int registry_store_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct oci_store **ret, struct err *e)
{
	struct registry_store *s = calloc(1, sizeof(*s));
	struct registry_known known;
	int r;

	if (!s) {
		return no_memory(e);
	}
	s->store.ops = &store_ops;
	s->records = opts->records;
	r = registry_ref_parse(spec, &s->ref, e);
	if (r == 0) {
		recall(s);
		known = (struct registry_known){
			.reached = json_is_boolean(json_object_get(s->known, "plain")),
			.plain = json_is_true(json_object_get(s->known, "plain")),
			.realm = json_text_get(s->known, "realm"),
			.service = json_text_get(s->known, "service"),
		};
		s->changed = s->known && !known.reached;
		r = registry_open(net, &s->ref, opts, &known, &s->registry, e);
	}
	if (r < 0) {
		store_free(&s->store);
		return r;
	}
	*ret = &s->store;
	return 0;
}
