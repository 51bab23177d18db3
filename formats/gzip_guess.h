/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many bytes a gzip file may hold. Nothing in it says so for sure: the last member's trailer
 * has that member's length modulo 4 GiB (RFC 1952 section 2.3.1). Together with what the first
 * bytes say about the disk that they begin, this makes a guess that is usually right, and that
 * nobody may take for more than a guess. Pure.
 */
#ifndef FORMATS_GZIP_GUESS_H
#define FORMATS_GZIP_GUESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Deflate makes at most so many bytes of one: a match of 258 bytes from two bits. */
#define GZIP_RATIO_MAX 1032U

struct gzip_hints {
	uint64_t file_size;  /* compressed */
	uint32_t isize;      /* the last four bytes of the file */
	const uint8_t *head; /* the first decoded bytes */
	size_t head_len;
	uint64_t decoded;  /* bytes, from ... */
	uint64_t consumed; /* ... so many compressed ones */
	bool many;         /* the last member does not speak for all */
};

/* No gzip file of that size holds more. */
uint64_t gzip_guess_bound(uint64_t file_size);

/* Between 1 and the bound. */
uint64_t gzip_guess(const struct gzip_hints *hints);

#endif
