/* SPDX-License-Identifier: Apache-2.0 */
/* Small records: one file each, replaced by rename; or a list in memory, which also takes what the
 * directory refuses, so that a full disk costs persistence and nothing else. */
#include "cache/blobdir.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/atfile.h"
#include "core/cleanup.h"

#define NAME_MAX_LEN 64U
#define VERDICT_MAX  1024U
#define PATH_ROOM    (sizeof(BLOBDIR_PREFIX) + NAME_MAX_LEN)

struct record {
	struct record *next;
	char name[NAME_MAX_LEN + 1];
	void *data;
	size_t len;
};

struct blobdir {
	struct blobs blobs;
	int dirfd;
	pthread_mutex_t lock; /* protects all below */
	struct record *records;
};

static int check_name(const char *name, struct err *e)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	if (n == 0 || n > NAME_MAX_LEN || name[n]) {
		return err_set(e, -EINVAL, "cache: bad record name");
	}
	return 0;
}

static struct record **find(struct blobdir *d, const char *name)
{
	struct record **link = &d->records;

	while (*link && strcmp((*link)->name, name) != 0) {
		link = &(*link)->next;
	}
	return link;
}

static int copy_out(const void *data, size_t len, void **ret, size_t *ret_len)
{
	void *copy = malloc(len + 1);

	if (!copy) {
		return -ENOMEM;
	}
	memcpy(copy, data, len);
	*ret = copy;
	*ret_len = len;
	return 0;
}

static int blobdir_get(
	struct blobs *b, const char *name, void **ret, size_t *ret_len, struct err *e)
{
	struct blobdir *d = (struct blobdir *)b;
	char path[PATH_ROOM];
	struct record *rec;
	char *data;
	int r = check_name(name, e);

	if (r < 0) {
		return r;
	}
	LOCK_SCOPE(&d->lock);
	rec = *find(d, name);
	if (rec) {
		r = copy_out(rec->data, rec->len, ret, ret_len);
		return r < 0 ? err_set(e, r, "out of memory") : 0;
	}
	if (d->dirfd < 0) {
		return err_set(e, -ENOENT, "cache: no record %s", name);
	}
	snprintf(path, sizeof(path), BLOBDIR_PREFIX "%s", name);
	r = atfile_read(d->dirfd, path, BLOBDIR_MAX, &data, ret_len, e);
	if (r == 0) {
		*ret = data;
	}
	return r;
}

static void forget(struct record **link)
{
	struct record *rec = *link;

	if (rec) {
		*link = rec->next;
		free(rec->data);
		free(rec);
	}
}

static int remember(struct blobdir *d, const char *name, const void *data, size_t len)
{
	struct record *rec = calloc(1, sizeof(*rec));

	if (!rec || copy_out(data, len, &rec->data, &rec->len) < 0) {
		free(rec);
		return -ENOMEM;
	}
	snprintf(rec->name, sizeof(rec->name), "%s", name);
	forget(find(d, name));
	rec->next = d->records;
	d->records = rec;
	return 0;
}

static int blobdir_put(
	struct blobs *b, const char *name, const void *data, size_t len, struct err *e)
{
	struct blobdir *d = (struct blobdir *)b;
	char path[PATH_ROOM];
	int r = check_name(name, e);

	if (r < 0) {
		return r;
	}
	if (len > BLOBDIR_MAX) {
		return err_set(e, -EFBIG, "cache: record %s is too large", name);
	}
	LOCK_SCOPE(&d->lock);
	snprintf(path, sizeof(path), BLOBDIR_PREFIX "%s", name);
	if (d->dirfd >= 0 && atfile_replace(d->dirfd, path, data, len, NULL) == 0) {
		forget(find(d, name));
		return 0;
	}
	r = remember(d, name, data, len);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

void blobdir_unverify(int dirfd)
{
	static const char path[] = BLOBDIR_PREFIX BLOBDIR_VERDICT;
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	int r = atfile_read(dirfd, path, VERDICT_MAX, &text, &len, NULL);

	if (r != -ENOENT && (r < 0 || strchr(text, ':'))) {
		(void)unlinkat(dirfd, path, 0);
	}
}

static const struct blobs_ops blobdir_ops = {
	.get = blobdir_get,
	.put = blobdir_put,
};

int blobdir_new(int dirfd, struct blobs **ret)
{
	struct blobdir *d = calloc(1, sizeof(*d));

	if (!d) {
		return -ENOMEM;
	}
	d->blobs.ops = &blobdir_ops;
	d->dirfd = dirfd;
	pthread_mutex_init(&d->lock, NULL);
	*ret = &d->blobs;
	return 0;
}

void blobdir_free(struct blobs *b)
{
	struct blobdir *d = (struct blobdir *)b;

	if (d) {
		while (d->records) {
			forget(&d->records);
		}
		pthread_mutex_destroy(&d->lock);
		free(d);
	}
}
