/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that hashes what passes through it. Bytes come in any order and from many threads; a
 * hash wants them in order, so what comes too early is kept, up to a bound, and what was missed is
 * fetched again. See source_digest_open() in source.h.
 */
#ifndef SOURCES_DIGEST_H
#define SOURCES_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define DIGEST_MAX 64U

/* "sha256:HEX" and the like, in any case. */
struct digest_want {
	const char *algorithm; /* as OpenSSL calls it; static */
	uint8_t value[DIGEST_MAX];
	size_t length; /* bytes of `value` */
};

/* -EINVAL with a text when it is not one. */
int digest_parse(const char *text, struct digest_want *ret, struct err *e);

#endif
