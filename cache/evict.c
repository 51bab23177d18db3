/* SPDX-License-Identifier: Apache-2.0 */
/* Least recently used first, in two rounds: the first spares what was read of late, and by boots.
 */
#include "cache/evict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/atfile.h"
#include "cache/bits.h"
#include "cache/blobdir.h"
#include "cache/cache.h"
#include "cache/lent.h"
#include "cache/map.h"
#include "cache/trace.h"
#include "core/bytes.h"
#include "core/cleanup.h"

#define SEGMENT_GRANULES (EVICT_SEGMENT / CACHE_GRANULE)

struct candidate {
	char hash[STORE_HASH + 1];
	struct timespec used_at;
	uint64_t used;
};

struct candidates {
	struct store *store;
	struct candidate *items;
	size_t count;
	size_t room;
};

uint64_t evict_object_used(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t used = 0;
	struct dirent *d;
	struct stat st;

	if (!dir) {
		if (fd >= 0) {
			close(fd);
		}
		return 0;
	}
	while ((d = readdir(dir))) {
		if (fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(st.st_mode)) {
			used += (uint64_t)st.st_blocks * 512;
		}
	}
	closedir(dir);
	return used;
}

static int open_hash(struct store *s, const char *hash)
{
	char path[64];

	snprintf(path, sizeof(path), "obj/%.2s/%s", hash, hash + 2);
	return openat(s->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

struct used_sum {
	struct store *store;
	uint64_t used;
};

static int add_used(void *ctx, const char *hash)
{
	struct used_sum *sum = ctx;
	CLEANUP_CLOSE int fd = open_hash(sum->store, hash);

	if (fd >= 0) {
		sum->used += evict_object_used(fd);
	}
	return 0;
}

uint64_t evict_used(struct store *s)
{
	struct used_sum sum = { s, 0 };

	(void)store_each(s, add_used, &sum, NULL);
	return sum.used;
}

static int collect(void *ctx, const char *hash)
{
	struct candidates *c = ctx;
	CLEANUP_CLOSE int fd = open_hash(c->store, hash);
	struct candidate *item;
	struct stat st;

	if (fd < 0) {
		return 0;
	}
	if (c->count == c->room) {
		size_t room = c->room ? 2 * c->room : 64;
		void *items = reallocarray(c->items, room, sizeof(*c->items));

		if (!items) {
			return -ENOMEM;
		}
		c->items = items;
		c->room = room;
	}
	item = &c->items[c->count++];
	*item = (struct candidate){ .used = evict_object_used(fd) };
	memcpy(item->hash, hash, sizeof(item->hash));
	if (fstatat(fd, "use", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		item->used_at = st.st_mtim;
	}
	return 0;
}

static int older_first(const void *a, const void *b)
{
	const struct timespec *x = &((const struct candidate *)a)->used_at;
	const struct timespec *y = &((const struct candidate *)b)->used_at;

	if (x->tv_sec != y->tv_sec) {
		return x->tv_sec < y->tv_sec ? -1 : 1;
	}
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

/* An object open for eviction. */
struct victim {
	const struct candidate *item;
	const struct evict_hooks *hooks;
	const struct store_object *object;
	struct map map;
	int data;
	uint64_t size;
	struct bits booted; /* segments that boots read; base NULL: not known */
};

/* What boots read is the most valuable part of an image: without it a machine waits. */
static void learn_boots(struct victim *v, int dirfd)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0;
	struct trace t;

	if (atfile_read(dirfd, BLOBDIR_PREFIX "trace", CACHE_TRACE_MAX, &data, &len, NULL) < 0 ||
		trace_parse(data, len, &t, NULL) < 0) {
		return;
	}
	if (bits_init(&v->booted, v->map.granules / SEGMENT_GRANULES + 1) == 0) {
		for (size_t i = 0; i < t.count; i++) {
			if (t.entries[i].granule < v->map.granules) {
				bits_set(&v->booted, t.entries[i].granule / SEGMENT_GRANULES);
			}
		}
	}
	trace_clear(&t);
}

/* Whether segment @seg is worth more than others. */
static bool is_precious(const struct victim *v, uint64_t seg)
{
	bool recent = v->hooks && v->hooks->recent(v->hooks->ctx, v->item->hash, seg);

	return recent || (v->booted.base && bits_test(&v->booted, seg));
}

/* Clears and punches one segment. Returns the bytes freed; UINT64_MAX: holes cannot be made. */
static uint64_t evict_segment(struct victim *v, uint64_t seg)
{
	uint64_t first = seg * SEGMENT_GRANULES;
	uint64_t count = min_u64(SEGMENT_GRANULES, v->map.granules - first);
	uint64_t stored = 0;
	uint64_t went = 0;
	int r;

	if (!map_lock(&v->map, first, count)) {
		return 0;
	}
	/* Who pins it looks at the verdict then: either we see the pin, or they see no verdict. */
	blobdir_unverify(v->object->fd);
	if (store_object_is_pinned(v->object) || lent_is_marked(v->object->fd)) {
		map_unlock(&v->map, first, count);
		return 0;
	}
	for (uint64_t g = first; g < first + count; g++) {
		uint32_t slot = map_get(&v->map, g);

		went += slot != 0;
		stored += slot != 0 && slot != map_zero(&v->map, g);
		if (slot != 0) {
			map_set(&v->map, g, 0);
		}
	}
	map_move_epoch(&v->map);
	/* Again, for who verified it meanwhile: they look afterwards whether all is still here. */
	blobdir_unverify(v->object->fd);
	r = fallocate(v->data, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)(first * CACHE_GRANULE), (off_t)(count * CACHE_GRANULE));
	/* Before anybody can put them again. */
	if (v->hooks && went > 0) {
		v->hooks->gone(v->hooks->ctx, v->item->hash, went);
	}
	map_unlock(&v->map, first, count);
	return r < 0 ? UINT64_MAX : stored * CACHE_GRANULE;
}

static bool holds_data(const struct victim *v, uint64_t seg)
{
	uint64_t first = seg * SEGMENT_GRANULES;
	uint64_t end = min_u64(first + SEGMENT_GRANULES, v->map.granules);

	for (uint64_t g = first; g < end; g++) {
		uint32_t slot = map_get(&v->map, g);

		if (slot != 0 && slot != map_zero(&v->map, g)) {
			return true;
		}
	}
	return false;
}

/* From the end to the beginning: what boots and mounts read first lies mostly at the front. */
static uint64_t evict_segments(struct victim *v, uint64_t need, bool spare_precious)
{
	uint64_t seg = div_round_up(v->map.granules, SEGMENT_GRANULES);
	uint64_t freed = 0;

	while (seg-- > 0 && freed < need) {
		uint64_t n;

		if (!holds_data(v, seg) || (is_precious(v, seg) && spare_precious)) {
			continue;
		}
		n = evict_segment(v, seg);
		if (n == UINT64_MAX) {
			break;
		}
		freed += n;
	}
	return freed;
}

static uint64_t shrink(struct victim *v, uint64_t need, bool spare)
{
	const struct store_object *o = v->object;
	struct store_meta meta;
	uint64_t freed = 0;

	if (store_meta_read(o->fd, &meta, NULL) < 0) {
		return 0;
	}
	if (map_open(o->fd, "map", meta.size, meta.gen, false, &v->map, NULL) == 0) {
		v->data = openat(o->fd, "data", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (v->data >= 0) {
			learn_boots(v, o->fd);
			freed = evict_segments(v, need, spare);
			bits_fini(&v->booted);
			close(v->data);
		}
		map_close(&v->map, false);
	}
	store_meta_clear(&meta);
	return freed;
}

static uint64_t evict_object(struct store *s, struct candidate *item, uint64_t need,
	const struct evict_hooks *hooks, bool spare)
{
	struct store_object o;
	struct victim v = { .item = item, .hooks = hooks, .object = &o, .data = -1 };
	uint64_t freed;
	bool lent;

	if (item->used == 0 || store_object_open(s, item->hash, false, &o, NULL) < 0) {
		return 0;
	}
	if (o.exclusive) {
		lent_settle_unused(o.fd);
	}
	lent = lent_is_marked(o.fd);
	/* While somebody reads a file, deleting it gives nothing back: last of all. */
	if (o.exclusive && (lent ? !spare : item->used <= need)) {
		freed = item->used;
		item->used = 0;
		return store_object_delete(s, &o, NULL) < 0 ? 0 : freed;
	}
	store_object_share(&o);
	freed = lent || store_object_is_pinned(&o) ? 0 : shrink(&v, need, spare);
	item->used -= min_u64(freed, item->used);
	store_object_close(&o);
	return freed;
}

uint64_t evict_run(struct store *s, uint64_t need, const struct evict_hooks *hooks)
{
	struct candidates c = { .store = s };
	uint64_t freed = 0;

	(void)store_each(s, collect, &c, NULL);
	if (c.count > 0) {
		qsort(c.items, c.count, sizeof(*c.items), older_first);
	}
	for (unsigned int round = 0; round < 2 && freed < need; round++) {
		for (size_t i = 0; i < c.count && freed < need; i++) {
			freed += evict_object(s, &c.items[i], need - freed, hooks, round == 0);
		}
	}
	free(c.items);
	return freed;
}
