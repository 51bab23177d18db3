/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the data file of an object is all of the image, and proven to be, others may read it without
 * us. What we check at each read is then to be true of all of it, and to stay so: every granule was
 * seen right by this process, the zeros are zeros in the file too, what was written has reached the
 * disk (a write that the disk loses would be noticed here, but not there), and nobody evicts: the
 * map is guarded as long as the file is lent, and the file marked for as long as somebody may read
 * it (see lent.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/disk_object.h"
#include "cache/lent.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

/* The file is compared in pieces of this size. */
#define PIECE CACHE_GRANULE
/* The kernel says that a file is closed a moment before it lets go of it. */
#define SETTLE_MS 5

static bool is_whole(const struct disk *d)
{
	for (uint64_t g = 0; g < d->object.granules; g++) {
		if (!bits_test(&d->verified, g) && map_get(&d->map, g) != map_zero(&d->map, g)) {
			return false;
		}
		if (map_get(&d->map, g) == 0 || bits_test(&d->bad, g)) {
			return false;
		}
	}
	return true;
}

static bool may_lend(const struct disk *d)
{
	return !d->map.readonly && !d->kept.doubted && !d->spilled;
}

/* Whether the file reads as zeros where granule @g is one of zeros. */
static bool zero_in_file(const struct disk *d, uint64_t g, uint8_t *buf)
{
	size_t len = object_granule_len(&d->object, g);

	return map_get(&d->map, g) != map_zero(&d->map, g) ||
	       (rw_pread(d->data, buf, len, g * CACHE_GRANULE) == 0 && is_zero(buf, len));
}

/* Bytes without a word that asks for them are left by an eviction that a crash cut short. */
static bool zeros_are_zeros(const struct disk *d)
{
	CLEANUP_FREE uint8_t *buf = malloc(PIECE);
	uint64_t pos = 0;

	while (buf && pos < d->object.size) {
		off_t data = lseek(d->data, (off_t)pos, SEEK_DATA);
		off_t hole;

		if (data < 0) {
			return errno == ENXIO;
		}
		hole = lseek(d->data, data, SEEK_HOLE);
		if (hole < 0) {
			return false;
		}
		for (uint64_t g = (uint64_t)data / CACHE_GRANULE;
			g < div_round_up((uint64_t)hole, CACHE_GRANULE); g++) {
			if (!zero_in_file(d, g, buf)) {
				return false;
			}
		}
		pos = (uint64_t)hole;
	}
	return buf != NULL;
}

static bool prove(struct disk *d)
{
	struct stat st;

	return fdatasync(d->data) == 0 && fstat(d->data, &st) == 0 &&
	       (uint64_t)st.st_size == d->object.size && zeros_are_zeros(d) && !d->kept.doubted;
}

static void drop_guard(struct disk *d)
{
	close(d->guard);
	d->guard = -1;
}

int disk_lend(struct object *o, bool may_wait, int *ret_fd)
{
	struct disk *d = (struct disk *)o;
	uint64_t now;

	/* The first look is for those who fill: they are not to wait for a guard that cannot help.
	 */
	if (!may_lend(d) || !is_whole(d) || !map_guard(&d->map, d->where.fd, "map", &d->guard)) {
		return -EAGAIN;
	}
	now = map_epoch(&d->map) + 1;
	if (is_whole(d) && may_wait && d->proven != now && prove(d)) {
		d->proven = now;
	}
	if (!is_whole(d) || d->proven != now || (!may_wait && lent_mark(d->where.fd) < 0)) {
		drop_guard(d);
		return -EAGAIN;
	}
	*ret_fd = d->data;
	return 0;
}

void disk_unlend(struct object *o, bool closed)
{
	struct disk *d = (struct disk *)o;

	if (closed) {
		lent_settle(d->where.fd, d->data, SETTLE_MS);
	}
	drop_guard(d);
}
