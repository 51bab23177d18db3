/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests as registries write them: "sha256:" or "sha512:" and lower-case hex (OCI image
 * specification, descriptor.md, "Digests"). What passed oci_digest_check() is safe in a URL and in
 * a path.
 */
#ifndef SOURCES_OCI_DIGEST_H
#define SOURCES_OCI_DIGEST_H

#include <stddef.h>

#include "core/err.h"

#define OCI_DIGEST_MAX 136U /* with its NUL */

/* -EINVAL: it is none, or of another kind. */
int oci_digest_check(const char *digest, struct err *e);

/* Whether the @len bytes of @data are those of @digest, which is one. -ENOKEY names @what. */
int oci_digest_verify(
	const char *digest, const void *data, size_t len, const char *what, struct err *e);

/* Their sha256 digest. -ENOMEM. */
int oci_digest_make(const void *data, size_t len, char ret[OCI_DIGEST_MAX], struct err *e);

#endif
