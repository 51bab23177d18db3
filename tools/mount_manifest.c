/* SPDX-License-Identifier: Apache-2.0 */
/* DataVolumes as sources of a mount. */
#include "tools/mount_manifest.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tools/manifest_stack.h"

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static bool is_unique(const struct manifest *m, const struct manifest_object *object)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct manifest_object *o = &m->objects[i];

		if (o != object && o->kind == MANIFEST_DATA_VOLUME &&
			strcmp(o->name, object->name) == 0) {
			return false;
		}
	}
	return true;
}

static char *name_of(const struct manifest *m, const struct manifest_object *o)
{
	char *name = NULL;

	if (is_unique(m, o)) {
		return strdup(o->name);
	}
	return asprintf(&name, "%s.%s", o->ns, o->name) < 0 ? NULL : name;
}

static int add_volume(struct mount_manifest *m, const struct manifest_object *o, struct err *e)
{
	struct manifest_access *access = &m->access[m->count];
	struct manifest_spec spec;
	struct err why;
	int r = manifest_spec_read(o, &spec, &why);

	if (r == -ENOTSUP) {
		log_warn("%s; it is not shown", why.text);
		return 0;
	}
	if (r < 0) {
		return err_set(e, r, "%s", why.text);
	}
	if (spec.source != MANIFEST_SOURCE_HTTP && spec.source != MANIFEST_SOURCE_REGISTRY) {
		manifest_warn(o, spec.source_node, "spec.source",
			"only http and registry sources can be mounted; %s/%s is not shown", o->ns,
			o->name);
		return 0;
	}
	r = manifest_resolve(&m->manifest, o, &spec, access, e);
	if (r < 0) {
		return r;
	}
	m->stack[m->count] = manifest_stack_access(&spec, access);
	m->sources[m->count] = (char *)(uintptr_t)spec.url;
	m->names[m->count] = name_of(&m->manifest, o);
	return m->names[m->count++] ? 0 : out_of_memory(e);
}

int mount_manifest_load(const struct options *o, struct mount_manifest *ret, struct err *e)
{
	size_t room;
	int r = manifest_load(o->manifests, o->manifest_count, &ret->manifest, e);

	if (r < 0) {
		return r;
	}
	room = ret->manifest.count + 1;
	ret->access = calloc(room, sizeof(*ret->access));
	ret->stack = calloc(room, sizeof(*ret->stack));
	ret->sources = calloc(room, sizeof(*ret->sources));
	ret->names = calloc(room, sizeof(*ret->names));
	if (!ret->access || !ret->stack || !ret->sources || !ret->names) {
		return out_of_memory(e);
	}
	for (size_t i = 0; r == 0 && i < ret->manifest.count; i++) {
		if (ret->manifest.objects[i].kind == MANIFEST_DATA_VOLUME) {
			r = add_volume(ret, &ret->manifest.objects[i], e);
		}
	}
	if (r == 0 && ret->count == 0) {
		r = err_set(e, -EINVAL, "there is no DataVolume in the manifests to mount");
	}
	return r;
}

void mount_manifest_clear(struct mount_manifest *m)
{
	for (size_t i = 0; i < m->count; i++) {
		manifest_access_clear(&m->access[i]);
		free(m->names[i]);
	}
	free(m->access);
	free(m->stack);
	free(m->sources);
	free(m->names);
	manifest_clear(&m->manifest);
	*m = (struct mount_manifest){ 0 };
}
