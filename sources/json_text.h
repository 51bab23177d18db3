/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from strangers: duplicates of a key and more nesting than anything has are refused. */
#ifndef SOURCES_JSON_TEXT_H
#define SOURCES_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "core/err.h"

/* An object or a list; the caller drops it. -EBADMSG names @what and the place, never the text. */
int json_text_parse(const char *what, const void *data, size_t len, json_t **ret, struct err *e);

/* The text of @key in @object, NULL when that is not there or not text. */
const char *json_text_get(const json_t *object, const char *key);

/* For CLEANUP(json_text_dropp) on a local. */
void json_text_dropp(json_t **json);

#endif
