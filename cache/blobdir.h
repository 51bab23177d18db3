/* SPDX-License-Identifier: Apache-2.0 */
/* struct blobs in the directory of an object, or in memory. */
#ifndef CACHE_BLOBDIR_H
#define CACHE_BLOBDIR_H

#include "core/blobs.h"

/* A record's file is this and the record's name. */
#define BLOBDIR_PREFIX "blob."
/* A larger record is refused with -EFBIG. */
#define BLOBDIR_MAX ((size_t)64 << 20)

/* The record of whether the whole is what its digest says: the digest, or why not. */
#define BLOBDIR_VERDICT "verified"

/* Before granules of the object in @dirfd are given up: others may come in their place, so that it
 * is not known any more to be what @digest says. What was found to be wrong stays that. */
void blobdir_unverify(int dirfd);

/* Over the directory @dirfd, which stays the caller's; -1: records live in memory. -ENOMEM or 0. */
int blobdir_new(int dirfd, struct blobs **ret);
/* NULL is nothing. */
void blobdir_free(struct blobs *b);

#endif
