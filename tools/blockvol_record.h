/* SPDX-License-Identifier: Apache-2.0 */
/* The records of volumes: one small JSON file each. Used by blockvol.c only. */
#ifndef TOOLS_BLOCKVOL_RECORD_H
#define TOOLS_BLOCKVOL_RECORD_H

#include "tools/blockvol.h"

/* The directory of the records, made when @make; malloc()ed. */
int blockvol_record_dir(bool make, char **ret, struct err *e);

/* DIR/NAME + @suffix; malloc()ed. */
char *blockvol_record_path(const char *dir, const char *name, const char *suffix);

/* The volume as it is recorded; `number` and `missing` are not filled in. -ENOENT: no record. @ret
 * is to be cleared on success only. */
int blockvol_record_load(const char *dir, const char *name, struct blockvol *ret, struct err *e);

/* Replaces the record at once or not at all. */
int blockvol_record_save(const char *dir, const struct blockvol *v, struct err *e);

int blockvol_record_remove(const char *dir, const char *name, struct err *e);

/* Waits until no other process changes volumes; released by closing *ret_fd. */
int blockvol_record_lock(const char *dir, int *ret_fd, struct err *e);

#endif
