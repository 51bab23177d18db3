/* SPDX-License-Identifier: Apache-2.0 */
/* Files to objects. */
#include "tools/manifest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/rw.h"
#include "tools/kube_name.h"

/* A List may hold Lists. */
#define LIST_DEPTH_MAX 8
#define OBJECTS_MAX    4096

struct manifest_file {
	const char *path; /* borrowed */
	struct yamltree tree;
};

/* The kinds that mean something here. An apiVersion is GROUP/VERSION, or VERSION for the core. */
static const struct {
	const char *kind;
	const char *group;
	enum manifest_kind value;
} kinds[] = {
	{ "DataVolume", "cdi.kubevirt.io", MANIFEST_DATA_VOLUME },
	{ "Secret", "", MANIFEST_SECRET },
	{ "ConfigMap", "", MANIFEST_CONFIG_MAP },
	{ "PersistentVolume", "", MANIFEST_PV },
	{ "PersistentVolumeClaim", "", MANIFEST_PVC },
};

/* Where the objects of a List are that have not been looked at. */
struct level {
	const struct yamltree_node *items;
	size_t next;
};

__attribute__((format(printf, 6, 0))) static void say(char *buf, size_t size,
	const struct manifest_object *object, const struct yamltree_node *node, const char *field,
	const char *fmt, va_list ap)
{
	int n = snprintf(buf, size, "%s:%u: %s%s", object->file, node ? node->line : object->line,
		field ? field : "", field ? ": " : "");

	if (n >= 0 && (size_t)n < size) {
		vsnprintf(buf + n, size - (size_t)n, fmt, ap);
	}
}

int manifest_error(struct err *e, int code, const struct manifest_object *object,
	const struct yamltree_node *node, const char *field, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	say(text, sizeof(text), object, node, field, fmt, ap);
	va_end(ap);
	return err_set(e, code, "%s", text);
}

void manifest_warn(const struct manifest_object *object, const struct yamltree_node *node,
	const char *field, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	say(text, sizeof(text), object, node, field, fmt, ap);
	va_end(ap);
	log_warn("%s", text);
}

static bool is_group(const char *api_version, const char *group)
{
	size_t len = strlen(group);

	if (!api_version) {
		return true;
	}
	return len ? strncmp(api_version, group, len) == 0 && api_version[len] == '/'
		   : !strchr(api_version, '/');
}

static int check_name(const struct manifest_object *o, const struct yamltree_node *metadata,
	const char *field, const char *text, bool label, struct err *e)
{
	const char *key = strrchr(field, '.') + 1;
	const struct yamltree_node *node = yamltree_get(metadata, key);
	size_t len = text ? strlen(text) : 0;

	if (!text) {
		return manifest_error(e, -EINVAL, o, node ? node : metadata, field,
			node ? "is not a name" : "is missing");
	}
	if (label ? kube_name_is_label(text) : kube_name_is_subdomain(text)) {
		return 0;
	}
	if (len > 2 && text[0] == '<' && text[len - 1] == '>') {
		return manifest_error(e, -EINVAL, o, node, field,
			"'%s' is a placeholder: put a name of your own there", text);
	}
	return manifest_error(e, -EINVAL, o, node, field,
		"'%s' is not a name: lower case letters, digits, '-'%s", text,
		label ? "" : " and '.'");
}

/* Fills in the names of @o from its metadata. @ns: where it lies when it does not say so. */
static int read_metadata(struct manifest_object *o, const char *ns, struct err *e)
{
	const struct yamltree_node *metadata = yamltree_get(o->root, "metadata");
	const struct yamltree_node *own = yamltree_get(metadata, "namespace");
	int r;

	o->name = yamltree_text(yamltree_get(metadata, "name"));
	o->ns = own && o->kind != MANIFEST_PV ? yamltree_text(own) : ns;
	r = check_name(o, metadata, "metadata.name", o->name, false, e);
	if (r < 0 || o->kind == MANIFEST_PV) {
		o->ns = "";
		return r;
	}
	/* An empty one is the default, as for the server. */
	if (o->ns && !*o->ns) {
		o->ns = ns;
	}
	return check_name(o, metadata, "metadata.namespace", o->ns, true, e);
}

static int add_object(struct manifest *m, const struct manifest_object *o, struct err *e)
{
	const struct manifest_object *same = manifest_find(m, o->kind, o->ns, o->name);
	struct manifest_object *more;

	if (same) {
		return manifest_error(e, -EINVAL, o, NULL, "metadata.name",
			"there is another %s at %s:%u", o->name, same->file, same->line);
	}
	if (m->count == OBJECTS_MAX) {
		return manifest_error(e, -EINVAL, o, NULL, NULL, "too many objects");
	}
	more = reallocarray(m->objects, m->count + 1, sizeof(*more));
	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	m->objects = more;
	more[m->count++] = *o;
	return 0;
}

/* Each dataVolumeTemplate is a DataVolume, in the machine's namespace. */
static int add_machine(struct manifest *m, struct manifest_object *machine, struct err *e)
{
	const struct yamltree_node *spec = yamltree_get(machine->root, "spec");
	const struct yamltree_node *templates = yamltree_get(spec, "dataVolumeTemplates");
	int r = read_metadata(machine, "default", e);

	if (r == 0 && templates && templates->kind != YAMLTREE_LIST) {
		r = manifest_error(e, -EINVAL, machine, templates, "spec.dataVolumeTemplates",
			"is not a list");
	}
	for (size_t i = 0; r == 0 && templates && i < templates->count; i++) {
		struct manifest_object o = {
			.kind = MANIFEST_DATA_VOLUME,
			.file = machine->file,
			.line = templates->items[i]->line,
			.root = templates->items[i],
		};

		r = read_metadata(&o, machine->ns, e);
		if (r == 0) {
			r = add_object(m, &o, e);
		}
	}
	return r;
}

static int add_document(struct manifest *m, const char *file, const struct yamltree_node *root,
	const char *kind, struct err *e)
{
	const char *version = yamltree_text(yamltree_get(root, "apiVersion"));
	struct manifest_object o = { .file = file, .line = root->line, .root = root };

	if (strcmp(kind, "VirtualMachine") == 0 && is_group(version, "kubevirt.io")) {
		return add_machine(m, &o, e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kind, kinds[i].kind) == 0 && is_group(version, kinds[i].group)) {
			int r;

			o.kind = kinds[i].value;
			r = read_metadata(&o, "default", e);
			return r < 0 ? r : add_object(m, &o, e);
		}
	}
	log_debug("%s:%u: objects of this kind are not used: %s", file, root->line, kind);
	return 0;
}

/* "List", "SecretList" and the like are their items. */
static bool is_list(const struct yamltree_node *root, const char *kind)
{
	size_t len = strlen(kind);
	const struct yamltree_node *items = yamltree_get(root, "items");

	return len >= 4 && strcmp(kind + len - 4, "List") == 0 && items &&
	       items->kind == YAMLTREE_LIST;
}

static int add_root(struct manifest *m, const char *file, const struct yamltree_node *root,
	struct level *levels, unsigned int *depth, struct err *e)
{
	const char *kind = yamltree_text(yamltree_get(root, "kind"));

	if (!kind) {
		return err_set(e, -EINVAL, "%s:%u: not a manifest: no kind", file, root->line);
	}
	if (!is_list(root, kind)) {
		return add_document(m, file, root, kind, e);
	}
	if (*depth == LIST_DEPTH_MAX) {
		return err_set(e, -EINVAL, "%s:%u: lists are nested too deeply", file, root->line);
	}
	levels[(*depth)++] = (struct level){ yamltree_get(root, "items"), 0 };
	return 0;
}

/* The objects that @root is or lists. Aliases can make a few lists into very many objects, most of
 * which are of no use and leave no trace: those are counted, too. */
static int add_all(
	struct manifest *m, const char *file, const struct yamltree_node *root, struct err *e)
{
	struct level levels[LIST_DEPTH_MAX];
	unsigned int depth = 0;
	unsigned int seen = 0;
	int r = add_root(m, file, root, levels, &depth, e);

	while (r == 0 && depth > 0) {
		struct level *level = &levels[depth - 1];

		if (level->next == level->items->count) {
			depth--;
		} else if (++seen > OBJECTS_MAX) {
			r = err_set(e, -EINVAL, "%s:%u: too many objects", file, root->line);
		} else {
			r = add_root(
				m, file, level->items->items[level->next++], levels, &depth, e);
		}
	}
	return r;
}

static int add_text(
	struct manifest *m, const char *path, const char *text, size_t len, struct err *e)
{
	struct manifest_file *more = reallocarray(m->files, m->file_count + 1, sizeof(*more));
	struct yamltree *tree;
	int r;

	if (!more) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	m->files = more;
	more[m->file_count] = (struct manifest_file){ .path = path };
	tree = &more[m->file_count].tree;
	r = yamltree_parse(path, text, len, tree, e);
	if (r < 0) {
		return r;
	}
	m->file_count++;
	for (size_t i = 0; r == 0 && i < tree->count; i++) {
		r = add_all(m, path, tree->documents[i], e);
	}
	return r;
}

static int add_file(struct manifest *m, const char *path, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	int r = rw_read_file(path, YAMLTREE_SIZE_MAX, &text, &len, e);

	if (r < 0) {
		return r;
	}
	r = add_text(m, path, text, len, e);
	explicit_bzero(text, len);
	free(text);
	return r;
}

int manifest_load(char *const *paths, size_t count, struct manifest *ret, struct err *e)
{
	struct manifest m = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = add_file(&m, paths[i], e);
	}
	if (r < 0) {
		manifest_clear(&m);
		return r;
	}
	*ret = m;
	return 0;
}

int manifest_parse(
	const char *path, const char *text, size_t len, struct manifest *ret, struct err *e)
{
	struct manifest m = { 0 };
	int r = add_text(&m, path, text, len, e);

	if (r < 0) {
		manifest_clear(&m);
		return r;
	}
	*ret = m;
	return 0;
}

void manifest_clear(struct manifest *m)
{
	for (size_t i = 0; i < m->file_count; i++) {
		yamltree_clear(&m->files[i].tree);
	}
	free(m->files);
	free(m->objects);
	*m = (struct manifest){ 0 };
}

const struct manifest_object *manifest_find(
	const struct manifest *m, enum manifest_kind kind, const char *ns, const char *name)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct manifest_object *o = &m->objects[i];

		if (o->kind == kind && strcmp(o->name, name) == 0 && strcmp(o->ns, ns) == 0) {
			return o;
		}
	}
	return NULL;
}
