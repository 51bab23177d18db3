/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as zstd frames with or without a seek table. */
#include "tests/fuzz/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	decode_check("zstd+raw", data, len);
	return 0;
}
