/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to try again, and when to give up. Pure: no clock, no sleep, no randomness of its own.
 *
 * Waits are exponential with full jitter; a server's Retry-After is a lower bound. A transfer that
 * says nothing for a while is cut and counts as a failure; each stall in a row is given twice the
 * time of the one before, for servers that need long to begin.
 */
#ifndef SOURCES_HTTP_RETRY_H
#define SOURCES_HTTP_RETRY_H

#include <stdint.h>

/* Before attempt @failures + 1, in milliseconds. @failures: in a row, at least 1. @retry_after_s:
 * HTTP_UNKNOWN when the server said nothing. @random: any number. Our own part of the wait leaves
 * half of @left_ms for the attempt; the server's part is as it is. */
uint64_t http_retry_wait(
	unsigned int failures, uint64_t retry_after_s, uint32_t random, uint64_t left_ms);

/* How long a transfer may be silent, after @stalls in a row did not last. */
uint64_t http_retry_stall(unsigned int stalls, uint64_t limit_ms);

#endif
