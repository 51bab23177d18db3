/* SPDX-License-Identifier: Apache-2.0 */
/* First touches, with a clock that makes nothing of waiting for nothing. */
#include "cache/tracer.h"

#include <errno.h>
#include <stdlib.h>

#include "cache/cache.h"
#include "core/bytes.h"
#include "core/cleanup.h"

#define MS UINT64_C(1000000)
/* The most that a pause between two touches counts: a machine may be started long after the mount,
 * and wait for its network in the middle. */
#define PAUSE_NS (5000 * MS)
/* A boot is over by then. */
#define BOOT_NS       (300000 * MS)
#define BOOT_GRANULES (MIB(512) / CACHE_GRANULE)

int tracer_init(struct tracer *t, uint64_t granules)
{
	*t = (struct tracer){ .granules = granules };
	/* Who reads most of an image is served better by fetching it as a whole. */
	t->most = min_u64(BOOT_GRANULES, granules - granules / 4);
	if (bits_init(&t->seen, granules) < 0) {
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock, NULL);
	atomic_store(&t->on, true);
	return 0;
}

void tracer_fini(struct tracer *t)
{
	if (t->seen.base) {
		bits_fini(&t->seen);
		pthread_mutex_destroy(&t->lock);
		free(t->entries);
	}
}

static void advance(struct tracer *t, uint64_t now_ns)
{
	if (t->last_ns) {
		t->clock_ns += min_u64(now_ns - min_u64(now_ns, t->last_ns), PAUSE_NS);
	}
	t->last_ns = max_u64(max_u64(now_ns, 1), t->last_ns);
}

/* Lock held. False: there is no room for more. */
static bool append(struct tracer *t, uint64_t granule)
{
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 256;
		void *more = reallocarray(t->entries, room, sizeof(*t->entries));

		if (!more) {
			return false;
		}
		t->entries = more;
		t->room = room;
	}
	t->entries[t->count++] =
		(struct trace_entry){ (uint32_t)granule, (uint32_t)(t->clock_ns / MS), 1 };
	return t->count < t->most;
}

static void note(struct tracer *t, uint64_t granule, uint64_t now_ns)
{
	LOCK_SCOPE(&t->lock);

	if (!tracer_is_on(t) || bits_set(&t->seen, granule)) {
		return;
	}
	advance(t, now_ns);
	if (t->clock_ns > BOOT_NS || !append(t, granule)) {
		atomic_store(&t->on, false);
	}
}

void tracer_touch(struct tracer *t, uint64_t off, uint64_t len, uint64_t now_ns)
{
	uint64_t end = div_round_up(off + len, CACHE_GRANULE);

	for (uint64_t g = off / CACHE_GRANULE; g < end; g++) {
		if (!bits_test(&t->seen, g)) {
			note(t, g, now_ns);
		}
	}
}

size_t tracer_count(struct tracer *t)
{
	LOCK_SCOPE(&t->lock);

	return t->count;
}

size_t tracer_foretold(struct tracer *t, const struct bits *known)
{
	LOCK_SCOPE(&t->lock);
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++) {
		n += bits_test(known, t->entries[i].granule);
	}
	return n;
}

int tracer_merge(struct tracer *t, const struct trace *old, struct trace *ret)
{
	LOCK_SCOPE(&t->lock);

	return trace_merge(old, t->entries, t->count, ret);
}
