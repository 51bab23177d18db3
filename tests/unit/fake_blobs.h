/* SPDX-License-Identifier: Apache-2.0 */
/* Records in memory, for who keeps what he learned in a struct blobs. Thread-safe. */
#ifndef TESTS_UNIT_FAKE_BLOBS_H
#define TESTS_UNIT_FAKE_BLOBS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"

struct fake_record {
	char name[65];
	uint8_t *data;
	size_t len;
};

struct fake_blobs {
	struct blobs blobs;
	pthread_mutex_t lock;
	struct fake_record records[64];
	size_t count;
	size_t put_bytes;
};

void fake_blobs_init(struct fake_blobs *b);
void fake_blobs_clear(struct fake_blobs *b);

/* The bytes of all records. */
size_t fake_blobs_size(const struct fake_blobs *b);

#endif
