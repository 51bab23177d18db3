/* SPDX-License-Identifier: Apache-2.0 */
/* What `lazydisk cache` does with a whole directory: list, drop, prune, verify. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/blobdir.h"
#include "cache/cache.h"
#include "cache/evict.h"
#include "cache/face.h"
#include "cache/lent.h"
#include "cache/map.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

/* --- list --- */

struct listing {
	struct store *store;
	struct cache_entry *items;
	size_t count;
	size_t room;
};

static int grow(struct listing *l)
{
	size_t room = l->room ? 2 * l->room : 32;
	void *items;

	if (l->count < l->room) {
		return 0;
	}
	items = reallocarray(l->items, room, sizeof(*l->items));
	if (!items) {
		return -ENOMEM;
	}
	l->items = items;
	l->room = room;
	return 0;
}

static uint64_t present_bytes(int dirfd, const struct store_meta *meta)
{
	uint64_t present = 0;
	struct map map;

	if (map_open(dirfd, "map", meta->size, meta->gen, true, &map, NULL) == 0) {
		present = min_u64(map_count(&map) * CACHE_GRANULE, meta->size);
		map_close(&map, false);
	}
	return present;
}

static int describe(const struct store_object *o, struct cache_entry *ret)
{
	struct store_meta meta = { 0 };
	struct cache_entry entry = { .in_use = !o->exclusive };
	struct stat st;

	if (fstatat(o->fd, "use", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		entry.last_used = st.st_mtim.tv_sec;
	}
	entry.disk_used = evict_object_used(o->fd);
	if (store_meta_read(o->fd, &meta, NULL) == 0) {
		entry.size = meta.size;
		entry.present = present_bytes(o->fd, &meta);
	} else {
		entry.corrupt = true;
		meta.key = strdup(o->hash);
		meta.id = strdup(o->hash);
	}
	if (!meta.key || !meta.id) {
		store_meta_clear(&meta);
		return -ENOMEM;
	}
	entry.key = meta.key;
	entry.id = meta.id;
	*ret = entry;
	return 0;
}

static int list_one(void *ctx, const char *hash)
{
	struct listing *l = ctx;
	struct store_object o;
	int r = grow(l);

	if (r < 0) {
		return r;
	}
	if (store_object_open(l->store, hash, false, &o, NULL) < 0) {
		return 0; /* it went, or is being made or deleted */
	}
	r = describe(&o, &l->items[l->count]);
	if (r == 0) {
		l->count++;
	}
	store_object_close(&o);
	return r;
}

static int newer_first(const void *a, const void *b)
{
	const struct cache_entry *x = a;
	const struct cache_entry *y = b;

	return x->last_used > y->last_used ? -1 : x->last_used < y->last_used;
}

static void free_string(const char *s)
{
	free((void *)(uintptr_t)s);
}

int cache_list(struct cache *c, cache_entry_fn *fn, void *ctx, struct err *e)
{
	struct listing l = { .store = face_store(c) };
	int r;

	if (!l.store) {
		return 0;
	}
	r = store_each(l.store, list_one, &l, e);
	if (r == -ENOMEM) {
		(void)err_set(e, r, "out of memory");
	}
	if (l.count > 0) {
		qsort(l.items, l.count, sizeof(*l.items), newer_first);
	}
	for (size_t i = 0; i < l.count; i++) {
		if (r >= 0) {
			r = fn(ctx, &l.items[i]);
		}
		free_string(l.items[i].key);
		free_string(l.items[i].id);
	}
	free(l.items);
	return r < 0 ? r : 0;
}

/* --- drop, prune --- */

/* The directory of @key; a listing shows damaged objects by the directory's name, which finds them,
 * too. */
static int open_by_key(struct cache *c, const char *key, struct store_object *ret, struct err *e)
{
	char hash[STORE_HASH + 1];
	int r;

	if (!face_store(c)) {
		return err_set(e, -ENOENT, "%s is not cached", key);
	}
	store_hash(key, hash);
	r = store_object_open(face_store(c), hash, false, ret, e);
	if (r == -ENOENT && strlen(key) == STORE_HASH &&
		strspn(key, "0123456789abcdef") == STORE_HASH) {
		r = store_object_open(face_store(c), key, false, ret, e);
	}
	return r == -ENOENT ? err_set(e, r, "%s is not cached", key) : r;
}

int cache_drop(struct cache *c, const char *key, struct err *e)
{
	struct store_object o;
	int r = open_by_key(c, key, &o, e);

	if (r < 0) {
		return r;
	}
	if (!o.exclusive) {
		store_object_close(&o);
		return face_store(c)->readonly
			       ? err_set(e, -EROFS, "the cache directory is read-only")
			       : err_set(e, -EBUSY, "%s is in use", key);
	}
	return store_object_delete(face_store(c), &o, e);
}

int cache_prune(struct cache *c, uint64_t max_size, uint64_t *ret_freed, struct err *e)
{
	if (!face_store(c)) {
		*ret_freed = 0;
		return 0;
	}
	if (face_store(c)->readonly) {
		return err_set(e, -EROFS, "the cache directory is read-only");
	}
	*ret_freed = keeper_prune(face_keeper(c), max_size);
	return 0;
}

/* --- verify --- */

struct checkup {
	struct store *store;
	struct cache_verify_result result;
	uint8_t *block; /* CACHE_GRANULE bytes */
};

struct patient {
	struct map map;
	int dir;
	int data;
	uint64_t size;
};

static bool is_right(struct patient *p, uint64_t g, uint32_t slot, uint8_t *block)
{
	size_t len = min_u64(CACHE_GRANULE, p->size - g * CACHE_GRANULE);

	return slot == map_zero(&p->map, g) ||
	       (rw_pread(p->data, block, len, g * CACHE_GRANULE) == 0 &&
		       map_sum(&p->map, g, block, len) == slot);
}

static void check_granules(struct checkup *k, struct patient *p)
{
	for (uint64_t g = 0; g < p->map.granules; g++) {
		uint32_t slot = map_get(&p->map, g);

		if (slot == 0) {
			continue;
		}
		k->result.granules++;
		/* Looked at twice: an evictor may have come in between. */
		if (!is_right(p, g, slot, k->block) && map_get(&p->map, g) == slot &&
			!is_right(p, g, slot, k->block) && map_get(&p->map, g) == slot) {
			blobdir_unverify(p->dir);
			(void)map_drop(&p->map, g, slot);
			blobdir_unverify(p->dir); /* for who verified it meanwhile */
			k->result.bad++;
		}
	}
}

/* Punches granule @g if bytes are stored for it although it is absent or all zeros. */
static void free_leaked(struct checkup *k, struct patient *p, uint64_t g)
{
	struct stat before;
	struct stat after;
	uint32_t slot;

	if (!map_lock(&p->map, g, 1)) {
		return; /* somebody is filling it */
	}
	slot = map_get(&p->map, g);
	if ((slot == 0 || slot == map_zero(&p->map, g)) && !lent_is_marked(p->dir) &&
		fstat(p->data, &before) == 0 &&
		fallocate(p->data, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(g * CACHE_GRANULE), CACHE_GRANULE) == 0 &&
		fstat(p->data, &after) == 0 && after.st_blocks < before.st_blocks) {
		k->result.leaked += (uint64_t)(before.st_blocks - after.st_blocks) * 512;
	}
	map_unlock(&p->map, g, 1);
}

static void check_leaks(struct checkup *k, struct patient *p)
{
	uint64_t pos = 0;

	while (pos < p->size) {
		off_t data = lseek(p->data, (off_t)pos, SEEK_DATA);
		uint64_t g;
		uint32_t slot;

		if (data < 0 || (uint64_t)data >= p->size) {
			break;
		}
		g = (uint64_t)data / CACHE_GRANULE;
		slot = map_get(&p->map, g);
		if (slot == 0 || slot == map_zero(&p->map, g)) {
			free_leaked(k, p, g);
		}
		pos = (g + 1) * CACHE_GRANULE;
	}
}

static bool check_object(struct checkup *k, const struct store_object *o)
{
	struct store_meta meta;
	struct patient p;
	bool whole;

	if (store_meta_read(o->fd, &meta, NULL) < 0) {
		return false;
	}
	p.dir = o->fd;
	p.size = meta.size;
	whole = map_open(o->fd, "map", meta.size, meta.gen, false, &p.map, NULL) == 0;
	store_meta_clear(&meta);
	if (!whole) {
		return false;
	}
	p.data = openat(o->fd, "data", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (p.data >= 0) {
		check_granules(k, &p);
		check_leaks(k, &p);
		close(p.data);
	}
	map_close(&p.map, false);
	return p.data >= 0;
}

static int verify_one(void *ctx, const char *hash)
{
	struct checkup *k = ctx;
	struct store_object o;

	if (store_object_open(k->store, hash, false, &o, NULL) < 0) {
		return 0;
	}
	if (o.exclusive) {
		lent_settle_unused(o.fd);
	}
	store_object_share(&o); /* checking takes long, and others may want it */
	k->result.objects++;
	if (!check_object(k, &o) && store_object_exclude(&o)) {
		/* Nothing in it can be believed. */
		k->result.leaked += evict_object_used(o.fd);
		(void)store_object_delete(k->store, &o, NULL);
		return 0;
	}
	store_object_close(&o);
	return 0;
}

int cache_verify(struct cache *c, struct cache_verify_result *ret, struct err *e)
{
	struct checkup k = { .store = face_store(c) };
	CLEANUP_FREE uint8_t *block = NULL;
	int r;

	if (!k.store) {
		*ret = k.result;
		return 0;
	}
	if (k.store->readonly) {
		return err_set(e, -EROFS, "the cache directory is read-only");
	}
	block = malloc(CACHE_GRANULE);
	if (!block) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	k.block = block;
	r = store_each(k.store, verify_one, &k, e);
	if (r == 0) {
		*ret = k.result;
	}
	return r;
}
