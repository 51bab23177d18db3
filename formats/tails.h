/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in a file behind the compressed clusters that were read last, up to the end of the
 * cluster of the file that they end in. QEMU puts the next compressed cluster there if it fits,
 * however much it has written behind it meanwhile (qcow2_alloc_bytes()). Who reads the file forward
 * comes by such a rest long before it learns what it is; here it has it still, in bounded memory,
 * those furthest in the file. Thread-safe.
 */
#ifndef FORMATS_TAILS_H
#define FORMATS_TAILS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tails;

/* Of clusters of @cluster bytes. -ENOMEM or 0. */
int tails_new(size_t cluster, struct tails **ret);

/* How often tails_forget() was called. To be asked before what is kept is read. */
uint64_t tails_age(struct tails *t);

/* @len bytes that stand at @host, at most a cluster and a sector; nothing if it is not of @age any
 * more. */
void tails_keep(struct tails *t, uint64_t age, uint64_t host, const uint8_t *bytes, size_t len);

/* Copies [host, host + len) into @buf, if it is here. With @buf NULL only tells whether it is. */
bool tails_get(struct tails *t, uint64_t host, size_t len, uint8_t *buf);

/* What is here may be wrong. */
void tails_forget(struct tails *t);

/* NULL is nothing. */
void tails_free(struct tails *t);

#endif
