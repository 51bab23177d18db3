/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds that a test puts to its own process. */
#ifndef TESTS_UNIT_MEMORY_LIMIT_H
#define TESTS_UNIT_MEMORY_LIMIT_H

#include <assert.h>
#include <stdint.h>
#include <sys/resource.h>

/* From here on allocating more than @bytes fails; sanitizers map far more than a program uses. */
static inline void memory_limit(uint64_t bytes)
{
#ifdef LIMIT_MEMORY
	const struct rlimit limit = { bytes, bytes };
	int r = setrlimit(RLIMIT_DATA, &limit);

	assert(r == 0);
	(void)r;
#else
	(void)bytes;
#endif
}

#endif
