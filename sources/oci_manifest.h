/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests: OCI image index and manifest (image specification 1.1), Docker manifest list and image
 * manifest V2 schema 2. Pure: from bytes to descriptors, within limits. What a manifest says it is
 * must fit what it holds and the media type that it came with; older tools write no `mediaType`,
 * and some servers send any Content-Type: then what it holds decides.
 */
#ifndef SOURCES_OCI_MANIFEST_H
#define SOURCES_OCI_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "sources/source.h"

#define OCI_MANIFEST_MAX 4194304U
#define OCI_LAYERS_MAX   512U

#define OCI_TYPE_INDEX    "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define OCI_TYPE_SCHEMA2  "application/vnd.docker.distribution.manifest.v2+json"

/* What a registry is asked for; it answers "unknown" where it has another kind. */
#define OCI_ACCEPT                                                                                 \
	OCI_TYPE_INDEX ", " OCI_TYPE_LIST ", " OCI_TYPE_MANIFEST ", " OCI_TYPE_SCHEMA2             \
		       ", application/vnd.docker.distribution.manifest.v1+prettyjws"               \
		       ", application/vnd.oci.artifact.manifest.v1+json"

/* A descriptor. Texts are borrowed from the JSON, "" where there are none. */
struct oci_descriptor {
	struct source_blob blob;
	const char *data; /* its bytes, inline, as base64; NULL without */
	const char *os;   /* of an index's entry */
	const char *architecture;
	const char *variant;
};

struct oci_manifest {
	json_t *root;
	bool is_index;
	const char *media_type;
	const char *artifact_type;
	struct oci_descriptor config; /* digest "" without */
	struct oci_descriptor *items; /* of an index its entries, else the layers, base first */
	size_t count;
};

/* @media_type: what the server or the descriptor says, "" for nothing. -EBADMSG: not a manifest;
 * -ENOTSUP: of a kind that is refused, by name. @what is for messages. */
int oci_manifest_parse(const char *what, const void *data, size_t len, const char *media_type,
	struct oci_manifest *ret, struct err *e);
void oci_manifest_clear(struct oci_manifest *m);

#endif
