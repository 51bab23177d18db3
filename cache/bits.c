/* SPDX-License-Identifier: Apache-2.0 */
/* Lazily touched anonymous memory under a bit array. */
#include "cache/bits.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/bytes.h"

int bits_init(struct bits *b, uint64_t count)
{
	size_t length = (div_round_up(count, 64) + 1) * sizeof(uint64_t);
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		return -ENOMEM;
	}
	*b = (struct bits){ p, p, length };
	return 0;
}

void bits_fini(struct bits *b)
{
	if (b->base) {
		munmap(b->base, b->length);
		b->base = NULL;
	}
}
