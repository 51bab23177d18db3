/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Amounts as people write them. Sizes are Kubernetes quantities (apimachinery's resource.Quantity):
 * a decimal number, perhaps with a fraction, and a suffix: none, n u m k M G T P E (powers of
 * 1000), Ki Mi Gi Ti Pi Ei (powers of 1024) or a decimal exponent (1e3, 1E3). Pure.
 */
#ifndef TOOLS_QUANTITY_H
#define TOOLS_QUANTITY_H

#include <stdint.h>

#include "core/err.h"

/* Room for the text of any size. */
#define QUANTITY_MAX 24

/* Bytes; a fraction of a byte is rounded up, as Kubernetes does. -EINVAL not a quantity, or
 * negative; -ERANGE more than 64 bits. */
int quantity_parse(const char *text, uint64_t *ret, struct err *e);

/* Fills @buf (QUANTITY_MAX bytes) with exactly @bytes, as short as a power of 1024 makes it: "2Gi",
 * "1536Mi", "1000". Returns @buf. */
char *quantity_format(uint64_t bytes, char *buf);

/* Seconds: a whole number, perhaps with s, m or h behind it. */
int quantity_parse_seconds(const char *text, unsigned int *ret, struct err *e);

/* A whole decimal number from @min to @max. */
int quantity_parse_count(
	const char *text, unsigned int min, unsigned int max, unsigned int *ret, struct err *e);

#endif
