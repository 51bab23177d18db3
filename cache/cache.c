/* SPDX-License-Identifier: Apache-2.0 */
/* The face of the folder: the cache as a whole, and the image that it puts over a slow one. */
#include "cache/cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_image.h"
#include "cache/disk.h"
#include "cache/evict.h"
#include "cache/face.h"
#include "cache/fill.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/workq.h"

#define DEFAULT_FETCHES 32U
#define STORERS         4U
#define DEFAULT_MEMORY  MIB(48)
/* Memory for what a cache directory does not take. */
#define SPILL     MIB(40)
#define IN_FLIGHT MIB(48)
/* How often a read looks again for bytes that are neither here nor on their way. */
#define READ_TRIES 8U

static int start_queues(struct cache *c, struct err *e)
{
	unsigned int n = c->opts.fetches ? c->opts.fetches : DEFAULT_FETCHES;
	unsigned int ahead = n > 4 ? n * 5 / 8 : 1;
	/* One more than asked for when there is only one, so that readahead is never in the way. */
	unsigned int threads = n > 1 ? n : 2;
	const unsigned int limits[WORKQ_PRIORITIES] = { 0, ahead, ahead > 1 ? ahead * 3 / 4 : 1,
		ahead > 4 ? ahead / 4 : 1 };

	const unsigned int none[WORKQ_PRIORITIES] = { 0 };
	int r = workq_new("cache-fetch", threads, limits, &c->queue, e);

	return r < 0 ? r : workq_new("cache-store", STORERS, none, &c->storing, e);
}

static int use_directory(struct cache *c, const char *dir, struct err *e)
{
	int r;

	if (c->opts.existing && !store_exists(dir)) {
		return err_set(e, -ENOENT, "%s: not a cache directory of lazydisk", dir);
	}
	r = store_open(dir, &c->store, e);
	if (r == 0) {
		r = keeper_new(c->store, c->opts.max_size, c->opts.min_free, &c->keeper, e);
	}
	if (r < 0) {
		store_close(c->store);
		c->store = NULL;
	}
	return r;
}

int cache_open(const struct cache_opts *opts, struct cache **ret, struct err *e)
{
	struct cache *c = calloc(1, sizeof(*c));
	uint64_t bound = opts->dir ? SPILL : opts->max_size ? opts->max_size : DEFAULT_MEMORY;
	struct err why = { 0 };
	int r;

	if (!c) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->opts = *opts;
	c->opts.dir = NULL;
	pool_init(&c->pool, opts->dir ? IN_FLIGHT : IN_FLIGHT / 2);
	r = memory_new(bound, &c->pool, &c->memory);
	if (r < 0) {
		cache_close(c);
		return err_set(e, r, "out of memory");
	}
	r = start_queues(c, e);
	if (r < 0) {
		cache_close(c);
		return r;
	}
	r = opts->dir ? use_directory(c, opts->dir, &why) : 0;
	if (r < 0 && opts->existing) {
		cache_close(c);
		return err_set(e, r, "%s", why.text);
	}
	if (r < 0) {
		log_warn("%s: caching in memory only", why.text);
	}
	*ret = c;
	return 0;
}

void cache_close(struct cache *c)
{
	if (!c) {
		return;
	}
	workq_free(c->queue);
	workq_free(c->storing);
	keeper_free(c->keeper);
	store_close(c->store);
	memory_free(c->memory);
	pool_clear(&c->pool);
	free(c);
}

int cache_peek(struct cache *c, const char *key, struct cache_known *ret, struct err *e)
{
	struct store_meta meta;
	struct store_object o;
	char hash[STORE_HASH + 1];
	int r;

	if (!c->store) {
		return err_set(e, -ENOENT, "nothing is cached");
	}
	store_hash(key, hash);
	r = store_object_open(c->store, hash, false, &o, e);
	if (r < 0) {
		return r == -ENOENT ? r : err_set(e, -ENOENT, "nothing usable is cached");
	}
	r = store_meta_read(o.fd, &meta, NULL);
	store_object_close(&o);
	if (r < 0 || strcmp(meta.key, key) != 0) {
		if (r == 0) {
			store_meta_clear(&meta);
		}
		return err_set(e, -ENOENT, "nothing usable is cached");
	}
	free(meta.key);
	*ret = (struct cache_known){ .id = meta.id, .size = meta.size };
	return 0;
}

/* --- the image --- */

/* Some reader asked for these bytes: what came ahead of it was of use. Whether some did because a
 * stream was expected to go on. */
static bool note_used(struct cache_image *ci, uint64_t off, size_t len)
{
	uint64_t last = (off + len - 1) / CACHE_GRANULE;
	bool guessed = false;

	for (uint64_t g = off / CACHE_GRANULE; g <= last; g++) {
		if (bits_reset(&ci->flight.ahead, g)) {
			atomic_fetch_add(
				&ci->flight.counts.used, object_granule_len(ci->object, g));
			guessed = true;
		}
		if (bits_reset(&ci->flight.replayed, g)) {
			atomic_fetch_add(
				&ci->flight.counts.foreseen, object_granule_len(ci->object, g));
		}
	}
	return guessed;
}

/* Reads [off, off + len), whose beginning was absent a moment ago and is in @f if that is not NULL.
 */
static int wait_for(struct cache_image *ci, struct fill *f, uint8_t *buf, size_t len, uint64_t off,
	struct err *e)
{
	unsigned int tries = 0;

	while (len > 0) {
		size_t n = 0;
		bool began;

		if (f) {
			int r = flight_serve(&ci->flight, f, buf, len, off, &n, e);

			if (r < 0) {
				return r;
			}
			tries = 0;
		} else if (flight_is_ending(&ci->flight)) {
			return err_set(e, -ECANCELED, "the image is being closed");
		} else if (++tries > READ_TRIES) {
			/* Neither here nor to be had by a fill: no memory. */
			return image_read_at(ci->img.below, buf, len, off, e);
		}
		buf += n;
		off += n;
		len -= n;
		n = len > 0 ? ci->object->ops->read(ci->object, buf, len, off) : 0;
		buf += n;
		off += n;
		len -= n;
		f = len > 0 ? flight_join(&ci->flight, off, len, 0, &began) : NULL;
	}
	return 0;
}

/* What the link and the past suggest now. */
static void look_at_link(struct cache_image *ci)
{
	struct flight *fl = &ci->flight;
	uint64_t cap = ci->cache->opts.readahead;
	LOCK_SCOPE(&fl->lock);

	planner_usage(
		&fl->planner, atomic_load(&fl->counts.prefetched), atomic_load(&fl->counts.used));
	ci->limits = (struct readahead_limits){
		.chunk = planner_chunk(&fl->planner),
		.window = planner_window(&fl->planner),
		.lone = planner_fill(&fl->planner, fl->waiting),
		.trust = planner_trust(&fl->planner),
	};
	if (cap) {
		ci->limits.window = min_u64(ci->limits.window, cap);
	}
}

/* Fetches what the stream of this read will want next. */
static void guess_ahead(struct cache_image *ci, const struct readahead_plan *plan, uint64_t chunk)
{
	uint64_t done;

	if (plan->len == 0) {
		return;
	}
	done = flight_readahead(&ci->flight, plan->off, plan->len, chunk);
	if (done < plan->len) {
		LOCK_SCOPE(&ci->guess_lock);
		readahead_cut(&ci->guesses, plan, done);
	}
}

/* Whether more than what is asked for may be fetched at all. */
static bool guesses(const struct cache_image *ci)
{
	return !ci->cache->opts.no_readahead && !ci->hinted;
}

/* Whether what is absent at @off, and after it, comes by itself. */
static bool is_foretold(const struct cache_image *ci, uint64_t off)
{
	return ci->warm && replay_foretells(&ci->warm->replay, off / CACHE_GRANULE);
}

/* Whether that @off is read was to be expected, and so says nothing about what is read next: if it
 * were to be expected, too, it would have come, too. */
static bool is_usual(const struct cache_image *ci, uint64_t off)
{
	return ci->warm && replay_knows(&ci->warm->replay, off / CACHE_GRANULE);
}

/* A read that found everything, which was @guessed: streams go on. Nobody waits for a lock for
 * that.
 */
static void note_hit(struct cache_image *ci, uint64_t off, size_t len, bool guessed)
{
	struct readahead_plan plan;
	uint64_t chunk;

	if (ci->units) {
		if (atomic_load_explicit(&ci->object->absent, memory_order_relaxed) > 0) {
			units_note(ci->units, off, len);
		}
		return;
	}
	if (!guesses(ci) || (is_usual(ci, off) && !guessed) || ci->spool ||
		atomic_load_explicit(&ci->object->absent, memory_order_relaxed) == 0 ||
		pthread_mutex_trylock(&ci->guess_lock) != 0) {
		return;
	}
	plan = readahead_note(&ci->guesses, off, len, false, &ci->limits);
	chunk = ci->limits.chunk;
	pthread_mutex_unlock(&ci->guess_lock);
	guess_ahead(ci, &plan, chunk);
}

/* A miss that is of no stream: about @lone bytes around it are fetched, those behind it in the same
 * fetch, those before it apart. Places are multiples of the size, so that neighbours agree. */
static struct fill *fetch_around(
	struct cache_image *ci, uint64_t off, size_t len, uint64_t lone, bool *ret_began)
{
	uint64_t start = round_down(off, lone);
	uint64_t end = max_u64(start + lone, off + len);
	struct fill *f = flight_join(&ci->flight, off, len, end - off - len, ret_began);

	if (*ret_began && start < round_down(off, CACHE_GRANULE)) {
		(void)flight_readahead(&ci->flight, start, off - start, lone);
	}
	return f;
}

/* Gets [off, off + len) of a read that began at @start on its way, and what it makes likely. */
static struct fill *send_for(
	struct cache_image *ci, uint64_t start, uint64_t off, size_t len, bool *ret_began)
{
	struct readahead_plan plan;
	uint64_t chunk;
	uint64_t lone;
	struct fill *f;

	if (!guesses(ci) || is_foretold(ci, off)) {
		return flight_join(&ci->flight, off, len, 0, ret_began);
	}
	pthread_mutex_lock(&ci->guess_lock);
	look_at_link(ci);
	plan = readahead_note(&ci->guesses, start, off + len - start, true, &ci->limits);
	chunk = ci->limits.chunk;
	lone = ci->limits.lone;
	pthread_mutex_unlock(&ci->guess_lock);
	if (plan.stream) {
		f = flight_join(&ci->flight, off, len, 0, ret_began);
		guess_ahead(ci, &plan, chunk);
	} else {
		f = fetch_around(ci, off, len, lone, ret_began);
	}
	return f;
}

static int read_absent(struct cache_image *ci, uint8_t *buf, size_t len, uint64_t start,
	uint64_t off, struct err *e)
{
	struct fill *f;
	bool began;

	if (ci->spool) {
		atomic_fetch_add(&ci->counts.joined, 1);
		return spool_read(ci->spool, buf, len, off, e);
	}
	if (ci->units) {
		int r = units_read(ci->units, buf, len, off, e);

		atomic_fetch_add(&ci->counts.joined, 1);
		units_note(ci->units, start, off + len - start);
		return r;
	}
	f = send_for(ci, start, off, len, &began);
	atomic_fetch_add(began ? &ci->counts.misses : &ci->counts.joined, 1);
	return wait_for(ci, f, buf, len, off, e);
}

static int cache_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct cache_image *ci = (struct cache_image *)img;
	uint64_t began_ns;
	size_t n;
	int r;

	if (ci->warm) {
		r = cache_image_check(img, e);
		if (r < 0) {
			return r;
		}
		warm_touch(ci->warm, off, len);
	}
	if (ci->units && (r = units_check(ci->units, len, off, e)) < 0) {
		return r;
	}
	n = ci->object->ops->read(ci->object, buf, len, off);
	if (n == len) {
		note_hit(ci, off, len, note_used(ci, off, len));
		atomic_fetch_add_explicit(&ci->counts.hits, 1, memory_order_relaxed);
		return 0;
	}
	began_ns = fill_now();
	(void)note_used(ci, off, len);
	r = read_absent(ci, (uint8_t *)buf + n, len - n, off, off + n, e);
	atomic_fetch_add(&ci->counts.waits, 1);
	atomic_fetch_add(&ci->counts.wait_ns, fill_now() - began_ns);
	return r;
}

/* Who looks here is no guest: boots, guesses and counts know nothing of it. */
static int cache_peek_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct cache_image *ci = (struct cache_image *)img;

	if (flight_is_ending(&ci->flight)) {
		return err_set(e, -ECANCELED, "the image is being closed");
	}
	return ci->object->ops->read(ci->object, buf, len, off) == len
		       ? 0
		       : err_set(e, -EAGAIN, "not all of the image is here");
}

static void cache_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	struct cache_image *ci = (struct cache_image *)img;

	if (ci->units) {
		units_hint(ci->units, off, len);
	} else if (!ci->spool) {
		flight_hint(&ci->flight, off, len);
	}
}

static void cache_interrupt(struct image *img)
{
	struct cache_image *ci = (struct cache_image *)img;

	flight_interrupt(&ci->flight);
	if (ci->spool) {
		spool_interrupt(ci->spool);
	}
	if (ci->units) {
		units_interrupt(ci->units);
	}
}

static int cache_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	return image_extent_at(img->below, off, ret, e);
}

static int cache_final_size(struct image *img, uint64_t *ret)
{
	return image_final_size(img->below, ret);
}

static int cache_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

/* Whoever decoded most of a unit proves it for the rest of that, and others for all of it anew. */
static int cache_prove(struct image *img, struct err *e)
{
	struct cache_image *ci = (struct cache_image *)img;

	(void)e;
	if (ci->units) {
		units_finish(ci->units);
	}
	return 0;
}

/* What has to be proven was handed over by the decoder, which says so itself. */
static bool cache_owes_proof(const struct image *img)
{
	(void)img;
	return false;
}

static int cache_lend_file(struct image *img, int *ret_fd)
{
	struct cache_image *ci = (struct cache_image *)img;

	/* Who reads past us is not told when the whole turns out to be something else. */
	if ((ci->warm && warm_doubts(ci->warm)) || (ci->units && units_doubt(ci->units))) {
		return -EAGAIN;
	}
	return lender_lend(&ci->lender, ret_fd);
}

static void cache_return_file(struct image *img, bool closed)
{
	lender_return(&((struct cache_image *)img)->lender, closed);
}

static void cache_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	listener_set(&((struct cache_image *)img)->flight.withdrawn, fn, ctx);
}

static void cache_destroy(struct image *img)
{
	struct cache_image *ci = (struct cache_image *)img;
	bool wrong = ci->warm && warm_refuses(ci->warm);

	image_interrupt(img);
	warm_stop(ci->warm);
	lender_fini(&ci->lender);
	spool_free(ci->spool);
	units_free(ci->units);
	flight_fini(&ci->flight);
	cache_image_close_object(ci, wrong);
	free(ci->key);
	pthread_mutex_destroy(&ci->guess_lock);
	image_fini(img);
	free(ci);
}

static const struct image_ops cache_ops = {
	.name = "cache",
	.read_at = cache_read_at,
	.peek_at = cache_peek_at,
	.extent_at = cache_extent_at,
	.allocated = cache_allocated,
	.final_size = cache_final_size,
	.prefetch = cache_prefetch,
	.prove = cache_prove,
	.owes_proof = cache_owes_proof,
	.report = cache_image_tell,
	.interrupt = cache_interrupt,
	.listen = cache_listen,
	.distrust = cache_image_distrust,
	.lend_file = cache_lend_file,
	.return_file = cache_return_file,
	.destroy = cache_destroy,
};

enum engine {
	ENGINE_FILLS, /* reads are cheap anywhere */
	ENGINE_SPOOL, /* one stream, from 0 on */
	ENGINE_UNITS, /* decoded unit by unit */
};

static int choose_engine(struct image *below, enum engine *ret, struct err *e)
{
	uint64_t start;
	uint64_t len = 0;
	int r = 0;

	if (below->ops->unit_at && below->size > 0) {
		r = image_unit_at(below, 0, &start, &len, e);
		*ret = len > 0 ? ENGINE_UNITS : ENGINE_FILLS;
	} else {
		*ret = below->flags & IMAGE_SEQUENTIAL ? ENGINE_SPOOL : ENGINE_FILLS;
	}
	return r;
}

static int open_in_memory(struct cache *c, struct image *below, enum engine engine,
	struct object **ret, struct err *e)
{
	int r;

	if (engine == ENGINE_SPOOL && below->size > memory_limit(c->memory)) {
		return err_set(e, -ENOTSUP,
			"this image of %" PRIu64
			" bytes can only be read from its beginning on: it needs a cache directory",
			below->size);
	}
	r = memory_open(c->memory, below->size, c->opts.once && engine == ENGINE_FILLS, ret);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int open_object(struct cache *c, const char *key, struct image *below, enum engine engine,
	struct object **ret, struct err *e)
{
	struct err why = { 0 };
	struct store_meta want = { .size = below->size };
	const struct disk_env env = { c->store, c->keeper, c->memory, &c->pool };
	unsigned int flags;
	int r;

	if (!c->store) {
		return open_in_memory(c, below, engine, ret, e);
	}
	want.key = strdup(key);
	want.id = strdup(below->id);
	if (!want.key || !want.id) {
		store_meta_clear(&want);
		return err_set(e, -ENOMEM, "out of memory");
	}
	flags = below->flags & IMAGE_UNVERSIONED ? DISK_FRESH : 0;
	flags |= engine == ENGINE_SPOOL ? DISK_PINNED : 0;
	/* Its size was only assumed, maybe, when it was cached. */
	flags |= engine == ENGINE_UNITS ? DISK_RESIZE : 0;
	r = disk_open(&env, &want, flags, ret, &why);
	if (r == -ENOSPC || r == -EDQUOT) {
		(void)keeper_prune(c->keeper, evict_used(c->store) / 8 * 7);
		r = disk_open(&env, &want, flags, ret, &why);
	}
	store_meta_clear(&want);
	if (r < 0) {
		r = open_in_memory(c, below, engine, ret, e);
		if (r < 0) {
			return err_wrap(e, r, "%s", why.text);
		}
		log_warn("%s: this image is cached in memory only", why.text);
	}
	return r;
}

static int start_engine(struct cache *c, struct cache_image *ci, enum engine engine, struct err *e)
{
	const struct units_opts opts = {
		.memory = strcmp(ci->object->mode, "memory") == 0 ? memory_limit(c->memory) : 0,
		.ahead = c->opts.readahead,
		.no_ahead = c->opts.no_readahead,
	};

	if (engine == ENGINE_UNITS) {
		return units_new(&ci->flight, &opts, &ci->units, e);
	}
	return engine == ENGINE_SPOOL ? spool_new(&ci->flight, &ci->spool, e) : 0;
}

/* Whether what is forgotten costs as much as all of it: the first unit is the whole, or more than
 * there is memory for. */
static bool is_forward(const struct cache *c, const struct cache_image *ci)
{
	struct image *below = ci->flight.below;
	uint64_t start;
	uint64_t len;

	return ci->units && strcmp(ci->object->mode, "memory") == 0 &&
	       image_unit_at(below, 0, &start, &len, NULL) == 0 &&
	       (len >= below->size || len > memory_limit(c->memory));
}

/* The cache under a decoder is told what comes next. */
static void stop_guessing_below(struct image *below)
{
	while (below && below->ops != &cache_ops) {
		below = below->below;
	}
	if (below) {
		((struct cache_image *)below)->hinted = true;
	}
}

int cache_image_open(
	struct cache *c, const char *key, struct image *below, struct image **ret, struct err *e)
{
	struct cache_image *ci = calloc(1, sizeof(*ci));
	enum engine engine = ENGINE_FILLS;
	int r;

	if (!ci) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = choose_engine(below, &engine, e);
	r = r < 0 ? r : open_object(c, key, below, engine, &ci->object, e);
	if (r < 0) {
		free(ci);
		return r;
	}
	r = flight_init(&ci->flight, below, ci->object, &c->pool, c->queue, c->storing);
	if (r < 0) {
		ci->object->ops->close(ci->object);
		free(ci);
		return err_set(e, r, "out of memory");
	}
	r = image_init(&ci->img, &cache_ops, below, below->size, below->id);
	if (r < 0) {
		(void)err_set(e, r, "out of memory");
	} else {
		r = start_engine(c, ci, engine, e);
	}
	if (r < 0) {
		free(ci->img.id);
		flight_fini(&ci->flight);
		ci->object->ops->close(ci->object);
		free(ci);
		return r;
	}
	pthread_mutex_init(&ci->guess_lock, NULL);
	lender_init(&ci->lender, ci->object, c->storing);
	readahead_init(&ci->guesses, below->size);
	ci->key = strdup(key); /* without it, wrong bytes are only not forgotten */
	ci->img.block = CACHE_GRANULE;
	ci->img.flags = below->flags & (IMAGE_UNVERSIONED | IMAGE_SIZE_PROVISIONAL);
	ci->img.bound = below->bound;
	ci->cache = c;
	if (is_forward(c, ci)) {
		ci->img.flags |= IMAGE_FORWARD;
	}
	if (engine == ENGINE_UNITS) {
		stop_guessing_below(below);
	}
	*ret = &ci->img;
	return 0;
}

char *cache_image_key(const struct image *img)
{
	const char *key = ((const struct cache_image *)img)->key;

	return key ? strdup(key) : NULL;
}

void cache_image_pin(struct image *img)
{
	struct object *o = ((struct cache_image *)img)->object;

	if (o->ops->pin) {
		o->ops->pin(o);
	}
}

struct blobs *cache_image_blobs(struct image *img)
{
	return ((struct cache_image *)img)->object->blobs;
}

struct store *face_store(struct cache *c)
{
	return c->store;
}

struct keeper *face_keeper(struct cache *c)
{
	return c->keeper;
}
