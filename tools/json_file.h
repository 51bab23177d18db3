/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small records of ours on disk, as JSON: a record is there as a whole or not at all, also after a
 * power failure. Not locked: the caller sees to it that one writes at a time.
 */
#ifndef TOOLS_JSON_FILE_H
#define TOOLS_JSON_FILE_H

#include <jansson.h>
#include <sys/types.h>

#include "core/err.h"

/* *ret is the caller's. -ENOENT (there is none) and -EBADMSG (it is no JSON) leave it to the caller
 * to say what that means; others are in @e. */
int json_file_load(const char *path, json_t **ret, struct err *e);

/* Replaces the record, by way of PATH~. @root is only read. */
int json_file_save(const char *path, const json_t *root, mode_t mode, struct err *e);

/* For CLEANUP. */
static inline void json_file_drop(json_t **root)
{
	json_decref(*root);
}

#endif
