/* SPDX-License-Identifier: Apache-2.0 */
/* Journals of copies: beside a file, and for a device in the cache directory. */
#include "tools/copy_resume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "tools/sink.h"
#include "tools/stack.h"

/* Seconds from one flush of the target to the next, or as many as the last one took. Disks stand
 * still while they flush: little at a time is over before anybody misses them, and at the end of
 * the copy little is left. */
#define FLUSH_EVERY 0.3
/* How much work a crash of the machine may cost, seconds. */
#define SYNC_EVERY 2.0
/* Units that are done lie no further apart in the plan than threads can be. */
#define GAP_MAX   256U
#define BATCH_MAX 4096U

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t sum_text(const char *text)
{
	return copy_sum(text, strlen(text));
}

/* Where journals of devices are; made when it is not there. */
static int device_path(const struct options *o, uint64_t target, char **ret, struct err *e)
{
	CLEANUP_FREE char *dir = NULL;
	char *path = NULL;
	int r = stack_cache_dir(o, &dir, e);

	if (r < 0 || !dir) {
		return r;
	}
	if (asprintf(&path, "%s/copies/%016" PRIx64 ".lazydisk", dir, target) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		(void)mkdir(path, 0700); /* an error shows when the journal is made */
		*p = '/';
	}
	*ret = path;
	return 0;
}

static void judge(struct copy_resume *r, const char *target)
{
	r->ours = r->past.key.target == r->key.target;
	r->resumes = r->ours && r->lasting && r->past.key.source == r->key.source &&
		     r->past.key.shape == r->key.shape;
	if (r->ours && !r->lasting) {
		log_info("%s: what an interrupted copy left there is written anew", target);
	} else if (r->resumes) {
		log_info("%s: continuing an interrupted copy", target);
	} else if (r->ours) {
		log_warn("%s: an interrupted copy onto it was of another %s: starting over", target,
			r->past.key.source == r->key.source ? "size, or had other options"
							    : "image, or version of it");
	} else {
		log_warn("%s is not the target that an interrupted copy left there: starting over",
			target);
	}
}

int copy_resume_find(struct copy_resume *r, const struct options *o, const char *target,
	const char *id, uint64_t shape, struct err *e)
{
	CLEANUP_FREE char *identity = NULL;
	bool device = false;
	int code;

	if (!r->lasting && !r->trusts && !r->marks) {
		return 0;
	}
	code = sink_identity(target, &identity, &device, NULL);
	r->key.source = sum_text(id);
	r->key.target = code == 0 && identity ? sum_text(identity) : 0;
	r->key.shape = shape;
	if (device) {
		code = device_path(o, r->key.target, &r->path, e);
		if (code < 0) {
			return code;
		}
	} else if (asprintf(&r->path, "%s.lazydisk", target) < 0) {
		r->path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (r->path && identity && copy_journal_load(r->path, &r->past, NULL) == 0) {
		judge(r, target);
	}
	return 0;
}

static int set_known(struct copy_resume *r, struct copy_engine *engine)
{
	const struct copy_plan *plan = engine->plan;

	r->listed = calloc(plan->count + 1, 1);
	r->batch = calloc(BATCH_MAX, sizeof(*r->batch));
	r->known = calloc(plan->count + 1, sizeof(*r->known));
	if (!r->listed || !r->batch || !r->known) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < plan->count; i++) {
		/* What is withheld is on the target when the copy is done. */
		bool never = plan->units[i].zero || plan->units[i].off < engine->withhold;

		if (!never) {
			r->known[i] = copy_journal_find(&r->past, plan->units[i].off);
		}
		r->listed[i] = r->known[i] != 0 || never;
	}
	engine->known = r->known;
	return 0;
}

/* Where zeros are trusted to be there already, the next run must learn that they may not be. */
static int make_durable(struct copy_resume *r, struct err *e)
{
	return (r->trusts || r->ours) && !r->resumes ? copy_journal_sync(r->journal, e) : 0;
}

int copy_resume_begin(
	struct copy_resume *r, const char *target, struct copy_engine *engine, struct err *e)
{
	CLEANUP_FREE char *identity = NULL;
	struct err why;
	bool device;
	int code;

	if (!r->path) {
		return 0;
	}
	r->made = r->resumes;
	if (!r->resumes) {
		copy_journal_past_clear(&r->past);
	}
	code = sink_identity(target, &identity, &device, e);
	if (code < 0) {
		return code;
	}
	r->key.target = sum_text(identity);
	if (copy_journal_open(r->path, &r->key, r->resumes ? &r->past : NULL, &r->journal, &why) <
		0) {
		log_warn("%s: if this copy is interrupted, it cannot be continued%s", why.text,
			r->trusts ? ", and --target-is-zero is not true any more" : "");
		return 0;
	}
	r->made = true;
	code = make_durable(r, e);
	if (code < 0) {
		return code;
	}
	r->next = now_s() + (r->least < FLUSH_EVERY ? r->least : FLUSH_EVERY);
	r->flush = now_s() + FLUSH_EVERY;
	/* A new file without a journal would be in the way of the next run. */
	r->sync = device ? now_s() + SYNC_EVERY : 0;
	if (engine->agenda) {
		return 0; /* it begins anew: what is done is of no use to it */
	}
	return set_known(r, engine) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* The units that were done since the last time. */
static size_t collect(struct copy_resume *r, const struct copy_engine *engine)
{
	const struct copy_plan *plan = engine->plan;
	size_t count = 0;
	unsigned int gap = 0;

	while (r->low < plan->count && r->listed[r->low]) {
		r->low++;
	}
	for (size_t i = r->low; i < plan->count && gap < GAP_MAX && count < BATCH_MAX; i++) {
		uint64_t sum;

		if (r->listed[i]) {
			continue;
		}
		sum = __atomic_load_n(&engine->sums[i - engine->sum_base], __ATOMIC_ACQUIRE);
		if (sum == 0) {
			gap++;
			continue;
		}
		gap = 0;
		r->listed[i] = 1;
		r->batch[count++] = (struct copy_journal_entry){ plan->units[i].off, sum };
	}
	return count;
}

static void give_up(struct copy_resume *r, const struct err *why)
{
	log_warn("%s: if this copy is interrupted, less of it can be continued", why->text);
	copy_journal_close(TAKE_PTR(r->journal));
}

static void sync_journal(struct copy_resume *r)
{
	struct err why;

	r->sync = now_s() + SYNC_EVERY;
	if (copy_journal_sync(r->journal, &why) < 0) {
		give_up(r, &why);
	}
}

/* Makes durable what the journal names; less often, since nothing is lost but time, the journal.
 * The first time that comes first: syncing a file makes its name durable, too. */
static int flush(struct copy_resume *r, struct copy_engine *engine, bool last, struct err *e)
{
	double begun = now_s();
	int code;

	if (r->sync == 0) {
		sync_journal(r);
	}
	code = engine->sink->ops->flush(engine->sink, e);
	if (code == 0 && r->journal && (last || now_s() >= r->sync)) {
		sync_journal(r);
	}
	r->flush = 2 * now_s() - begun;
	r->flush = r->flush < now_s() + FLUSH_EVERY ? now_s() + FLUSH_EVERY : r->flush;
	return code;
}

int copy_resume_tick(struct copy_resume *r, struct copy_engine *engine, bool last, struct err *e)
{
	double now = now_s();
	struct err why;
	size_t count;

	if (!r->journal || (!last && now < r->next)) {
		return 0;
	}
	/* What cannot be continued has no use for entries, and its plan may have become another. */
	count = r->lasting ? collect(r, engine) : 0;
	if (count > 0 && copy_journal_add(r->journal, r->batch, count, &why) < 0) {
		give_up(r, &why);
		return 0;
	}
	r->next = now + r->least;
	return last || now >= r->flush ? flush(r, engine, last, e) : 0;
}

void copy_resume_done(struct copy_resume *r)
{
	if (r->made) {
		unlink(r->path);
	}
}

void copy_resume_clear(struct copy_resume *r)
{
	copy_journal_close(r->journal);
	copy_journal_past_clear(&r->past);
	free(r->path);
	free(r->known);
	free(r->listed);
	free(r->batch);
}
