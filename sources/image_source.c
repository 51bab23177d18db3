/* SPDX-License-Identifier: Apache-2.0 */
/* From a reference to a manifest for the platform, and its layers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base64.h"
#include "core/cleanup.h"
#include "sources/blob_facts.h"
#include "sources/json_text.h"
#include "sources/memory_image.h"
#include "sources/oci_manifest.h"
#include "sources/oci_platform.h"
#include "sources/oci_store.h"
#include "sources/source.h"

/* An index may name an index; so deep nobody nests them. */
#define INDEXES_MAX 3U
#define INLINE_MAX  4194304U

struct source_image {
	struct oci_store *store;
	struct oci_manifest manifest;
	struct source_facts facts;
	struct source_blob *layers;
	json_t *config; /* NULL: not read */
	char *reference;
	char *account;
	char *warning;
	char *origin;
	char digest[OCI_DIGEST_MAX];
	char platform[100];
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int open_store(struct net *net, const char *spec, const struct source_opts *opts,
	struct oci_store **ret, struct err *e)
{
	if (strncasecmp(spec, "docker://", 9) == 0) {
		return registry_store_open(net, spec, opts, ret, e);
	}
	if (strncasecmp(spec, "oci:", 4) == 0) {
		return oci_layout_open(spec, opts, ret, e);
	}
	if (!opts->archive) {
		return err_set(e, -ENOTSUP, "%s: archives cannot be read here", spec);
	}
	return strncasecmp(spec, "oci-archive:", 12) == 0 ? oci_layout_open(spec, opts, ret, e)
							  : docker_archive_open(spec, opts, ret, e);
}

/* --- the config --- */

static int decode_inline(const char *what, const struct oci_descriptor *d, char **ret,
	size_t *ret_len, struct err *e)
{
	size_t len = 0;
	char *data = base64_decode(d->data, &len);
	int r;

	if (!data) {
		return err_set(e, -EBADMSG, "%s: inline data is not base64", what);
	}
	r = len == d->blob.size && len <= INLINE_MAX
		    ? oci_digest_verify(d->blob.digest, data, len, what, e)
		    : err_set(e, -EBADMSG, "%s: inline data is not of the size it should have",
			      what);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret = data;
	*ret_len = len;
	return 0;
}

/* An artifact's config may be anything; only an object says something to us. */
static int read_config(struct source_image *s, struct err *e)
{
	CLEANUP_FREE char *data = NULL;
	const struct oci_descriptor *d = &s->manifest.config;
	size_t len = 0;
	int r;

	if (s->config) {
		return 0;
	}
	if (!*d->blob.digest && !s->store->ops->list) {
		s->config = json_object();
		return s->config ? 0 : no_memory(e);
	}
	r = d->data ? decode_inline(s->reference, d, &data, &len, e)
		    : s->store->ops->config(s->store, &d->blob, &data, &len, e);
	if (r < 0) {
		return r;
	}
	if (json_text_parse(s->reference, data, len, &s->config, NULL) < 0) {
		s->config = json_object();
	}
	return s->config ? 0 : no_memory(e);
}

int source_image_label(struct source_image *s, const char *name, char **ret, struct err *e)
{
	const json_t *config;
	const char *text;
	int r = read_config(s, e);

	if (r < 0) {
		return r;
	}
	config = json_object_get(s->config, "config");
	text = json_text_get(json_object_get(config, "Labels"), name);
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? no_memory(e) : 0;
}

/* --- the manifest --- */

static int take_manifest(struct source_image *s, const struct oci_bytes *bytes, struct err *e)
{
	struct oci_manifest m;
	int r = oci_manifest_parse(s->reference, bytes->data, bytes->len, bytes->type, &m, e);

	if (r < 0) {
		return r;
	}
	oci_manifest_clear(&s->manifest);
	s->manifest = m;
	memcpy(s->digest, bytes->digest, sizeof(s->digest));
	return 0;
}

static int read_entry(struct source_image *s, const struct oci_descriptor *d, struct oci_bytes *ret,
	struct err *e)
{
	int r;

	if (!d->data) {
		r = s->store->ops->manifest(s->store, d, ret, e);
	} else {
		r = decode_inline(s->reference, d, &ret->data, &ret->len, e);
		snprintf(ret->type, sizeof(ret->type), "%.255s", d->blob.media_type);
		snprintf(ret->digest, sizeof(ret->digest), "%.135s", d->blob.digest);
	}
	if (r == 0 && ret->len != d->blob.size) {
		free(ret->data);
		r = err_set(e, -EBADMSG, "%s: a manifest has %zu bytes, but %llu by its index",
			s->reference, ret->len, (unsigned long long)d->blob.size);
	}
	return r;
}

/* From an index to the manifest for the platform. */
static int descend(struct source_image *s, const struct oci_platform *platform, struct err *e)
{
	struct oci_bytes bytes = { 0 };
	const struct oci_descriptor *d;
	struct oci_platform is = { 0 };
	size_t i = 0;
	int r = oci_platform_choose(s->reference, &s->manifest, platform, &i, e);

	if (r < 0) {
		return r;
	}
	d = &s->manifest.items[i];
	if (*d->architecture) {
		snprintf(is.os, sizeof(is.os), "%.31s", d->os);
		snprintf(is.architecture, sizeof(is.architecture), "%.31s", d->architecture);
		snprintf(is.variant, sizeof(is.variant), "%.31s", d->variant);
		oci_platform_print(&is, s->platform, sizeof(s->platform));
	}
	r = read_entry(s, d, &bytes, e);
	if (r == 0) {
		r = take_manifest(s, &bytes, e);
		free(bytes.data);
	}
	return r;
}

/* An image that is not one of an index says in its config what it is for. */
static int check_architecture(
	struct source_image *s, const struct oci_platform *platform, struct err *e)
{
	const char *architecture;
	int r = read_config(s, e);

	if (r < 0) {
		return r;
	}
	architecture = json_text_get(s->config, "architecture");
	if (architecture && *architecture &&
		!oci_platform_has_architecture(platform, architecture)) {
		return err_set(e, -ENOENT,
			"%s: there is no image for %s/%s; it is one for %.40s: choose with --platform",
			s->reference, platform->os, platform->architecture, architecture);
	}
	return 0;
}

static int read_manifest(struct source_image *s, const struct source_opts *opts, struct err *e)
{
	struct oci_platform platform;
	struct oci_bytes top = { 0 };
	int r = oci_platform_parse(opts->platform, &platform, e);

	if (r < 0) {
		return err_wrap(e, r, "--platform");
	}
	if (s->store->ops->list) {
		r = s->store->ops->list(s->store, &s->manifest, e);
	} else {
		r = s->store->ops->top(s->store, &top, e);
		if (r == 0) {
			r = take_manifest(s, &top, e);
			free(top.data);
		}
	}
	for (unsigned int depth = 0; r == 0 && s->manifest.is_index; depth++) {
		r = depth < INDEXES_MAX
			    ? descend(s, &platform, e)
			    : err_set(e, -EBADMSG, "%s: indexes within indexes, without end",
				      s->reference);
	}
	if (r == 0 && opts->platform && !*s->platform) {
		r = check_architecture(s, &platform, e);
	}
	return r;
}

static int list_layers(struct source_image *s, struct err *e)
{
	s->layers = calloc(s->manifest.count + 1, sizeof(*s->layers));
	if (!s->layers) {
		return no_memory(e);
	}
	for (size_t i = 0; i < s->manifest.count; i++) {
		s->layers[i] = s->manifest.items[i].blob;
	}
	return 0;
}

static int fill_facts(struct source_image *s, struct err *e)
{
	const struct oci_store_ops *ops = s->store->ops;

	s->account = ops->account ? ops->account(s->store) : strdup("");
	s->warning = ops->warning ? ops->warning(s->store) : strdup("");
	s->origin = ops->origin ? ops->origin(s->store) : strdup("");
	if (!s->account || !s->warning || !s->origin) {
		return no_memory(e);
	}
	s->facts = (struct source_facts){
		.reference = s->reference,
		.digest = s->digest,
		.media_type = s->manifest.media_type,
		.artifact_type = s->manifest.artifact_type,
		.config_type = s->manifest.config.blob.media_type,
		.platform = s->platform,
		.account = s->account,
		.warning = s->warning,
		.origin = s->origin,
		.unconfirmed = s->store->unconfirmed,
		.layers = s->layers,
		.layer_count = s->manifest.count,
	};
	return 0;
}

int source_image_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct source_image **ret, struct err *e)
{
	static const struct source_opts defaults;
	struct source_image *s = calloc(1, sizeof(*s));
	int r;

	opts = opts ? opts : &defaults;
	if (!s) {
		return no_memory(e);
	}
	r = source_key(spec, &s->reference, e);
	if (r == 0) {
		r = open_store(net, spec, opts, &s->store, e);
	}
	if (r == 0) {
		r = read_manifest(s, opts, e);
	}
	if (r == 0) {
		r = list_layers(s, e);
	}
	if (r == 0) {
		r = fill_facts(s, e);
	}
	if (r < 0) {
		source_image_close(s);
		return r;
	}
	if (s->store->ops->opened) {
		s->store->ops->opened(s->store);
	}
	*ret = s;
	return 0;
}

const struct source_facts *source_image_facts(const struct source_image *s)
{
	return &s->facts;
}

static int open_inline(
	struct source_image *s, const struct oci_descriptor *d, struct image **ret, struct err *e)
{
	char *data = NULL;
	size_t len = 0;
	int r = decode_inline(s->reference, d, &data, &len, e);

	if (r == 0) {
		r = memory_image_open(data, len, d->blob.digest, ret, e);
		if (r < 0) {
			free(data);
		}
	}
	return r;
}

int source_image_blob_open(struct source_image *s, size_t layer, const char *id,
	enum source_here here, struct image **ret, struct err *e)
{
	CLEANUP(image_closep) struct image *blob = NULL;
	const struct oci_descriptor *d = &s->manifest.items[layer];
	int r = d->data ? open_inline(s, d, &blob, e)
			: s->store->ops->blob(s->store, &d->blob, layer, here, &blob, e);

	if (r == 0) {
		r = blob_facts_open(blob, &s->facts, layer, id, ret, e);
	}
	if (r == 0) {
		TAKE_PTR(blob);
	}
	return r;
}

void source_image_close(struct source_image *s)
{
	if (!s) {
		return;
	}
	if (s->store) {
		s->store->ops->free(s->store);
	}
	oci_manifest_clear(&s->manifest);
	json_decref(s->config);
	free(s->layers);
	free(s->reference);
	free(s->account);
	free(s->warning);
	free(s->origin);
	free(s);
}
