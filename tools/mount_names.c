/* SPDX-License-Identifier: Apache-2.0 */
/* File names from sources and from --name. */
#include "tools/mount_names.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "tools/stack.h"

static bool is_file_name(const char *name)
{
	for (const char *p = name; *p; p++) {
		if (*p == '/' || (unsigned char)*p < 0x20 || *p == 0x7f) {
			return false;
		}
	}
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strcmp(name, ".lazydisk") != 0 && strlen(name) <= 250;
}

/* A name that says .raw already is left alone. */
static int add_suffix(const char *name, char **ret, struct err *e)
{
	size_t len = strlen(name);
	bool has = len > 4 && strcmp(name + len - 4, ".raw") == 0;

	if (!is_file_name(name)) {
		return err_set(e, -EINVAL, "--name: '%s' cannot be the name of a file", name);
	}
	return asprintf(ret, "%s%s", name, has ? "" : ".raw") < 0
		       ? err_set(e, -ENOMEM, "out of memory")
		       : 0;
}

static int make_one(const char *source, const char *name, char **ret, struct err *e)
{
	CLEANUP_FREE char *own = NULL;
	int r = name ? 0 : stack_name(source, &own, e);

	return r < 0 ? r : add_suffix(name ? name : own, ret, e);
}

static int check_distinct(char *const *files, size_t i, struct err *e)
{
	for (size_t j = 0; j < i; j++) {
		if (strcmp(files[j], files[i]) == 0) {
			return err_set(e, -EINVAL,
				"two sources would be called %s; give each a name of its own "
				"with --name",
				files[i]);
		}
	}
	return 0;
}

int mount_names_make(char *const *sources, size_t count, char *const *names, size_t name_count,
	char ***ret, struct err *e)
{
	char **files;
	int r = 0;

	if (name_count > count) {
		return err_set(e, -EINVAL, "--name is given %zu times for %zu source%s", name_count,
			count, count == 1 ? "" : "s");
	}
	files = calloc(count, sizeof(*files));
	if (!files) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = make_one(sources[i], i < name_count ? names[i] : NULL, &files[i], e);
		if (r == 0) {
			r = check_distinct(files, i, e);
		}
	}
	if (r < 0) {
		mount_names_free(files, count);
		return r;
	}
	*ret = files;
	return 0;
}

void mount_names_free(char **files, size_t count)
{
	for (size_t i = 0; files && i < count; i++) {
		free(files[i]);
	}
	free(files);
}
