/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of images: a fixed set of inodes, so nothing here is locked or counted. */
#include "fusefs/tree.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"

#define CONTROL_NAME ".lazydisk"
#define STATUS_NAME  "status"

static int check_name(const struct tree_volume *volumes, size_t i, struct err *e)
{
	const char *name = volumes[i].name;

	if (!*name || strlen(name) > NAME_MAX || strchr(name, '/') || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0 || strcmp(name, CONTROL_NAME) == 0) {
		return err_set(
			e, -EINVAL, "\"%s\" cannot be the name of a file in the mount", name);
	}
	for (size_t j = 0; j < i; j++) {
		if (strcmp(volumes[j].name, name) == 0) {
			return err_set(e, -EINVAL, "two images want the name %s", name);
		}
	}
	return 0;
}

int tree_init(struct tree *t, const struct tree_volume *volumes, size_t count, struct err *e)
{
	struct tree_volume *copy;

	for (size_t i = 0; i < count; i++) {
		int r = check_name(volumes, i, e);

		if (r < 0) {
			return r;
		}
	}
	copy = calloc(count ? count : 1, sizeof(*copy));
	if (!copy) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < count; i++) {
		copy[i] = volumes[i];
	}
	*t = (struct tree){ .volumes = copy, .count = count, .uid = getuid(), .gid = getgid() };
	clock_gettime(CLOCK_REALTIME, &t->born);
	return 0;
}

void tree_clear(struct tree *t)
{
	free(t->volumes);
	t->volumes = NULL;
	t->count = 0;
}

enum tree_kind tree_kind(const struct tree *t, uint64_t ino)
{
	if (ino == TREE_ROOT || ino == TREE_CONTROL) {
		return TREE_KIND_DIR;
	}
	if (ino == TREE_STATUS) {
		return TREE_KIND_STATUS;
	}
	if (ino >= TREE_FIRST_VOLUME && ino - TREE_FIRST_VOLUME < t->count) {
		return TREE_KIND_VOLUME;
	}
	return TREE_KIND_NONE;
}

size_t tree_volume_index(const struct tree *t, uint64_t ino)
{
	assert(tree_kind(t, ino) == TREE_KIND_VOLUME);
	return ino - TREE_FIRST_VOLUME;
}

uint64_t tree_lookup(const struct tree *t, uint64_t parent, const char *name)
{
	if (parent == TREE_CONTROL) {
		return strcmp(name, STATUS_NAME) == 0 ? TREE_STATUS : 0;
	}
	if (parent != TREE_ROOT) {
		return 0;
	}
	if (strcmp(name, CONTROL_NAME) == 0) {
		return TREE_CONTROL;
	}
	for (size_t i = 0; i < t->count; i++) {
		if (strcmp(t->volumes[i].name, name) == 0) {
			return TREE_FIRST_VOLUME + i;
		}
	}
	return 0;
}

bool tree_attr(const struct tree *t, uint64_t ino, uint64_t allocated, struct stat *ret)
{
	struct stat st = {
		.st_ino = ino,
		.st_nlink = 1,
		.st_uid = t->uid,
		.st_gid = t->gid,
		.st_blksize = 4096,
		.st_atim = t->born,
		.st_mtim = t->born,
		.st_ctim = t->born,
	};

	switch (tree_kind(t, ino)) {
	case TREE_KIND_NONE:
		return false;
	case TREE_KIND_DIR:
		st.st_mode = S_IFDIR | 0555;
		st.st_nlink = ino == TREE_ROOT ? 3 : 2;
		break;
	case TREE_KIND_STATUS:
		st.st_mode = S_IFREG | 0444;
		break;
	case TREE_KIND_VOLUME: {
		const struct tree_volume *v = &t->volumes[tree_volume_index(t, ino)];

		st.st_mode = S_IFREG | (v->writable ? 0644 : 0444);
		st.st_size = (off_t)v->size;
		st.st_blocks = (blkcnt_t)div_round_up(allocated, 512);
		break;
	}
	}
	*ret = st;
	return true;
}

static bool root_entry(const struct tree *t, uint64_t pos, struct tree_entry *ret)
{
	if (pos >= t->count) {
		return false;
	}
	*ret = (struct tree_entry){ t->volumes[pos].name, TREE_FIRST_VOLUME + pos, S_IFREG };
	return true;
}

bool tree_entry(const struct tree *t, uint64_t dir, uint64_t pos, struct tree_entry *ret)
{
	if (tree_kind(t, dir) != TREE_KIND_DIR) {
		return false;
	}
	if (pos < 2) {
		*ret = (struct tree_entry){ pos == 0 ? "." : "..", pos == 0 ? dir : TREE_ROOT,
			S_IFDIR };
		return true;
	}
	if (dir == TREE_ROOT) {
		return root_entry(t, pos - 2, ret);
	}
	if (pos == 2) {
		*ret = (struct tree_entry){ STATUS_NAME, TREE_STATUS, S_IFREG };
		return true;
	}
	return false;
}
