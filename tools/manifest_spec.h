/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a DataVolume, a PersistentVolumeClaim and a PersistentVolume say, field by field. Pure.
 * Fields that are not known are ignored; one that is known and cannot be used is an error.
 *
 * References: cdi.kubevirt.io/v1beta1 (DataVolume), v1 (PersistentVolume, PersistentVolumeClaim).
 */
#ifndef TOOLS_MANIFEST_SPEC_H
#define TOOLS_MANIFEST_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/manifest.h"

enum manifest_source {
	MANIFEST_SOURCE_HTTP,
	MANIFEST_SOURCE_REGISTRY,
	MANIFEST_SOURCE_PVC,   /* a clone of another volume */
	MANIFEST_SOURCE_BLANK, /* an empty disk */
};

enum manifest_choice {
	MANIFEST_UNSET,
	MANIFEST_NO,
	MANIFEST_YES,
};

/* What is asked of storage: of a DataVolume's `storage` or `pvc`, or of a claim's spec. */
struct manifest_claim {
	const struct yamltree_node *node; /* where it stands, for messages */
	uint64_t size;                    /* bytes; 0: not said */
	bool block;
	const char *storage_class; /* NULL: not said */
	const char *volume_name;   /* of a PersistentVolume; NULL: not said */
};

/* Nodes are NULL where nothing is said; an empty string says nothing. */
struct manifest_spec {
	enum manifest_source source;
	const struct yamltree_node *source_node;

	const char *source_name; /* "http", "registry": what it is called there */
	const char *url;         /* http:// or https://, of a registry docker:// or oci-archive: */
	const struct yamltree_node *secret_ref;
	const struct yamltree_node *cert_config_map;
	const struct yamltree_node *extra_headers;        /* a list of headers, checked */
	const struct yamltree_node *secret_extra_headers; /* a list of names */
	const char *checksum;
	bool insecure;
	const char *architecture; /* of a registry's image; NULL: this machine's */

	const char *clone_ns;
	const char *clone_name;

	struct manifest_claim claim;
	enum manifest_choice preallocation;
};

/* -EINVAL: a field is wrong; -ENOTSUP: it asks for what this version cannot do. @ret changes on
 * success only. A field that the documentation's examples have in a wrong place is taken from
 * there, with a warning. */
int manifest_spec_read(
	const struct manifest_object *volume, struct manifest_spec *ret, struct err *e);

/* @object is a PersistentVolumeClaim. */
int manifest_claim_read(
	const struct manifest_object *object, struct manifest_claim *ret, struct err *e);

struct manifest_pv {
	const struct manifest_object *object;
	const char *path; /* local.path or hostPath.path: a device, or a directory; NULL: neither */
	uint64_t capacity;
	bool block;
	const char *storage_class; /* NULL: none */
	const char *claim_ns;      /* of claimRef; NULL: anybody may claim it */
	const char *claim_name;
};

int manifest_pv_read(const struct manifest_object *object, struct manifest_pv *ret, struct err *e);

#endif
