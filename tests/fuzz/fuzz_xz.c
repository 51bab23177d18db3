/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an .xz file. The checksums of its header, its last index and its footer are put
 * right first: what they cover would hardly ever get any further. */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "tests/fuzz/decode.h"

#define ENDS LZMA_STREAM_HEADER_SIZE /* the header and the footer are as long */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* .xz file format 2.1.1 and 2.1.2 */
static void mend(uint8_t *file, size_t len)
{
	uint8_t *footer = file + len - ENDS;
	size_t index;

	store_le32(file + 8, lzma_crc32(file + 6, 2, 0));
	memcpy(footer + 8, file + 6, 2);
	store_le32(footer, lzma_crc32(footer + 4, 6, 0));
	index = ((size_t)load_le32(footer + 4) + 1) * 4;
	if (index >= 8 && index <= len - (size_t)2 * ENDS) {
		store_le32(footer - 4, lzma_crc32(footer - index, index - 4, 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);

	if (!copy) {
		abort();
	}
	memcpy(copy, data, len);
	decode_check("xz+raw", copy, len);
	if (len >= (size_t)2 * ENDS) {
		mend(copy, len);
		decode_check("xz+raw", copy, len);
	}
	free(copy);
	return 0;
}
