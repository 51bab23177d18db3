/* SPDX-License-Identifier: Apache-2.0 */
/* Reads groups of compressed clusters: claims, one read a span, decompression, waiting for others.
 */
#include "formats/mapped_cluster.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* Streams that lie so close together in the file are read with one read, of so much at most (one
 * stream alone may be longer). */
#define SPAN_GAP 16384U
#define SPAN_MAX MIB(2)
/* Where a stream ends is only said to a sector. */
#define SECTOR 512U

struct job {
	const struct run *run;
	uint8_t *to;
	struct memo_item *item; /* MINE, THEIRS */
	enum {
		DONE,
		WHOLE,
		MINE,
		THEIRS
	} state;
};

static void copy_part(const struct mapped *m, const struct job *job)
{
	uint64_t in_cluster = job->run->offset & (m->cluster_size - 1);

	memcpy(job->to, job->item->data + in_cluster, job->run->length);
}

/* Settles what the memory of decompressed clusters knows of one run. */
static int begin_job(struct mapped *m, const struct run *run, uint64_t age, uint8_t *to,
	struct job *ret, struct err *e)
{
	uint64_t number = run->offset / m->cluster_size;
	enum memo_claim claim = MEMO_READY;

	*ret = (struct job){ .run = run };
	ret->to = to;
	if (run->length == m->cluster_size) {
		ret->item = memo_find(m->clusters, number);
		if (!ret->item) {
			ret->state = WHOLE;
			return 0;
		}
	} else {
		claim = memo_claim_of_age(m->clusters, number, age, &ret->item);
	}
	switch (claim) {
	case MEMO_READY:
		copy_part(m, ret);
		memo_put(m->clusters, ret->item);
		ret->state = DONE;
		return 0;
	case MEMO_MINE:
		ret->state = MINE;
		return 0;
	case MEMO_THEIRS:
		ret->state = THEIRS;
		return 0;
	case MEMO_NOMEM:
		break;
	}
	return err_set(e, -ENOMEM, "out of memory");
}

static int does_not_decode(struct mapped *m, const struct run *run, uint64_t len, struct err *e)
{
	image_distrust(m->img.below, run->host, len);
	return err_set(e, -EBADMSG,
		"%s: guest offset %" PRIu64 ": the %" PRIu64 " bytes at offset %" PRIu64
		" do not decompress to a cluster%s",
		m->img.ops->name, run->offset, len, run->host,
		run->host + len >= m->img.below->size ? ": the file ends there" : "");
}

/* What the cluster that begins with @run decodes to. */
static size_t decoded_size(const struct mapped *m, const struct run *run)
{
	uint64_t start = round_down(run->offset, m->cluster_size);

	return m->short_tail ? min_u64(m->cluster_size, m->img.size - start) : m->cluster_size;
}

/* Decompresses a stream of which only the first @have bytes are at hand. */
static int run_long(struct mapped *m, struct codec_decoder *d, const struct run *run, size_t skip,
	size_t len, uint8_t *out, struct err *e)
{
	CLEANUP_FREE uint8_t *in = malloc(len + 1);
	int r;

	if (!in) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(m->img.below, in, len, run->host + skip, e);
	if (r < 0) {
		return r;
	}
	r = codec_decoder_run(d, in, len, out, decoded_size(m, run));
	return r == -EBADMSG ? does_not_decode(m, run, len, e) : r;
}

static int run_decoder(struct mapped *m, struct codec_decoder *d, const struct run *run,
	const uint8_t *in, uint8_t *out, struct err *e)
{
	size_t skip = 0;
	size_t len = run->host_length;
	int r = 0;

	if (m->map->frame) {
		r = m->map->frame(m, run, in, run->host_length, &skip, &len, e);
		if (r < 0) {
			return err_wrap(
				e, r, "%s: guest offset %" PRIu64, m->img.ops->name, run->offset);
		}
		if (skip + len > run->host_length) {
			return run_long(m, d, run, skip, len, out, e);
		}
	}
	r = codec_decoder_run(d, in + skip, len, out, decoded_size(m, run));
	if (r == -ENOMEM) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return r < 0 ? does_not_decode(m, run, len, e) : 0;
}

static int decode_job(struct mapped *m, struct codec_decoder *d, struct job *job, const uint8_t *in,
	struct err *e)
{
	uint8_t *out = job->state == MINE ? job->item->data : job->to;
	int r = run_decoder(m, d, job->run, in, out, e);

	if (r < 0) {
		return r;
	}
	if (job->state == MINE) {
		memo_publish(m->clusters, job->item, m->cluster_size);
		copy_part(m, job);
		memo_put(m->clusters, job->item);
	}
	job->state = DONE;
	return 0;
}

static bool to_decode(const struct job *job)
{
	return job->state == WHOLE || job->state == MINE;
}

/* How many of the jobs from the first one on are read together, and the end of their span. */
static unsigned int span_of(const struct job *jobs, unsigned int n, uint64_t *ret_end)
{
	uint64_t start = jobs[0].run->host;
	uint64_t end = start + jobs[0].run->host_length;
	unsigned int count = 1;

	for (; count < n; count++) {
		const struct run *run = jobs[count].run;
		uint64_t run_end = run->host + run->host_length;

		if (!to_decode(&jobs[count])) {
			continue;
		}
		if (run->host < start || run->host > end + SPAN_GAP || run_end - start > SPAN_MAX) {
			break;
		}
		end = max_u64(end, run_end);
	}
	*ret_end = end;
	return count;
}

/* Reads [start, end) into @in, and what stands behind it in its cluster, which has room there. */
static int read_with_tail(
	struct mapped *m, uint64_t start, uint64_t end, uint64_t to, uint8_t *in, struct err *e)
{
	uint64_t age = tails_age(m->tails);
	uint64_t from = max_u64(start, end - min_u64(end, SECTOR));
	int r = image_read_at(m->img.below, in, to - start, start, e);

	if (r == 0 && to > end) {
		tails_keep(m->tails, age, from, in + (from - start), to - from);
	}
	return r;
}

/* Whether it is the tail alone that is not there: the file ends earlier than was assumed. */
static bool lacks_tail(struct image *file, uint64_t end, uint64_t to)
{
	uint64_t real;

	return (file->flags & IMAGE_SIZE_PROVISIONAL) && image_final_size(file, &real) == 0 &&
	       end <= real && real < to;
}

static int read_span(struct mapped *m, uint64_t start, uint64_t end, uint8_t *in, struct err *e)
{
	struct image *file = m->img.below;
	uint64_t to = min_u64(round_up(end, m->cluster_size), file->size);
	int r;

	if (m->tails) {
		r = read_with_tail(m, start, end, to, in, e);
		/* Another failure is not tried again: that may cost all of the stream. */
		if (r == 0 || !lacks_tail(file, end, to)) {
			return r;
		}
	}
	return image_read_at(file, in, end - start, start, e);
}

static int decode_span(struct mapped *m, struct codec_decoder *d, struct job *jobs, unsigned int n,
	uint64_t end, struct err *e)
{
	uint64_t start = jobs[0].run->host;
	uint8_t *in = codec_decoder_room(d, end - start + (m->tails ? m->cluster_size : 0));
	int r;

	if (!in) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = read_span(m, start, end, in, e);
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		if (to_decode(&jobs[i])) {
			r = decode_job(m, d, &jobs[i], in + (jobs[i].run->host - start), e);
		}
	}
	return r;
}

/* Decodes from what was kept of the file, if it was. */
static int decode_kept(
	struct mapped *m, struct codec_decoder *d, struct job *job, bool *ret_kept, struct err *e)
{
	size_t len = job->run->host_length;
	uint8_t *in;

	*ret_kept = m->tails && tails_get(m->tails, job->run->host, len, NULL);
	if (!*ret_kept) {
		return 0;
	}
	in = codec_decoder_room(d, len);
	if (!in) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret_kept = tails_get(m->tails, job->run->host, len, in);
	return *ret_kept ? decode_job(m, d, job, in, e) : 0;
}

static int decode_all(struct mapped *m, struct job *jobs, unsigned int n, struct err *e)
{
	struct codec_decoder *d = NULL;
	unsigned int i = 0;
	int r = 0;

	while (r == 0 && i < n) {
		unsigned int count = 1;
		bool kept = false;
		uint64_t end;

		if (to_decode(&jobs[i])) {
			d = d ? d : codec_take(m->codec);
			if (!d) {
				return err_set(e, -ENOMEM, "out of memory");
			}
			r = decode_kept(m, d, &jobs[i], &kept, e);
		}
		if (r == 0 && to_decode(&jobs[i]) && !kept) {
			count = span_of(jobs + i, n - i, &end);
			r = decode_span(m, d, jobs + i, count, end, e);
		}
		i += count;
	}
	if (d) {
		codec_give(m->codec, d);
	}
	return r;
}

/* Nobody may wait for a claim of ours that we gave up. */
static void fail_claims(struct mapped *m, struct job *jobs, unsigned int n, const struct err *err)
{
	for (unsigned int i = 0; i < n; i++) {
		if (jobs[i].state == MINE) {
			memo_fail(m->clusters, jobs[i].item, err);
			jobs[i].state = DONE;
		}
	}
}

static int wait_for_others(struct mapped *m, const struct job *jobs, unsigned int n, struct err *e)
{
	int result = 0;

	for (unsigned int i = 0; i < n; i++) {
		int r;

		if (jobs[i].state != THEIRS) {
			continue;
		}
		r = memo_wait(m->clusters, jobs[i].item, result < 0 ? NULL : e);
		if (r == 0) {
			copy_part(m, &jobs[i]);
			memo_put(m->clusters, jobs[i].item);
		} else if (result == 0) {
			result = r;
		}
	}
	return result;
}

bool mapped_cluster_kept(const struct mapped *m, const struct run *run)
{
	return m->tails && tails_get(m->tails, run->host, run->host_length, NULL);
}

int mapped_cluster_read(struct mapped *m, const struct run *runs, unsigned int n, uint64_t age,
	uint8_t *buf, struct err *e)
{
	struct job jobs[MAPPED_CLUSTER_RUNS];
	struct err err = { 0 };
	unsigned int begun = 0;
	int r = 0;
	int waited;

	assert(n <= MAPPED_CLUSTER_RUNS);
	for (; r == 0 && begun < n; begun++) {
		r = begin_job(m, &runs[begun], age, buf, &jobs[begun], &err);
		buf += runs[begun].length;
	}
	if (r == 0) {
		r = decode_all(m, jobs, begun, &err);
	} else {
		begun--;
	}
	if (r < 0) {
		err.code = r;
		fail_claims(m, jobs, begun, &err);
	}
	waited = wait_for_others(m, jobs, begun, r < 0 ? NULL : &err);
	r = r < 0 ? r : waited;
	if (r < 0 && e) {
		*e = err;
	}
	return r;
}
