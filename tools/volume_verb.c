/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk volume`: create, list, delete local block volumes. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "tools/blockvol.h"
#include "tools/exitcode.h"
#include "tools/json.h"
#include "tools/loopdev.h"
#include "tools/options.h"
#include "tools/render.h"
#include "tools/verb.h"

enum {
	COLUMNS = 6
};

struct action {
	const char *name;
	int args; /* behind the name */
	int (*run)(const struct options *o, struct err *e);
};

static int create(const struct options *o, struct err *e)
{
	struct blockvol_spec spec = {
		.size = o->size,
		.file = o->file,
		.node = o->node,
		.storage_class = o->storage_class,
	};
	struct blockvol v = { 0 };
	bool direct = true;
	int r;

	if (o->name_count != 1 || !o->size_given) {
		return err_set(e, -EINVAL, "volume create needs one --name and a --size");
	}
	spec.name = o->names[0];
	r = blockvol_create(&spec, &v, &direct, e);
	if (r < 0) {
		return r;
	}
	if (!direct) {
		log_warn("%s: its filesystem does not take direct I/O; the volume's pages will be "
			 "in memory twice",
			v.file);
	}
	blockvol_print_manifest(&v, stdout);
	blockvol_clear(&v);
	return 0;
}

static const char *state_of(const struct blockvol *v)
{
	if (v->missing) {
		return "lost";
	}
	if (v->number == LOOPDEV_NONE) {
		return "detached";
	}
	return loopdev_is_claimed(v->number) ? "in use" : "ready";
}

static json_t *to_json(const struct blockvol *v)
{
	char device[LOOPDEV_PATH_MAX];

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", json_text(v->name), "state",
		json_text(state_of(v)), "size", json_u64(v->size), "device",
		v->number == LOOPDEV_NONE ? json_null()
					  : json_text(loopdev_path(v->number, device)),
		"file", json_text(v->file), "storage_class", json_text(v->storage_class), "node",
		json_text(v->node));
}

static int print_json(const struct blockvol *list, size_t count)
{
	json_t *all = json_array();

	for (size_t i = 0; i < count; i++) {
		json_array_append_new(all, to_json(&list[i]));
	}
	return json_print(all, stdout);
}

static int print_table(const struct blockvol *list, size_t count)
{
	static const char *const headings[COLUMNS] = { "NAME", "SIZE", "DEVICE", "STATE", "CLASS",
		"FILE" };
	CLEANUP_FREE const char **cells = calloc((count + 1) * COLUMNS, sizeof(*cells));
	CLEANUP_FREE char(*text)[2][RENDER_MAX] = calloc(count + 1, sizeof(*text));

	if (!cells || !text) {
		return -ENOMEM;
	}
	memcpy(cells, headings, sizeof(headings));
	for (size_t i = 0; i < count; i++) {
		const struct blockvol *v = &list[i];
		const char **row = &cells[(i + 1) * COLUMNS];

		row[0] = v->name;
		row[1] = render_size(v->size, text[i][0]);
		row[2] = v->number == LOOPDEV_NONE ? "-" : loopdev_path(v->number, text[i][1]);
		row[3] = state_of(v);
		row[4] = v->storage_class;
		row[5] = v->file;
	}
	if (count) {
		render_table(stdout, cells, count + 1, COLUMNS, 0x2);
	}
	return 0;
}

static int list(const struct options *o, struct err *e)
{
	struct blockvol *volumes = NULL;
	size_t count = 0;
	int r = blockvol_list(&volumes, &count, e);

	if (r < 0) {
		return r;
	}
	r = o->json ? print_json(volumes, count) : print_table(volumes, count);
	blockvol_free_all(volumes, count);
	return r < 0 ? err_sys(e, r, "cannot show the volumes") : 0;
}

static int delete (const struct options *o, struct err *e)
{
	return blockvol_delete(o->args[1], e);
}

static const struct action actions[] = {
	{ "create", 0, create },
	{ "list", 0, list },
	{ "delete", 1, delete },
};

static int choose(const struct options *o, const struct action **ret, struct err *e)
{
	bool described = o->size_given || o->name_count || o->file || o->node || o->storage_class;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *a = &actions[i];

		if (strcmp(a->name, o->args[0]) != 0) {
			continue;
		}
		if (o->arg_count - 1 != a->args) {
			return err_set(e, -EINVAL, "usage: lazydisk volume %s%s", a->name,
				a->args ? " NAME" : "");
		}
		if (a->run != create && described) {
			return err_set(e, -EINVAL,
				"--size, --name, --file, --node and --storage-class are for volume "
				"create only");
		}
		*ret = a;
		return 0;
	}
	return err_set(e, -EINVAL, "'%s' is none of create, list, delete", o->args[0]);
}

static enum exitcode exitcode_of_volume(int code)
{
	return code == -EINVAL ? EXITCODE_USAGE : exitcode_of_mountpoint(code);
}

int volume_run(const struct options *o)
{
	const struct action *action = NULL;
	struct err e;
	int r = choose(o, &action, &e);

	if (r == 0) {
		r = action->run(o, &e);
	}
	return r < 0 ? exitcode_report(&e, exitcode_of_volume(r)) : EXITCODE_OK;
}
