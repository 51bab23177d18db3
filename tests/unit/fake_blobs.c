/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_blobs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

static struct fake_record *find_record(struct fake_blobs *b, const char *name)
{
	for (size_t i = 0; i < b->count; i++) {
		if (strcmp(b->records[i].name, name) == 0) {
			return &b->records[i];
		}
	}
	return NULL;
}

static int fake_get(
	struct blobs *blobs, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	struct fake_blobs *b = (struct fake_blobs *)blobs;
	struct fake_record *r;

	pthread_mutex_lock(&b->lock);
	r = find_record(b, name);
	if (r) {
		*ret = malloc(r->len + 1);
		assert(*ret);
		memcpy(*ret, r->data, r->len);
		*ret_len = r->len;
	}
	pthread_mutex_unlock(&b->lock);
	return r ? 0 : err_set(e, -ENOENT, "no record");
}

static int fake_put(
	struct blobs *blobs, const char *name, const void *data, size_t len, struct err *e)
{
	struct fake_blobs *b = (struct fake_blobs *)blobs;
	struct fake_record *r;

	(void)e;
	pthread_mutex_lock(&b->lock);
	r = find_record(b, name);
	if (!r) {
		assert(b->count < ARRAY_SIZE(b->records));
		r = &b->records[b->count++];
		snprintf(r->name, sizeof(r->name), "%s", name);
	}
	free(r->data);
	r->data = malloc(len + 1);
	assert(r->data);
	memcpy(r->data, data, len);
	r->len = len;
	b->put_bytes += len;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static const struct blobs_ops fake_blobs_ops = { fake_get, fake_put };

void fake_blobs_init(struct fake_blobs *b)
{
	*b = (struct fake_blobs){ .blobs = { &fake_blobs_ops } };
	pthread_mutex_init(&b->lock, NULL);
}

void fake_blobs_clear(struct fake_blobs *b)
{
	for (size_t i = 0; i < b->count; i++) {
		free(b->records[i].data);
	}
	pthread_mutex_destroy(&b->lock);
}

size_t fake_blobs_size(const struct fake_blobs *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->count; i++) {
		n += b->records[i].len;
	}
	return n;
}
