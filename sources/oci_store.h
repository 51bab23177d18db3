/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the parts of an image are: a registry, a layout in a directory or in an archive. Each
 * embeds struct oci_store as its first member.
 */
#ifndef SOURCES_OCI_STORE_H
#define SOURCES_OCI_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/image.h"
#include "sources/http_headers.h"
#include "sources/oci_digest.h"
#include "sources/oci_manifest.h"

struct oci_store;

/* A manifest's bytes, verified. */
struct oci_bytes {
	char *data; /* owned */
	size_t len;
	char type[HTTP_TYPE_MAX];    /* media type, "" where nobody says */
	char digest[OCI_DIGEST_MAX]; /* of the bytes */
};

struct oci_store_ops {
	/* Where images have no manifest of this kind: what would be in it. NULL: they have, and
	 * the next three read it. */
	int (*list)(struct oci_store *s, struct oci_manifest *ret, struct err *e);

	/* What the reference names: a manifest or an index. */
	int (*top)(struct oci_store *s, struct oci_bytes *ret, struct err *e);

	/* The manifest that an index's entry names. */
	int (*manifest)(struct oci_store *s, const struct oci_descriptor *d, struct oci_bytes *ret,
		struct err *e);

	/* A small blob, verified; *ret is malloc()ed. */
	int (*config)(struct oci_store *s, const struct source_blob *b, char **ret, size_t *ret_len,
		struct err *e);

	/* The layer @b, which is the @layer-th of its manifest. */
	int (*blob)(struct oci_store *s, const struct source_blob *b, size_t layer,
		enum source_here here, struct image **ret, struct err *e);

	/* Everything was read; what was learned may be remembered. NULL: nothing. */
	void (*opened)(struct oci_store *s);

	/* For struct source_facts; malloc()ed, "" for nothing. NULL: nothing. */
	char *(*account)(struct oci_store *s);
	char *(*warning)(struct oci_store *s);
	char *(*origin)(struct oci_store *s);

	void (*free)(struct oci_store *s);
};

struct oci_store {
	const struct oci_store_ops *ops;
	bool unconfirmed; /* what is known from before; nobody could be asked */
};

/* @spec names an image there. */
int registry_store_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct oci_store **ret, struct err *e);
/* Borrows @opts->archive. */
int oci_layout_open(
	const char *spec, const struct source_opts *opts, struct oci_store **ret, struct err *e);

int docker_archive_open(
	const char *spec, const struct source_opts *opts, struct oci_store **ret, struct err *e);

#endif
