/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the files in a mount: one for each source, all different, each fit for a file. */
#ifndef TOOLS_MOUNT_NAMES_H
#define TOOLS_MOUNT_NAMES_H

#include <stddef.h>

#include "core/err.h"

/* For each of @count @sources the --name at its place, else the source's own name, with ".raw"
 * behind it. *ret is an array of @count strings, malloc()ed. -EINVAL: a name that cannot be a
 * file's, more names than sources, two sources of one name. */
int mount_names_make(char *const *sources, size_t count, char *const *names, size_t name_count,
	char ***ret, struct err *e);

void mount_names_free(char **files, size_t count);

#endif
