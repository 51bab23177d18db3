/* SPDX-License-Identifier: Apache-2.0 */
/* The thread beside the readers, and what it keeps in the image's records. */
#include "cache/warm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/blobdir.h"
#include "cache/fill.h"
#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"

#define SECOND UINT64_C(1000000000)
/* How often the thread looks while it has something to fetch. */
#define STEP_NS (SECOND / 50)
/* What was recorded is kept this often, so that a crash loses little of it. */
#define SAVE_NS (30 * SECOND)
/* How often it looks whether what went of a verified image is all here again. */
#define LOOK_NS (2 * SECOND)
/* When completion begins, unless the user says. */
#define DELAY_S 30U
/* The names of our records: see core/blobs.h. */
#define TRACE_RECORD    "trace"
#define VERIFIED_RECORD BLOBDIR_VERDICT

/* --- recording --- */

/* An empty trace of this image, for what was never recorded. */
static int no_boots(const struct warm *w, struct trace *ret)
{
	struct trace t = { .size = w->img->size };

	t.version = strndup(trace_version(w->img->id), TRACE_VERSION_MAX);
	t.entries = calloc(1, sizeof(*t.entries));
	if (!t.version || !t.entries) {
		trace_clear(&t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

static int fitting(
	const struct warm *w, const void *data, size_t len, struct trace *ret, struct err *e)
{
	struct trace t;
	int r = trace_parse(data, len, &t, e);

	if (r < 0) {
		return r;
	}
	if (!trace_fits(&t, w->img->id, w->img->size)) {
		r = err_set(e, -ESTALE,
			"the boot trace is of another image or version (%.200s), not of this one "
			"(%.200s)",
			t.version, trace_version(w->img->id));
		trace_clear(&t);
		return r;
	}
	*ret = t;
	return 0;
}

static int copy_trace(const struct trace *t, struct trace *ret)
{
	return trace_merge(t, NULL, 0, ret);
}

/* What the cache remembers of boots before this one. */
static int recall(struct warm *w)
{
	struct blobs *blobs = w->flight->object->blobs;
	CLEANUP_FREE void *data = NULL;
	struct err why = { 0 };
	size_t len = 0;
	int r = blobs_get(blobs, TRACE_RECORD, &data, &len, &why);

	if (r == 0) {
		r = fitting(w, data, len, &w->old, &why);
		if (r < 0 && r != -ENOMEM) {
			log_warn("%s: it is ignored, and recorded anew", why.text);
		}
	}
	return r < 0 ? no_boots(w, &w->old) : 0;
}

/* Has it replayed, if there is anything. */
static int resume(struct warm *w)
{
	struct trace t;

	if (w->old.boots == 0) {
		return 0;
	}
	if (copy_trace(&w->old, &t) < 0) {
		return -ENOMEM;
	}
	atomic_store(&w->has_trace, true);
	replay_begin(&w->replay, &t);
	return 0;
}

/* A trace from elsewhere. Where nothing was recorded yet, this boot is one more of those. */
static void adopt(struct warm *w, struct trace *t)
{
	struct trace mine;

	if (w->old.boots == 0 && copy_trace(t, &mine) == 0) {
		trace_clear(&w->old);
		w->old = mine;
	}
	replay_begin(&w->replay, t);
}

/* Keeps what was recorded up to now. What cannot be kept costs the next boot time, nothing else. */
static void save(struct warm *w)
{
	struct blobs *blobs = w->flight->object->blobs;
	size_t count = w->records ? tracer_count(&w->tracer) : 0;
	CLEANUP_FREE void *data = NULL;
	struct trace t;
	size_t len = 0;

	if (count == w->saved || tracer_merge(&w->tracer, &w->old, &t) < 0) {
		return;
	}
	w->saved = count;
	if (t.boots != w->old.boots && trace_format(&t, &data, &len, NULL) == 0) {
		(void)blobs_put(blobs, TRACE_RECORD, data, len, NULL);
	}
	trace_clear(&t);
}

static void save_in_time(struct warm *w, uint64_t now)
{
	if (w->records && (!tracer_is_on(&w->tracer) || now >= w->saved_ns + SAVE_NS)) {
		save(w);
		w->saved_ns = now;
	}
}

void warm_touch(struct warm *w, uint64_t off, size_t len)
{
	if (tracer_is_on(&w->tracer)) {
		tracer_touch(&w->tracer, off, len, fill_now());
	}
}

/* --- verifying --- */

/* The image as far as it is here, for a digest. */
struct view {
	struct image img;
	struct warm *warm;
};

static int view_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	return image_peek_at(((struct view *)img)->warm->img, buf, len, off, e);
}

static const struct image_ops view_ops = { .name = "cached", .read_at = view_read_at };

static bool was_verified(const struct warm *w)
{
	CLEANUP_FREE void *data = NULL;
	size_t len = 0;

	return blobs_get(w->flight->object->blobs, VERIFIED_RECORD, &data, &len, NULL) == 0 &&
	       len == strlen(w->digest) && memcmp(data, w->digest, len) == 0;
}

static void forget_verdict(struct warm *w)
{
	if (was_verified(w)) {
		(void)blobs_put(w->flight->object->blobs, VERIFIED_RECORD, "", 0, NULL);
	}
}

/* Whether what was marked is what is here, but for what we fetched ourselves. */
static bool is_as_marked(struct object *o, const struct warm_mark *m)
{
	return object_generation(o) == atomic_load(&m->generation) &&
	       o->ops->present_bytes(o) == atomic_load(&m->kept);
}

/* It is of the bytes that were here then: whoever gives some up, in whatever process, drops the
 * record before and moves the generation, and what comes in their place is counted before. */
static bool stands(const struct warm *w)
{
	struct object *o = w->flight->object;

	if (atomic_load(&w->flight->counts.fills) != atomic_load(&w->mark.fills)) {
		return false;
	}
	return atomic_load(&w->mark.kept) < o->size ? is_as_marked(o, &w->mark) : was_verified(w);
}

static int verdict(const struct warm *w)
{
	int v = atomic_load(&w->verified);

	return v <= 0 || stands(w) ? v : 0;
}

bool warm_doubts(const struct warm *w)
{
	return w->digest && verdict(w) <= 0;
}

/* Marks what is here. False: something is being fetched. */
static bool is_quiet(struct warm *w, struct warm_mark *ret)
{
	struct object *o = w->flight->object;

	atomic_store(&ret->generation, object_generation(o));
	atomic_store(&ret->kept, o->ops->present_bytes(o));
	LOCK_SCOPE(&w->flight->lock);
	atomic_store(&ret->fills, atomic_load(&w->flight->counts.fills));
	return w->flight->count == 0;
}

/* In memory, too, where the disk did not take it. */
static bool all_here(struct object *o)
{
	uint64_t g = 0;

	while (g < o->granules && o->ops->present(o, g)) {
		g++;
	}
	return g == o->granules;
}

/* Something went (evicted, rotten): it is fetched again. */
static void expect_again(struct warm *w)
{
	w->lost = true;
	w->settled = false;
	if (complete_state(&w->complete) == COMPLETE_DONE) {
		complete_again(&w->complete);
	}
}

/* The record first: without it no verdict stands. Then whether it is still of what was looked at:
 * who gives bytes up drops the record before and after, so that one of us sees the other. The
 * record would outlive what is in memory only, and be taken for one of the bytes that others then
 * fetch: there the verdict is known to this process alone. */
static void accept(struct warm *w, const struct warm_mark *m)
{
	struct object *o = w->flight->object;
	bool kept = atomic_load(&m->kept) >= o->size;

	if (kept && blobs_put(o->blobs, VERIFIED_RECORD, w->digest, strlen(w->digest), NULL) < 0) {
		return;
	}
	if (!is_as_marked(o, m) || !all_here(o)) {
		forget_verdict(w);
		expect_again(w);
		return;
	}
	atomic_store(&w->mark.fills, atomic_load(&m->fills));
	atomic_store(&w->mark.generation, atomic_load(&m->generation));
	atomic_store(&w->mark.kept, atomic_load(&m->kept));
	atomic_store(&w->verified, 1);
}

static void refuse(struct warm *w, const char *why)
{
	log_error("%s: %s: reads fail from now on, and the cache forgets this image", w->img->id,
		why);
	atomic_store(&w->verified, -1);
	listener_tell(&w->flight->withdrawn);
}

static void verify(struct warm *w)
{
	struct view view = { .warm = w };
	struct warm_mark mark;
	struct err e = { 0 };
	int r;

	if (!is_quiet(w, &mark)) {
		return;
	}
	w->settled = true;
	if (was_verified(w)) {
		accept(w, &mark);
		return;
	}
	if (image_init(&view.img, &view_ops, NULL, w->img->size, w->img->id) < 0) {
		return;
	}
	r = w->verify(w->verify_ctx, &view.img, &e);
	free(view.img.id);
	if (r == 0) {
		accept(w, &mark);
	} else if (r == -ENOKEY) {
		refuse(w, e.text);
	} else if (r == -EAGAIN) {
		expect_again(w);
	} else {
		log_debug("%s: not verified: %s", w->img->id, e.text);
	}
}

/* Where something went, nobody has to have brought it back. */
static bool is_whole(struct warm *w, uint64_t now)
{
	struct object *o = w->flight->object;

	if (!w->lost) {
		return complete_state(&w->complete) == COMPLETE_DONE ||
		       atomic_load(&o->absent) == 0;
	}
	if (now < w->looked_ns + LOOK_NS) {
		return false;
	}
	w->looked_ns = now;
	return all_here(o);
}

/* Verifies what is whole, and does so again when it is not what was verified any more. Returns when
 * to look again. */
static uint64_t look_after_verdict(struct warm *w, uint64_t now)
{
	if (atomic_load(&w->verified) > 0 && verdict(w) == 0) {
		forget_verdict(w);
		atomic_store(&w->verified, 0);
		w->lost = true;
		w->settled = false;
	}
	if (!w->settled && is_whole(w, now)) {
		verify(w);
	}
	return w->lost && !w->settled ? LOOK_NS : SAVE_NS;
}

/* --- the thread --- */

static uint64_t step(struct warm *w)
{
	uint64_t now = fill_now();
	uint64_t wait = STEP_NS;

	if (!replay_step(&w->replay)) {
		wait = complete_step(&w->complete, now);
		if (w->digest) {
			wait = min_u64(wait, look_after_verdict(w, now));
		}
	}
	save_in_time(w, now);
	return min_u64(wait, SAVE_NS);
}

/* Waits, at most @ns, until the flight moves on from @steps. Lock held. */
static void rest(struct warm *w, uint64_t steps, uint64_t ns)
{
	struct flight *fl = w->flight;
	uint64_t end = fill_now() + ns;
	struct timespec until = { (time_t)(end / SECOND), (long)(end % SECOND) };
	int r = 0;

	while (!w->ending && !fl->ending && !w->incoming.version && fl->steps == steps && r == 0) {
		r = pthread_cond_timedwait(&fl->progress, &fl->lock, &until);
	}
}

static void *warm_main(void *arg)
{
	struct warm *w = arg;
	struct flight *fl = w->flight;

	pthread_setname_np(pthread_self(), "cache-warm");
	pthread_mutex_lock(&fl->lock);
	while (!w->ending && !fl->ending) {
		struct trace next = w->incoming;
		uint64_t steps = fl->steps;
		uint64_t ns;

		w->incoming = (struct trace){ 0 };
		pthread_mutex_unlock(&fl->lock);
		if (next.version) {
			adopt(w, &next);
		}
		ns = step(w);
		pthread_mutex_lock(&fl->lock);
		rest(w, steps, ns);
	}
	pthread_mutex_unlock(&fl->lock);
	return NULL;
}

/* --- beginning and end --- */

static void warm_free(struct warm *w)
{
	tracer_fini(&w->tracer);
	replay_fini(&w->replay);
	trace_clear(&w->incoming);
	trace_clear(&w->old);
	free(w->digest);
	free(w);
}

static enum complete_state first_state(
	const struct warm_place *place, const struct cache_serve_opts *opts)
{
	if (opts->complete && place->may_complete) {
		return COMPLETE_WAITING;
	}
	if (opts->complete) {
		log_warn("this image cannot be completed: the cache does not keep all of it");
		return COMPLETE_OFF;
	}
	return opts->no_complete || !place->may_complete_unasked ? COMPLETE_OFF : COMPLETE_IDLE;
}

static int prepare(
	struct warm *w, const struct warm_place *place, const struct cache_serve_opts *opts)
{
	struct flight *fl = w->flight;
	uint64_t delay = opts->delay_given ? opts->delay_s : DELAY_S;
	bool traceable = fl->object->granules <= UINT32_MAX && !place->spool && !opts->no_trace;

	if (replay_init(&w->replay, fl, place->memory / 2) < 0 ||
		tracer_init(&w->tracer, fl->object->granules) < 0) {
		return -ENOMEM;
	}
	w->records = traceable && !(w->img->flags & IMAGE_UNVERSIONED);
	if (!traceable) {
		atomic_store(&w->tracer.on, false);
	}
	w->saved_ns = fill_now();
	complete_init(&w->complete, fl, place->spool, first_state(place, opts),
		fill_now() + delay * SECOND, opts->rate);
	if (opts->digest) {
		w->verify = opts->verify;
		w->verify_ctx = opts->ctx;
		w->digest = strdup(opts->digest);
		if (!w->digest) {
			return -ENOMEM;
		}
		if (atomic_load(&fl->object->absent) > 0) {
			forget_verdict(w);
		}
	}
	if ((w->records ? recall(w) : no_boots(w, &w->old)) < 0) {
		return -ENOMEM;
	}
	return resume(w);
}

int warm_start(struct image *img, const struct warm_place *place,
	const struct cache_serve_opts *opts, struct warm **ret, struct err *e)
{
	struct warm *w = calloc(1, sizeof(*w));
	int r;

	if (!w) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->flight = place->flight;
	w->img = img;
	if (prepare(w, place, opts) < 0) {
		warm_free(w);
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = pthread_create(&w->thread, NULL, warm_main, w);
	if (r != 0) {
		warm_free(w);
		return err_sys(e, r, "cannot start a thread");
	}
	*ret = w;
	return 0;
}

void warm_stop(struct warm *w)
{
	if (!w) {
		return;
	}
	pthread_mutex_lock(&w->flight->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->flight->progress);
	pthread_mutex_unlock(&w->flight->lock);
	pthread_join(w->thread, NULL);
	save(w);
	warm_free(w);
}

int warm_trace(struct warm *w, const void *data, size_t len, struct err *e)
{
	struct trace before;
	struct trace t;
	int r = fitting(w, data, len, &t, e);

	if (r < 0) {
		return r;
	}
	atomic_store(&w->has_trace, true);
	pthread_mutex_lock(&w->flight->lock);
	before = w->incoming;
	w->incoming = t;
	pthread_cond_broadcast(&w->flight->progress);
	pthread_mutex_unlock(&w->flight->lock);
	trace_clear(&before);
	return 0;
}

/* --- */

static const char *completion(const struct warm *w)
{
	static const char *const names[] = {
		[COMPLETE_OFF] = "off",
		[COMPLETE_IDLE] = "idle",
		[COMPLETE_WAITING] = "waiting",
		[COMPLETE_RUNNING] = "running",
		[COMPLETE_NO_ROOM] = "no room",
		[COMPLETE_DONE] = "done",
	};

	return names[complete_state(&w->complete)];
}

void warm_report(struct warm *w, struct report *r)
{
	struct flight_counts *fc = &w->flight->counts;
	int verified = verdict(w);

	report_bool(r, "tracing", tracer_is_on(&w->tracer));
	report_u64(r, "touched_bytes", tracer_count(&w->tracer) * (uint64_t)CACHE_GRANULE);
	report_u64(r, "trace_boots", atomic_load(&w->replay.boots));
	report_u64(r, "trace_bytes", atomic_load(&w->replay.foretold) * CACHE_GRANULE);
	report_u64(r, "foretold_bytes",
		tracer_foretold(&w->tracer, &w->replay.known) * (uint64_t)CACHE_GRANULE);
	report_bool(r, "replaying", atomic_load(&w->replay.active));
	report_u64(r, "bytes_replayed", atomic_load(&fc->replayed));
	report_u64(r, "bytes_foreseen", atomic_load(&fc->foreseen));
	report_text(r, "completion", completion(w));
	report_u64(r, "bytes_completed", atomic_load(&fc->completed));
	if (verified != 0) {
		report_bool(r, "verified", verified > 0);
	}
}
