/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the layers report, as JSON: the objects that `info --json` and `status --json` print and
 * that .lazydisk/status holds. Their keys are part of the command's interface.
 */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "core/image.h"
#include "core/report.h"

/* All return a new reference, or NULL without memory. */

/* [{"name": "qcow2", "size": N, ...}, {"name": "cache", ...}, ...], from the top down. */
json_t *json_layers(const struct report *r);

/* {"name": ..., "source": ..., "size": N, "layers": [...]} */
json_t *json_image(struct image *image, const char *name, const char *source);

/* A JSON integer has 63 bits here; what is larger becomes the largest. */
json_t *json_u64(uint64_t value);

/* Any bytes as a string: what is not UTF-8 is replaced. */
json_t *json_text(const char *text);

/* Prints @root, indented, with a line end, and drops it. -EIO or 0. */
int json_print(json_t *root, FILE *out);

#endif
