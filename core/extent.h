/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An extent says of a run of bytes whether it may hold data or certainly reads as zeros.
 * Offsets and lengths are bytes of the image that reports it.
 */
#ifndef CORE_EXTENT_H
#define CORE_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#define EXTENT_NO_HOST UINT64_MAX

struct extent {
	uint64_t offset;
	uint64_t length; /* never 0 */
	bool zero;       /* certainly reads as zeros; false promises nothing about the bytes */
	bool allocated;  /* something is stored for it here (a zero cluster is, a hole is not) */
	bool compressed; /* stored compressed */
	bool hole_below; /* zero only because the image below has a hole where this one keeps data
			  */
	uint64_t host;   /* where it starts in the image below, or EXTENT_NO_HOST */
	unsigned int depth; /* 0: this image; n: its n-th backing file */
};

/* Cuts @x to the part within [off, off + len), which it must overlap; `host` moves along. */
void extent_clip(struct extent *x, uint64_t off, uint64_t len);

/* Appends @b to @a and returns true when @b begins where @a ends and says the same of its bytes
 * (and continues it in the image below); otherwise returns false and leaves both alone. */
bool extent_merge(struct extent *a, const struct extent *b);

#endif
