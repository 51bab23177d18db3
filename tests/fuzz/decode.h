/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of every decoder of a compressed image. */
#ifndef TESTS_FUZZ_DECODE_H
#define TESTS_FUZZ_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* Opens any bytes as @format and decodes the beginning of what they hold, some MiB of it: an error
 * that says what is wrong, or bytes; the same bytes however they are read, and units that tile the
 * image. */
void decode_check(const char *format, const uint8_t *data, size_t len);

#endif
