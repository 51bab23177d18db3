/* SPDX-License-Identifier: Apache-2.0 */
/* Reads groups of compressed clusters: claims, one read a span, decompression, waiting for others.
 */
#include "formats/qcow2_cluster.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"

/* Streams that lie so close together in the file are read with one read, of so much at most (one
 * stream alone may be longer). */
#define SPAN_GAP 16384U
#define SPAN_MAX MIB(2)

struct job {
	const struct qcow2_run *run;
	uint8_t *to;
	struct memo_item *item; /* MINE, THEIRS */
	enum {
		DONE,
		WHOLE,
		MINE,
		THEIRS
	} state;
};

static void copy_part(const struct qcow2 *q, const struct job *job)
{
	uint64_t in_cluster = job->run->offset & (q->geo.cluster_size - 1);

	memcpy(job->to, job->item->data + in_cluster, job->run->length);
}

/* Settles what the memory of decompressed clusters knows of one run. */
static int begin_job(
	struct qcow2 *q, const struct qcow2_run *run, uint8_t *to, struct job *ret, struct err *e)
{
	uint64_t number = run->offset >> q->geo.cluster_bits;
	enum memo_claim claim = MEMO_READY;

	*ret = (struct job){ .run = run };
	ret->to = to;
	if (run->length == q->geo.cluster_size) {
		ret->item = memo_find(q->clusters, number);
		if (!ret->item) {
			ret->state = WHOLE;
			return 0;
		}
	} else {
		claim = memo_claim(q->clusters, number, &ret->item);
	}
	switch (claim) {
	case MEMO_READY:
		copy_part(q, ret);
		memo_put(q->clusters, ret->item);
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

static int decode_job(
	struct qcow2 *q, struct qcow2_decoder *d, struct job *job, const uint8_t *in, struct err *e)
{
	const struct qcow2_run *run = job->run;
	uint8_t *out = job->state == MINE ? job->item->data : job->to;
	int r = qcow2_decoder_run(d, in, run->host_length, out);

	if (r == -ENOMEM) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		return err_set(e, -EBADMSG,
			"qcow2: guest offset %" PRIu64 ": the %" PRIu64 " bytes at offset %" PRIu64
			" do not decompress to a cluster%s",
			run->offset, run->host_length, run->host,
			run->host + run->host_length == q->geo.host_size ? ": the file ends there"
									 : "");
	}
	if (job->state == MINE) {
		memo_publish(q->clusters, job->item, q->geo.cluster_size);
		copy_part(q, job);
		memo_put(q->clusters, job->item);
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
		const struct qcow2_run *run = jobs[count].run;
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

static int decode_span(struct qcow2 *q, struct qcow2_decoder *d, struct job *jobs, unsigned int n,
	uint64_t end, struct err *e)
{
	uint64_t start = jobs[0].run->host;
	uint8_t *in = qcow2_decoder_room(d, end - start);
	int r;

	if (!in) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(q->img.below, in, end - start, start, e);
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		if (to_decode(&jobs[i])) {
			r = decode_job(q, d, &jobs[i], in + (jobs[i].run->host - start), e);
		}
	}
	return r;
}

static int decode_all(struct qcow2 *q, struct job *jobs, unsigned int n, struct err *e)
{
	struct qcow2_decoder *d = NULL;
	unsigned int i = 0;
	int r = 0;

	while (r == 0 && i < n) {
		unsigned int count = 1;
		uint64_t end;

		if (to_decode(&jobs[i])) {
			d = d ? d : qcow2_codec_take(q->codec);
			if (!d) {
				return err_set(e, -ENOMEM, "out of memory");
			}
			count = span_of(jobs + i, n - i, &end);
			r = decode_span(q, d, jobs + i, count, end, e);
		}
		i += count;
	}
	if (d) {
		qcow2_codec_give(q->codec, d);
	}
	return r;
}

/* Nobody may wait for a claim of ours that we gave up. */
static void fail_claims(struct qcow2 *q, struct job *jobs, unsigned int n, const struct err *err)
{
	for (unsigned int i = 0; i < n; i++) {
		if (jobs[i].state == MINE) {
			memo_fail(q->clusters, jobs[i].item, err);
			jobs[i].state = DONE;
		}
	}
}

static int wait_for_others(struct qcow2 *q, const struct job *jobs, unsigned int n, struct err *e)
{
	int result = 0;

	for (unsigned int i = 0; i < n; i++) {
		int r;

		if (jobs[i].state != THEIRS) {
			continue;
		}
		r = memo_wait(q->clusters, jobs[i].item, result < 0 ? NULL : e);
		if (r == 0) {
			copy_part(q, &jobs[i]);
			memo_put(q->clusters, jobs[i].item);
		} else if (result == 0) {
			result = r;
		}
	}
	return result;
}

int qcow2_cluster_read(
	struct qcow2 *q, const struct qcow2_run *runs, unsigned int n, uint8_t *buf, struct err *e)
{
	struct job jobs[QCOW2_CLUSTER_RUNS];
	struct err err = { 0 };
	unsigned int begun = 0;
	int r = 0;
	int waited;

	assert(n <= QCOW2_CLUSTER_RUNS);
	for (; r == 0 && begun < n; begun++) {
		r = begin_job(q, &runs[begun], buf, &jobs[begun], &err);
		buf += runs[begun].length;
	}
	if (r == 0) {
		r = decode_all(q, jobs, begun, &err);
	} else {
		begun--;
	}
	if (r < 0) {
		err.code = r;
		fail_claims(q, jobs, begun, &err);
	}
	waited = wait_for_others(q, jobs, begun, r < 0 ? NULL : &err);
	r = r < 0 ? r : waited;
	if (r < 0 && e) {
		*e = err;
	}
	return r;
}
