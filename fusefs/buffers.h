/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for answers: page-aligned, reused, bounded. What answers under way may hold together is
 * limited (BUFFERS_BUDGET): who would exceed it waits for others to finish, so that all workers
 * with requests of 1 MiB do not take 1 MiB each. Small ones never wait: reads that wait for the
 * network shall not hold up those that do not. Thread-safe.
 */
#ifndef FUSEFS_BUFFERS_H
#define FUSEFS_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFERS_SIZE   ((size_t)1 << 20) /* of one: the largest request of the kernel */
#define BUFFERS_BUDGET ((size_t)32 << 20)
#define BUFFERS_SMALL  ((size_t)128 << 10) /* and below: not counted */
#define BUFFERS_IDLE   8                   /* kept for the next request */

struct buffers;

struct buffer {
	uint8_t *mem;
	size_t size; /* as asked for */
	size_t room;
};

/* NULL: out of memory. */
struct buffers *buffers_new(void);

/* All buffers were given back. NULL is nothing. */
void buffers_free(struct buffers *b);

/* May wait. False: out of memory. A request larger than the budget waits until it is alone. */
bool buffers_get(struct buffers *b, size_t size, struct buffer *ret);
void buffers_put(struct buffers *b, struct buffer *buf);

#endif
