/* SPDX-License-Identifier: Apache-2.0 */
/* Opening an object's files: taking them up where they fit the image, emptying them where not. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "cache/blobdir.h"
#include "cache/disk_object.h"
#include "cache/lent.h"
#include "core/bytes.h"
#include "core/cleanup.h"

/* How long somebody who only looks at the object may be in the way. */
#define EXCLUDE_PATIENCE_MS 300U
#define EXCLUDE_STEP_MS     10U

static int open_data(struct disk *d, bool create, struct err *e)
{
	int flags = (d->map.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW;

	d->data = openat(d->where.fd, "data", flags | (create ? O_CREAT : 0), 0600);
	if (d->data < 0) {
		return err_sys(e, errno, "cache data: open");
	}
	return 0;
}

/* The file may have been lent: whoever still reads it is to see nothing of what comes. First goes
 * the file, and then the mark that tells others to spare it. */
static int unlink_data(struct disk *d, struct err *e)
{
	if (unlinkat(d->where.fd, "data", 0) < 0 && errno != ENOENT) {
		return err_sys(e, errno, "cache data: unlink");
	}
	lent_unmark(d->where.fd);
	return 0;
}

static int reset_data(struct disk *d, struct err *e)
{
	int flags;
	int r;

	d->map.readonly = false;
	r = unlink_data(d, e);
	if (r == 0) {
		r = open_data(d, true, e);
	}
	if (r < 0) {
		return r;
	}
	if (ioctl(d->data, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL; /* random writes and holes: copy-on-write only fragments */
		(void)ioctl(d->data, FS_IOC_SETFLAGS, &flags);
	}
	if (ftruncate(d->data, (off_t)d->object.size) < 0) {
		return err_sys(e, errno, "cache data: truncate");
	}
	return 0;
}

/* What was learned from other bytes is not to survive them. */
static int drop_records(int dirfd, struct err *e)
{
	int r = store_object_drop_records(dirfd);

	return r < 0 ? err_sys(e, r, "cache: old records") : 0;
}

/* Empties the object: a new generation, under which no old word or byte means anything. */
static int reset(struct disk *d, const struct store_meta *want, struct err *e)
{
	struct store_meta meta = *want;
	int r;

	if (getrandom(&meta.gen, sizeof(meta.gen), 0) != sizeof(meta.gen)) {
		return err_sys(e, errno, "no random numbers");
	}
	r = drop_records(d->where.fd, e);
	if (r == 0) {
		r = reset_data(d, e);
	}
	if (r == 0) {
		r = map_create(d->where.fd, "map", d->object.size, meta.gen, &d->map, e);
	}
	if (r == 0) {
		r = store_meta_write(d->where.fd, &meta, e);
	}
	return r;
}

/* Whoever lists, peeks or evicts holds the object for a moment only. */
static bool become_exclusive(struct disk *d)
{
	for (unsigned int ms = 0; ms < EXCLUDE_PATIENCE_MS; ms += EXCLUDE_STEP_MS) {
		if (store_object_exclude(&d->where)) {
			return true;
		}
		usleep(EXCLUDE_STEP_MS * 1000);
	}
	return false;
}

/* Makes what is there @want->size bytes long, unless somebody may be reading it. What goes wrong
 * shows when it is opened. */
static void resize(struct disk *d, const struct store_meta *want)
{
	struct store_meta have;
	CLEANUP_CLOSE int data = -1;

	if (store_meta_read(d->where.fd, &have, NULL) < 0) {
		return;
	}
	if (strcmp(have.key, want->key) == 0 && strcmp(have.id, want->id) == 0 &&
		have.size != want->size && become_exclusive(d) && !lent_is_marked(d->where.fd)) {
		data = openat(d->where.fd, "data", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (data >= 0 &&
			map_resize(d->where.fd, "map", have.size, want->size, have.gen, NULL) ==
				0 &&
			ftruncate(data, (off_t)want->size) == 0) {
			have.size = want->size;
			(void)store_meta_write(d->where.fd, &have, NULL);
		}
	}
	store_meta_clear(&have);
}

/* Opens what is there. False: it is of another image, or damaged. */
static bool resume(struct disk *d, const struct store_meta *want, bool readonly)
{
	struct store_meta have;
	bool fits;

	if (store_meta_read(d->where.fd, &have, NULL) < 0) {
		return false;
	}
	fits = strcmp(have.key, want->key) == 0 && strcmp(have.id, want->id) == 0 &&
	       have.size == want->size &&
	       map_open(d->where.fd, "map", have.size, have.gen, readonly, &d->map, NULL) == 0;
	store_meta_clear(&have);
	if (!fits) {
		return false;
	}
	if (open_data(d, !readonly, NULL) < 0) {
		map_close(&d->map, false);
		return false;
	}
	d->object.absent = d->object.granules - min_u64(map_count(&d->map), d->object.granules);
	return true;
}

static int attach(struct disk *d, const struct store_meta *want, unsigned int flags, bool readonly,
	struct err *e)
{
	if (d->where.exclusive) {
		lent_settle_unused(d->where.fd);
	}
	if ((flags & DISK_RESIZE) && !readonly) {
		resize(d, want);
	}
	if (!(flags & DISK_FRESH) && resume(d, want, readonly)) {
		return 0;
	}
	if (!become_exclusive(d)) {
		return err_set(e, -EBUSY,
			"another process has another version of this image in the cache open");
	}
	return reset(d, want, e);
}

static int prepare(struct disk *d, uint64_t size, struct err *e)
{
	d->object.ops = &disk_ops;
	d->object.size = size;
	d->object.granules = object_granules(size);
	d->object.absent = d->object.granules;
	d->object.mode = "disk";
	if (bits_init(&d->verified, d->object.granules) < 0 ||
		bits_init(&d->bad, d->object.granules) < 0 ||
		bits_init(&d->kept.touched, size / EVICT_SEGMENT + 1) < 0 ||
		memory_open(d->env.memory, size, false, &d->spill) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* Lets the object be found, and used by others. */
static void announce(struct disk *d, unsigned int flags)
{
	if (flags & DISK_PINNED) {
		store_object_pin(&d->where);
	}
	store_object_share(&d->where);
	if (!d->map.readonly) {
		store_object_touch(&d->where);
	}
	d->kept.where = &d->where;
	d->kept.data = d->data;
	d->kept.absent = &d->object.absent;
	keeper_add(d->env.keeper, &d->kept);
}

int disk_open(const struct disk_env *env, const struct store_meta *want, unsigned int flags,
	struct object **ret, struct err *e)
{
	struct disk *d = calloc(1, sizeof(*d));
	char hash[STORE_HASH + 1];
	int r;

	if (!d) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	d->data = -1;
	d->guard = -1;
	d->where = (struct store_object){ .fd = -1, .lock = -1 };
	d->env = *env;
	store_hash(want->key, hash);
	r = prepare(d, want->size, e);
	if (r == 0) {
		r = store_object_open(env->store, hash, true, &d->where, e);
	}
	if (r == 0) {
		r = attach(d, want, flags, env->store->readonly, e);
	}
	if (r == 0 && blobdir_new(d->where.fd, &d->object.blobs) < 0) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		disk_free(d, false);
		return r;
	}
	announce(d, flags);
	*ret = &d->object;
	return 0;
}
