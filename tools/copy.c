/* SPDX-License-Identifier: Apache-2.0 */
/* One copy from its first check to its last fsync. */
#include "tools/copy.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/report.h"
#include "sources/source.h"
#include "tools/copy_crew.h"
#include "tools/copy_engine.h"
#include "tools/copy_plan.h"
#include "tools/copy_resume.h"
#include "tools/stack.h"

/* More than processors: some wait for the network, some decode. */
#define COPY_READERS 8
/* These, those that write, and those that wait for their turn to write. */
#define COPY_THREADS 32
/* What is hinted at ahead of the readers, bytes of the source: what the link carries while the
 * target is flushed. */
#define COPY_WINDOW MIB(24)
/* Memory for what was fetched and not yet decoded. */
#define COPY_MEMORY MIB(40)
/* The beginning of the target that waits for the checksum. */
#define COPY_HEAD MIB(1)

struct copy {
	const struct copy_job *job;
	struct options options; /* the job's, made fit for reading everything once */
	struct stack_env *env;
	struct stack *stack;
	struct sink *sink;
	struct copy_plan plan;
	struct copy_engine engine;
	struct copy_resume resume;
	struct progress progress;
	const char *phase;
	struct copy_agenda *agenda; /* of what makes the plan; NULL: the plan is complete */
	bool streams;               /* the image is decoded in order, each unit once */
	bool provisional;           /* its size shows only when it was decoded */
	uint64_t size;              /* of the image, as far as is known */
	enum exitcode blame;        /* of what is being done: the exit code when it fails */
};

static atomic_bool stop;

static void on_signal(int number)
{
	(void)number;
	stop = true;
}

/* From here on there is something to leave in order; who asks twice does not want to wait for that.
 * What is ignored stays ignored. */
static void catch_signals(struct sigaction ret_old[2])
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };

	stop = false;
	sigaction(SIGINT, NULL, &ret_old[0]);
	sigaction(SIGTERM, NULL, &ret_old[1]);
	if (ret_old[0].sa_handler != SIG_IGN) {
		sigaction(SIGINT, &act, NULL);
	}
	sigaction(SIGTERM, &act, NULL);
}

static void release_signals(const struct sigaction old[2])
{
	sigaction(SIGINT, &old[0], NULL);
	sigaction(SIGTERM, &old[1], NULL);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What was read once is not read again: the cache only carries bytes from those who fetch to those
 * who decode, and what comes next is known better than any guess. */
static void choose_options(struct copy *c)
{
	c->options = *c->job->options;
	if (!c->options.cache_dir) {
		c->options.no_cache = true;
		c->options.cache_size = COPY_MEMORY;
	}
	/* What was changed lies elsewhere, in an order of its own. */
	c->options.in_order = !c->job->overlay;
	c->options.readahead_given = true;
	c->options.readahead = 0;
}

/* Whether @name stands in @text, and not only as a part of something else. */
static bool mentions(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(text, name); p && n > 0; p = strstr(p + 1, name)) {
		if ((p == text || strchr(" '\"(", p[-1])) && strchr(": '\",)", p[n])) {
			return true;
		}
	}
	return false;
}

/* Whether it says where it happened: in the source, or in the overlay over it. */
static bool names_place(const struct copy *c, const struct err *e)
{
	return mentions(e->text, c->stack->source) || mentions(e->text, c->job->source) ||
	       (c->job->overlay && mentions(e->text, c->job->overlay));
}

/* @r, which the source is to blame for; what its layers say does not always name it. */
static int blame_source(struct copy *c, int r, struct err *e)
{
	c->blame = exitcode_of_source(r);
	if (c->stack && r != -ECANCELED && !names_place(c, e)) {
		return err_wrap(e, r, "%.200s", c->stack->source);
	}
	return r;
}

static int look_at_source(struct copy *c, struct err *e)
{
	struct image *image = c->stack->image;
	uint64_t off;
	uint64_t len = 0;
	int r = image->size > 0 ? image_unit_at(image, 0, &off, &len, e) : 0;

	c->size = image->size;
	c->streams = len > 0;
	c->provisional = image->flags & IMAGE_SIZE_PROVISIONAL;
	return r;
}

static int open_source(struct copy *c, struct err *e)
{
	int r;

	c->blame = EXITCODE_USAGE;
	r = stack_env_open(&c->options, &c->env, e);
	if (r == 0) {
		r = stack_open_as(c->env, c->job->source, c->job->access, &c->stack, e);
		c->blame = r < 0 ? exitcode_of_source(r) : EXITCODE_OK;
	}
	if (r == 0 && c->job->overlay) {
		r = stack_add_overlay(c->env, c->stack, c->job->overlay, true, e);
		c->blame = r < 0 ? exitcode_of_overlay(r) : EXITCODE_OK;
	}
	if (r == 0) {
		r = look_at_source(c, e);
		return r < 0 ? blame_source(c, r, e) : 0;
	}
	return r;
}

/* A partition table counts in sectors of the size that it was made for. */
static int check_sectors(struct copy *c, struct err *e)
{
	struct image *image = c->stack->image;
	uint8_t head[520];
	int r;

	if (c->sink->sector <= 512 || image->size < sizeof(head)) {
		return 0;
	}
	r = image_read_at(image, head, sizeof(head), 0, e);
	if (r < 0) {
		return blame_source(c, r, e);
	}
	if (memcmp(head + 512, "EFI PART", 8) == 0) {
		return err_set(e, -ENOTSUP,
			"the image has a partition table for sectors of 512 bytes, and %s has "
			"sectors of %" PRIu32 ": nothing would find its partitions; use a device "
			"with sectors of 512 bytes",
			c->job->target, c->sink->sector);
	}
	return 0;
}

static int check_size(const struct copy *c, struct err *e)
{
	if (!c->provisional && c->job->size && c->job->size < c->size) {
		return err_set(e, -EFBIG,
			"the image has %" PRIu64 " bytes, and the target shall only have %" PRIu64,
			c->size, c->job->size);
	}
	return 0;
}

/* A checksum is of all bytes of the source. What an earlier run has put on the target counts as
 * read only where it has them as they are, and where nothing else is believed of it. */
static bool rereads(const struct copy *c)
{
	const struct image *image = c->stack->image;

	return image->below == c->stack->digest && strcmp(image->ops->name, "raw") == 0 &&
	       !c->streams && !c->job->target_is_zero;
}

static int feed_digest(void *ctx, uint64_t off, const void *buf, size_t n)
{
	source_digest_feed(ctx, off, buf, n);
	return 0;
}

static bool is_continued(const struct copy *c)
{
	return !(c->stack->image->flags & IMAGE_UNVERSIONED) && !c->provisional &&
	       !c->resume.marks && (!c->stack->digest || rereads(c));
}

static int find_journal(struct copy *c, uint64_t size, struct err *e)
{
	const struct image *image = c->stack->image;
	uint64_t shape[] = { image->size, size, c->job->preallocation, COPY_UNIT };

	c->resume.trusts = c->job->target_is_zero;
	/* What an earlier run has decoded and this one has not cannot be proven any more; a stream
	 * is decoded anew, and written where it differs. */
	c->resume.marks = !c->streams && (image_owes_proof(image) || c->agenda);
	c->resume.lasting = is_continued(c);
	/* What is on this machine is quickly read again. */
	c->resume.least = c->stack->local ? 5 : 0.05;
	return copy_resume_find(&c->resume, &c->options, c->job->target, image->id,
		copy_sum(shape, sizeof(shape)), e);
}

static int open_target(struct copy *c, struct err *e)
{
	const struct copy_job *job = c->job;
	struct sink_opts opts = {
		.path = job->target,
		.size = job->size        ? job->size
			: c->provisional ? 0
					 : c->size,
		.prealloc = job->preallocation,
		.force = job->force,
		.is_zero = job->target_is_zero,
	};
	int r;

	c->blame = EXITCODE_TARGET;
	r = check_size(c, e);
	if (r == 0) {
		r = find_journal(c, opts.size, e);
	}
	if (r == 0) {
		opts.resume = c->resume.resumes;
		opts.force = opts.force || c->resume.ours;
		/* What an interrupted copy has left is not zero, whatever was promised; and a
		 * stream, which is decoded anew, may find zeros where that one put damage. */
		opts.is_zero =
			opts.is_zero && (!c->resume.ours || (c->resume.resumes && !c->streams));
		r = sink_open(&opts, &c->sink, e);
	}
	return r < 0 ? r : check_sectors(c, e);
}

static int make_plan(struct copy *c, struct err *e)
{
	int r = 0;

	if (!c->streams) {
		r = copy_agenda_suits(c->stack->image)
			    ? copy_agenda_new(c->stack->image, &c->agenda, e)
			    : 1;
		r = r == 1 ? copy_plan_make(c->stack->image, &c->plan, e) : r;
	} else if (!c->provisional) {
		r = copy_plan_make_blocks(c->size, &c->plan, e);
	}
	return r < 0 ? blame_source(c, r, e) : 0;
}

static int add_tail(struct copy *c, struct err *e)
{
	int r = c->provisional ? 0 : copy_plan_add_tail(&c->plan, c->size, c->sink->size, e);

	if (r < 0) {
		c->blame = EXITCODE_FAILED;
	}
	return r;
}

static int tick(void *ctx, struct err *e)
{
	struct copy *c = ctx;
	bool verifies = strcmp(c->phase, "verify") == 0;

	if (c->agenda) {
		progress_measured(&c->progress, c->engine.counters.expected);
	}
	progress_tell(&c->progress, c->phase,
		verifies ? c->engine.counters.verified : c->engine.counters.data);
	return verifies ? 0 : copy_resume_tick(&c->resume, &c->engine, false, e);
}

static int blame_side(struct copy *c, enum copy_side side, int r, struct err *e)
{
	if (side == COPY_SIDE_SOURCE) {
		return blame_source(c, r, e);
	}
	c->blame = EXITCODE_TARGET;
	return r;
}

/* Until the checksum is known to match, or what was decoded is proven right, nothing shall boot
 * from the target. */
static int withhold_head(struct copy *c, struct err *e)
{
	if (!c->stack->digest && !c->streams && !image_owes_proof(c->stack->image)) {
		return 0;
	}
	c->engine.withhold = c->provisional ? COPY_HEAD : min_u64(COPY_HEAD, c->size);
	c->engine.head = aligned_alloc(SINK_ALIGN, COPY_HEAD);
	if (!c->engine.head) {
		c->blame = EXITCODE_FAILED;
		return err_set(e, -ENOMEM, "out of memory");
	}
	memset(c->engine.head, 0, COPY_HEAD);
	return 0;
}

static void prove(struct copy_crew *crew, unsigned int number)
{
	struct copy *c = crew->engine->ctx;
	struct err e;
	int r;

	(void)number;
	r = stack_verify(c->stack, &e);
	if (r < 0) {
		copy_crew_fail(crew, COPY_SIDE_SOURCE, r, &e);
	}
}

static int release_head(struct copy *c, struct err *e)
{
	struct copy_crew crew = { .engine = &c->engine, .work = prove };
	enum copy_side side;
	int r;

	if (!c->engine.head) {
		return 0;
	}
	/* On a thread, because it may take long and the user may want it to end. */
	r = copy_crew_run(&crew, 1, &side, e);
	if (r < 0) {
		return blame_side(c, side, r, e);
	}
	c->blame = EXITCODE_TARGET;
	/* So that no crash leaves the beginning there without the rest. */
	r = c->sink->ops->flush(c->sink, e);
	return r < 0 ? r : copy_engine_release(&c->engine, e);
}

/* Now that the image's size is known: the target gets it, and zeros behind it. */
static int complete(struct copy *c, enum copy_side *ret_side, struct err *e)
{
	struct copy_plan tail = { 0 };
	int r = 0;

	*ret_side = COPY_SIDE_TARGET;
	if (c->provisional) {
		copy_plan_clear(&c->plan);
		r = copy_plan_make_blocks(c->size, &c->plan, e);
		if (r == 0 && !c->job->size) {
			r = c->sink->ops->resize(c->sink, c->size, e);
		}
		if (r == 0) {
			r = copy_plan_add_tail(&c->plan, c->size, c->sink->size, e);
		}
		c->engine.sum_base = c->plan.zeros;
		c->engine.withhold = min_u64(c->engine.withhold, c->size);
		progress_measured(&c->progress, c->size);
	}
	if (r == 0) {
		r = copy_plan_add_tail(&tail, c->size, c->sink->size, e);
	}
	if (r == 0 && tail.count > 0) {
		c->engine.plan = &tail;
		r = copy_engine_run(&c->engine, ret_side, e);
		c->engine.plan = &c->plan;
	}
	copy_plan_clear(&tail);
	return r;
}

static int move_data(struct copy *c, enum copy_side *ret_side, struct err *e)
{
	int r = 0;

	if (c->resume.resumes && c->stack->digest) {
		r = copy_engine_reread(&c->engine, feed_digest, c->stack->digest, ret_side, e);
	}
	if (!c->streams) {
		return r < 0 ? r : copy_engine_run(&c->engine, ret_side, e);
	}
	if (c->provisional) {
		c->engine.most =
			c->job->size ? c->job->size : (c->sink->sector ? c->sink->size : 0);
	}
	r = copy_stream_run(&c->engine, &c->size, ret_side, e);
	return r < 0 ? r : complete(c, ret_side, e);
}

static int transfer(struct copy *c, struct err *e)
{
	enum copy_side side = COPY_SIDE_TARGET;
	int r;

	c->engine.image = c->stack->image;
	c->engine.sink = c->sink;
	c->engine.plan = &c->plan;
	c->engine.agenda = c->agenda;
	c->engine.threads = COPY_THREADS;
	c->engine.readers = COPY_READERS;
	c->engine.rate = c->job->rate;
	/* What is fetched before its turn is not limited by it. */
	c->engine.window = c->job->rate ? 0 : COPY_WINDOW;
	c->engine.stop = &stop;
	c->engine.tick = tick;
	c->engine.ctx = c;
	c->engine.sums = calloc(c->plan.count + 1, sizeof(*c->engine.sums));
	if (!c->engine.sums) {
		c->blame = EXITCODE_FAILED;
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->engine.sum_count = c->plan.count + 1;
	r = withhold_head(c, e);
	if (r < 0) {
		return r;
	}
	c->engine.sum_base = c->streams ? c->plan.zeros : 0;
	r = copy_resume_begin(&c->resume, c->job->target, &c->engine, e);
	if (r < 0) {
		return r;
	}
	progress_begin(
		&c->progress, c->job->progress, c->provisional ? c->size : c->plan.data_bytes);
	r = move_data(c, &side, e);
	if (c->engine.counters.changed > 0) {
		log_warn("%s was changed since the interrupted copy: %" PRIu64
			 " bytes of it were copied anew",
			c->job->target, (uint64_t)c->engine.counters.changed);
	}
	if (r < 0) {
		(void)copy_resume_tick(&c->resume, &c->engine, true, NULL);
		return blame_side(c, side, r, e);
	}
	return 0;
}

static int verify(struct copy *c, struct err *e)
{
	enum copy_side side;
	int r;

	if (!c->job->verify) {
		return 0;
	}
	c->phase = "verify";
	r = copy_engine_verify(&c->engine, &side, e);
	c->blame = r == -ENOKEY ? EXITCODE_MISMATCH : EXITCODE_TARGET;
	return r;
}

/* Preallocation is a promise about space; whether it was kept is measured. */
static void check_allocation(const struct copy *c)
{
	uint64_t allocated;
	struct err e;

	if (c->job->preallocation == SINK_PREALLOC_OFF) {
		return;
	}
	if (c->sink->ops->allocated(c->sink, &allocated, &e) < 0) {
		log_info("%s; what it allocates is its own affair", e.text);
	} else if (allocated < c->sink->size) {
		log_warn("%s occupies %" PRIu64 " of its %" PRIu64
			 " bytes: the storage below does not keep zeros that are written to it, so "
			 "nothing is reserved for them",
			c->job->target, allocated, c->sink->size);
	}
}

static int finish(struct copy *c, struct err *e)
{
	int r;

	r = release_head(c, e);
	if (r == -ENOKEY && !c->resume.trusts) {
		copy_resume_done(&c->resume); /* wrong bytes are not to be continued */
	}
	if (r == 0) {
		c->blame = EXITCODE_TARGET;
		r = c->sink->ops->flush(c->sink, e);
	}
	if (r == 0) {
		r = verify(c, e);
	}
	if (r == 0) {
		copy_resume_done(&c->resume);
		check_allocation(c);
	}
	return r;
}

static uint64_t fetched(struct image *image)
{
	CLEANUP(report_clear) struct report r = REPORT_INIT;
	const struct report_item *item;

	image_report(image, &r);
	item = report_find(&r, "http", "bytes_fetched");
	return item ? item->number : 0;
}

static void fill_result(const struct copy *c, double seconds, struct copy_result *ret)
{
	const struct copy_counters *n = &c->engine.counters;

	*ret = (struct copy_result){
		.size = c->size,
		.target_size = c->sink ? c->sink->size : 0,
		.fetched = c->stack ? fetched(c->stack->image) : 0,
		.read = n->read,
		.written = n->written,
		.zeroed = n->zeroed,
		.skipped = n->skipped,
		.seconds = seconds,
	};
}

static void copy_clear(struct copy *c)
{
	free(c->engine.sums);
	free(c->engine.head);
	copy_resume_clear(&c->resume);
	copy_agenda_free(c->agenda);
	copy_plan_clear(&c->plan);
	sink_close(c->sink);
	stack_close(c->stack);
	stack_env_close(c->env);
}

static int fill_target(struct copy *c, struct err *e)
{
	/* A source that cannot even be planned shall not leave a new file. */
	int r = make_plan(c, e);

	if (r == 0) {
		r = open_target(c, e);
	}
	if (r == 0) {
		r = add_tail(c, e);
	}
	if (r == 0) {
		r = transfer(c, e);
	}
	if (r == 0) {
		r = finish(c, e);
	}
	progress_end(&c->progress, r == 0);
	return r;
}

int copy_run(const struct copy_job *job, struct copy_result *ret, struct err *e)
{
	struct copy c = { .job = job, .phase = "copy", .progress.mode = PROGRESS_NONE };
	struct sigaction old[2];
	double begun = now_s();
	int r;

	choose_options(&c);
	r = open_source(&c, e);
	if (r == 0) {
		catch_signals(old);
		r = fill_target(&c, e);
		release_signals(old);
	}
	fill_result(&c, now_s() - begun, ret);
	if (r < 0) {
		assert(c.blame != EXITCODE_OK);
		ret->exitcode = r == -ECANCELED ? EXITCODE_FAILED : c.blame;
	}
	copy_clear(&c);
	return r;
}
