/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzers' inputs as images. An input that begins with "SPARSE" is a list of (offset u32, length
 * u16, bytes), little-endian, which are laid over zeros: so that an image whose tables are 64 KiB
 * apart is a file of some hundred bytes. Any other input is the image as it is.
 */
#ifndef TESTS_FUZZ_SPARSE_H
#define TESTS_FUZZ_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#include "core/image.h"

/* No image is larger than that. */
#define SPARSE_MAX MIB(12)

/* Never NULL: aborts when memory is out. */
struct image *sparse_image(const uint8_t *data, size_t len);

#endif
