/* SPDX-License-Identifier: Apache-2.0 */
/* A short list of granules, searched from its beginning, and the thread that stores them. */
#include "cache/parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"

/* Granules that may wait to be stored: 8 MiB. */
#define WHOLE_MOST 128U
/* Unfinished granules that are remembered. */
#define EDGES_MOST 32U
/* Granules stored at a time. */
#define BATCH 16U

static size_t length(const struct parts *p, const struct part *part)
{
	return object_granule_len(p->flight->object, part->granule);
}

static void drop(struct parts *p, struct part *part)
{
	struct part **link = &p->list;

	while (*link != part) {
		link = &(*link)->next;
	}
	*link = part->next;
	pool_put(p->flight->pool, part->block);
	free(part);
}

static void drop_oldest_edge(struct parts *p)
{
	struct part *part = p->list;

	while (part->state != PART_EDGE) {
		part = part->next;
	}
	p->edges--;
	drop(p, part);
}

size_t parts_copy(const struct parts *p, uint8_t *buf, size_t len, uint64_t off)
{
	size_t done = 0;
	bool found = true;

	while (done < len && found) {
		uint64_t g = (off + done) / CACHE_GRANULE;
		size_t within = (off + done) % CACHE_GRANULE;

		found = false;
		for (const struct part *part = p->list; part && !found; part = part->next) {
			if (part->granule == g && part->lo <= within && within < part->hi) {
				size_t n = min_u64(len - done, part->hi - within);

				memcpy(buf + done, part->block + within, n);
				done += n;
				found = true;
			}
		}
	}
	return done;
}

size_t parts_reach(const struct parts *p, uint64_t off)
{
	uint64_t g = off / CACHE_GRANULE;
	size_t within = off % CACHE_GRANULE;

	for (const struct part *part = p->list; part; part = part->next) {
		if (part->granule == g && part->lo <= within && within < part->hi) {
			return part->hi - within;
		}
	}
	return 0;
}

bool parts_is_whole(const struct parts *p, uint64_t g)
{
	const struct part *part = p->list;

	while (part && (part->granule != g || part->state < PART_WHOLE)) {
		part = part->next;
	}
	return part != NULL;
}

struct part *parts_begin(struct parts *p, uint64_t g, size_t within)
{
	struct part **link = &p->list;
	struct part *part;

	for (part = p->list; part; part = part->next) {
		if (part->granule == g && part->state == PART_EDGE && part->lo < part->hi &&
			part->hi == within) {
			part->state = PART_GROWING;
			p->edges--;
			return part;
		}
	}
	part = calloc(1, sizeof(*part));
	if (!part) {
		return NULL;
	}
	part->block = pool_get(p->flight->pool);
	if (!part->block) {
		free(part);
		return NULL;
	}
	part->granule = g;
	part->lo = within;
	part->hi = within;
	while (*link) {
		link = &(*link)->next;
	}
	*link = part;
	return part;
}

/* Takes over what another stream left of the same granule, where the two meet. */
static void merge(struct parts *p, struct part *part)
{
	struct part *other = p->list;

	while (other &&
		(other == part || other->granule != part->granule || other->state != PART_EDGE ||
			other->hi < part->lo || part->hi < other->lo)) {
		other = other->next;
	}
	if (!other) {
		return;
	}
	if (other->lo < part->lo) {
		memcpy(part->block + other->lo, other->block + other->lo, part->lo - other->lo);
		part->lo = other->lo;
	}
	if (other->hi > part->hi) {
		memcpy(part->block + part->hi, other->block + part->hi, other->hi - part->hi);
		part->hi = other->hi;
	}
	p->edges--;
	drop(p, other);
}

void parts_settle(struct parts *p, struct part *part)
{
	assert(part->state == PART_GROWING);
	merge(p, part);
	if (part->lo == 0 && part->hi == length(p, part)) {
		part->state = PART_WHOLE;
		p->whole++;
		pthread_cond_broadcast(&p->changed);
	} else if (part->lo == part->hi) {
		drop(p, part);
	} else {
		part->state = PART_EDGE;
		p->edges++;
		if (p->edges > EDGES_MOST) {
			drop_oldest_edge(p);
		}
	}
}

void parts_throttle(struct parts *p, const bool *stop)
{
	while (p->whole >= WHOLE_MOST && !*stop) {
		pthread_cond_wait(&p->changed, p->lock);
	}
}

/* The first part of these granules that is in one of the states from @least to @most. */
static struct part *find_done(const struct parts *p, uint64_t first, uint64_t count,
	enum part_state least, enum part_state most)
{
	struct part *part = p->list;

	while (part && (part->granule < first || part->granule - first >= count ||
			       part->state < least || part->state > most)) {
		part = part->next;
	}
	return part;
}

static void drop_done(struct parts *p, uint64_t first, uint64_t count)
{
	struct part *part;
	bool dropped = false;

	while ((part = find_done(p, first, count, PART_EDGE, PART_WHOLE))) {
		p->edges -= part->state == PART_EDGE;
		p->whole -= part->state == PART_WHOLE;
		drop(p, part);
		dropped = true;
	}
	if (dropped) {
		pthread_cond_broadcast(&p->changed);
	}
}

void parts_forget(struct parts *p, uint64_t first, uint64_t count)
{
	drop_done(p, first, count);
	/* While one is being stored, streams of the units beside may leave more. */
	while (find_done(p, first, count, PART_STORING, PART_STORING)) {
		pthread_cond_wait(&p->changed, p->lock);
		drop_done(p, first, count);
	}
}

/* --- storing --- */

static struct part *find_whole(const struct parts *p, uint64_t granule, bool any)
{
	struct part *part = p->list;

	while (part && (part->state != PART_WHOLE || (!any && part->granule != granule))) {
		part = part->next;
	}
	return part;
}

/* A run of neighbours, from the oldest on. */
static unsigned int take_run(const struct parts *p, struct part **run)
{
	unsigned int n = 0;
	struct part *part = find_whole(p, 0, true);

	while (part && n < BATCH) {
		part->state = PART_STORING;
		run[n++] = part;
		part = find_whole(p, part->granule + 1, false);
	}
	return n;
}

/* What streams brought counts as fetched ahead until somebody reads it. */
static void count_kept(struct flight *fl, uint64_t granule)
{
	if (!bits_set(&fl->ahead, granule)) {
		atomic_fetch_add(&fl->counts.prefetched, object_granule_len(fl->object, granule));
	}
}

static void store(struct flight *fl, struct part *const *run, unsigned int n)
{
	struct object *o = fl->object;
	uint64_t first = run[0]->granule;
	uint8_t *blocks[BATCH];

	for (unsigned int i = 0; i < n; i++) {
		blocks[i] = run[i]->block;
		count_kept(fl, first + i);
	}
	if (o->ops->claim && !o->ops->claim(o, first, n)) {
		return; /* another process is at it */
	}
	o->ops->put(o, first, blocks, n);
	if (o->ops->unclaim) {
		o->ops->unclaim(o, first, n);
	}
}

static void *storer_main(void *arg)
{
	struct parts *p = arg;
	struct part *run[BATCH];
	LOCK_SCOPE(p->lock);

	pthread_setname_np(pthread_self(), "cache-store");
	while (!p->quit || p->whole > 0) {
		unsigned int n = take_run(p, run);

		if (n == 0) {
			pthread_cond_wait(&p->changed, p->lock);
			continue;
		}
		pthread_mutex_unlock(p->lock);
		store(p->flight, run, n);
		pthread_mutex_lock(p->lock);
		for (unsigned int i = 0; i < n; i++) {
			drop(p, run[i]);
		}
		p->whole -= n;
		p->stored += n;
		pthread_cond_broadcast(&p->changed);
		pthread_cond_broadcast(p->progress);
	}
	return NULL;
}

int parts_init(struct parts *p, struct flight *fl, pthread_mutex_t *lock, pthread_cond_t *progress,
	struct err *e)
{
	int r;

	*p = (struct parts){ .flight = fl, .lock = lock, .progress = progress };
	pthread_cond_init(&p->changed, NULL);
	r = pthread_create(&p->storer, NULL, storer_main, p);
	if (r != 0) {
		pthread_cond_destroy(&p->changed);
		return err_sys(e, r, "cannot start a thread");
	}
	return 0;
}

void parts_fini(struct parts *p)
{
	pthread_mutex_lock(p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(p->lock);
	pthread_join(p->storer, NULL);
	while (p->list) {
		drop(p, p->list);
	}
	pthread_cond_destroy(&p->changed);
}
