/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kubernetes manifests, as people already have them: files of YAML or JSON become a list of
 * objects.
 *
 *   manifest.c          files -> objects: kinds, namespaces, names; lists and templates flattened
 *   manifest_spec.c     a DataVolume -> what it asks for
 *   manifest_pv.c       which PersistentVolume serves which DataVolume
 *   manifest_resolve.c  what it asks for + Secrets, ConfigMaps, volumes -> what is to be done
 *
 * What was read belongs to struct manifest; everything else borrows from it. An error is one line,
 * "FILE:LINE: spec.source.http.url: ...", and never quotes a value of a Secret.
 */
#ifndef TOOLS_MANIFEST_H
#define TOOLS_MANIFEST_H

#include <stddef.h>

#include "core/err.h"
#include "tools/yamltree.h"

enum manifest_kind {
	MANIFEST_DATA_VOLUME, /* standalone, or a template of a VirtualMachine */
	MANIFEST_SECRET,
	MANIFEST_CONFIG_MAP,
	MANIFEST_PV,
	MANIFEST_PVC,
};

struct manifest_object {
	enum manifest_kind kind;
	const char *file;
	unsigned int line;
	const char *ns;   /* "" for a PersistentVolume, which has none */
	const char *name; /* a DNS subdomain */
	const struct yamltree_node *root;
};

struct manifest {
	struct manifest_object *objects; /* in the order of the files */
	size_t count;

	/* owned storage of the above */
	struct manifest_file *files;
	size_t file_count;
};

/* Reads all of @paths. -EINVAL: a file that is not YAML, an object without a proper name, two of
 * the same kind and name. Objects of other kinds are passed over. @ret is changed on success only.
 */
int manifest_load(char *const *paths, size_t count, struct manifest *ret, struct err *e);

/* As manifest_load(), from memory; @path is for messages and is borrowed. */
int manifest_parse(
	const char *path, const char *text, size_t len, struct manifest *ret, struct err *e);

/* Wipes and frees. */
void manifest_clear(struct manifest *m);

/* NULL: there is no such object. */
const struct manifest_object *manifest_find(
	const struct manifest *m, enum manifest_kind kind, const char *ns, const char *name);

/* "FILE:LINE: FIELD: ..." with the line of @node, or of the object when @node is NULL; @field may
 * be NULL. Returns @code. */
int manifest_error(struct err *e, int code, const struct manifest_object *object,
	const struct yamltree_node *node, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* The same as a warning. */
void manifest_warn(const struct manifest_object *object, const struct yamltree_node *node,
	const char *field, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
