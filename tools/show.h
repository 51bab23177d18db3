/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON objects of tools/json.h for people to read. Works on the JSON rather than on images, so
 * that a mount's status looks the same wherever it comes from; what is missing is left out, keys
 * that are not known here are printed all the same.
 */
#ifndef TOOLS_SHOW_H
#define TOOLS_SHOW_H

#include <jansson.h>
#include <stdio.h>

/* One image for `info`: what it is made of. */
void show_info(FILE *out, const json_t *image);

/* One image for `status`: what was fetched, and how the readers fared. */
void show_status(FILE *out, const json_t *image);

/* The layer @name of @image, or NULL. */
json_t *show_layer(const json_t *image, const char *name);

#endif
