/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A repository of a registry, by the distribution specification 1.1 (/v2/): manifests as documents,
 * blobs as images. HTTPS; plain HTTP where the user allows it (insecure) or it leads nowhere else
 * (loopback), and only when what answers does not speak TLS.
 */
#ifndef SOURCES_REGISTRY_H
#define SOURCES_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/image.h"
#include "sources/http_headers.h"
#include "sources/oci_digest.h"
#include "sources/registry_ref.h"
#include "sources/source.h"

struct registry;

/* What was learned of it before; borrowed. NULL or false: nothing. */
struct registry_known {
	bool reached; /* it was, by plain HTTP or not */
	bool plain;   /* it speaks plain HTTP; counts only where that is allowed */
	const char *realm;
	const char *service;
};

/* Asks nobody yet. @known may be NULL. */
int registry_open(struct net *net, const struct registry_ref *ref, const struct source_opts *opts,
	const struct registry_known *known, struct registry **ret, struct err *e);
/* Its blobs live on. NULL is nothing. */
void registry_close(struct registry *reg);

struct registry_manifest {
	char *data; /* owned */
	size_t len;
	char type[HTTP_TYPE_MAX];    /* Content-Type */
	char digest[OCI_DIGEST_MAX]; /* of the bytes; of a HEAD what the server says, "" for nothing
				      */
};

/* @which: a tag or a digest. Bytes that are not those of their digest are -ENOKEY. *ret_temporary
 * (after a failure): it may pass. */
int registry_manifest_get(struct registry *reg, const char *which, bool is_known,
	struct registry_manifest *ret, bool *ret_temporary, struct err *e);

/* Only the digest, as the server says it. */
int registry_manifest_head(struct registry *reg, const char *which, struct registry_manifest *ret,
	bool *ret_temporary, struct err *e);
void registry_manifest_clear(struct registry_manifest *m);

/* The whole of a small blob, verified; *ret is malloc()ed. -EBADMSG: larger than @limit. */
int registry_blob_get(struct registry *reg, const struct source_blob *blob, size_t limit,
	char **ret, size_t *ret_len, struct err *e);

/* Who it is, with what is known of that: "https://host", "http://host", "https://host,unverified";
 * without a blank. malloc()ed, NULL without memory. Asks where it is not clear whether it speaks
 * TLS. */
char *registry_origin(struct registry *reg);

int registry_blob_open(struct registry *reg, const struct source_blob *blob, bool known,
	struct image **ret, struct err *e);

/* What to remember; the strings are malloc()ed. */
bool registry_is_plain(const struct registry *reg);
/* Whether that is known: before anybody answered it is a guess, and no thing to remember. */
bool registry_has_answered(const struct registry *reg);
bool registry_challenge_known(struct registry *reg, char **ret_realm, char **ret_service);
char *registry_account(struct registry *reg);
char *registry_warning(struct registry *reg);

#endif
