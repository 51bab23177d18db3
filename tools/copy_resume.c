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

/* fsync() may take this share of the time. */
#define FLUSH_SHARE 0.4
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
	r->resumes =
		r->ours && r->past.key.source == r->key.source && r->past.key.shape == r->key.shape;
	if (r->resumes) {
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

	if (!id) {
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
		if (!plan->units[i].zero) {
			r->known[i] = copy_journal_find(&r->past, plan->units[i].off);
		}
		r->listed[i] = r->known[i] != 0 || plan->units[i].zero;
	}
	engine->known = r->known;
	return 0;
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
		log_warn("%s: if this copy is interrupted, it cannot be continued", why.text);
		return 0;
	}
	r->next = now_s() + r->least;
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
		uint64_t sum = __atomic_load_n(&engine->sums[i], __ATOMIC_ACQUIRE);

		if (r->listed[i]) {
			continue;
		}
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

int copy_resume_tick(struct copy_resume *r, struct copy_engine *engine, bool last, struct err *e)
{
	double begun = now_s();
	struct err why;
	size_t count;
	int code;

	if (!r->journal || (!last && begun < r->next)) {
		return 0;
	}
	count = collect(r, engine);
	if (count == 0) {
		return 0;
	}
	code = engine->sink->ops->flush(engine->sink, e);
	if (code < 0) {
		return code;
	}
	if (copy_journal_add(r->journal, r->batch, count, &why) < 0) {
		log_warn("%s: if this copy is interrupted, less of it can be continued", why.text);
		copy_journal_close(TAKE_PTR(r->journal));
		return 0;
	}
	r->next = now_s() + (now_s() - begun) / FLUSH_SHARE;
	if (r->next < begun + r->least) {
		r->next = begun + r->least;
	}
	return 0;
}

void copy_resume_done(struct copy_resume *r)
{
	if (r->journal) {
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
