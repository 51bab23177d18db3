/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of the retry policy. */
#include "sources/http_retry.h"

#include "core/bytes.h"
#include "sources/http_headers.h"

#define BASE_MS         100U
#define CAP_MS          8000U
#define RETRY_AFTER_MAX 3600U
#define STALL_MS        10000U
#define STALL_MIN_MS    1000U
#define STALL_MAX_MS    60000U

uint64_t http_retry_wait(
	unsigned int failures, uint64_t retry_after_s, uint32_t random, uint64_t left_ms)
{
	unsigned int doublings = failures > 1 ? failures - 1 : 0;
	uint64_t most = doublings < 10 ? min_u64((uint64_t)BASE_MS << doublings, CAP_MS) : CAP_MS;
	uint64_t wait = random % (min_u64(most, left_ms / 2) + 1);

	if (retry_after_s != HTTP_UNKNOWN) {
		wait += min_u64(retry_after_s, RETRY_AFTER_MAX) * 1000;
	}
	return wait;
}

uint64_t http_retry_stall(unsigned int stalls, uint64_t limit_ms)
{
	uint64_t first = max_u64(min_u64(limit_ms / 3, STALL_MS), STALL_MIN_MS);

	return stalls < 10 ? min_u64(first << stalls, STALL_MAX_MS) : STALL_MAX_MS;
}
