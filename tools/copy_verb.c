/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk copy`: the disk of an image into a file or onto a block device. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/copy_verb.h"

#include "tools/copy_manifest.h"
#include "tools/exitcode.h"
#include "tools/options.h"
#include "tools/stack.h"
#include "tools/verb.h"

static int parse_preallocation(const char *text, enum sink_prealloc *ret, struct err *e)
{
	if (!text || strcmp(text, "off") == 0) {
		*ret = SINK_PREALLOC_OFF;
	} else if (strcmp(text, "falloc") == 0) {
		*ret = SINK_PREALLOC_FALLOC;
	} else if (strcmp(text, "full") == 0) {
		*ret = SINK_PREALLOC_FULL;
	} else {
		return err_set(
			e, -EINVAL, "--preallocation: '%s' is not off, falloc or full", text);
	}
	return 0;
}

/* What each volume says for itself is not said for all of them; and a password is not sent to all
 * the servers that manifests name. */
static int check_manifests(const struct options *o, struct err *e)
{
	if (!o->manifest_count) {
		return o->volumes ? err_set(e, -EINVAL, "--volumes needs -f") : 0;
	}
	if (!o->volumes) {
		return err_set(e, -EINVAL, "-f needs --volumes: where the volumes are");
	}
	if (o->size_given || o->format || o->member || o->target_is_zero || o->checksum) {
		return err_set(e, -EINVAL,
			"--size, --format, --member, --checksum and --target-is-zero cannot be "
			"given with -f");
	}
	if (o->user || o->secret || o->header_file) {
		return err_set(e, -EINVAL,
			"--user, --secret and --header-file cannot be given with -f: put "
			"credentials into a Secret among the manifests");
	}
	return 0;
}

int copy_verb_job(const struct options *o, struct copy_job *ret, struct err *e)
{
	struct copy_job job = {
		.options = o,
		.size = o->size,
		.force = o->force,
		.target_is_zero = o->target_is_zero,
		.verify = o->verify,
		.rate = o->rate,
	};
	int r = stack_check(o, e);

	if (r == 0) {
		r = check_manifests(o, e);
	}
	if (r == 0) {
		r = parse_preallocation(o->preallocation, &job.preallocation, e);
	}
	if (r == 0) {
		r = progress_parse(o->progress, &job.progress, e);
	}
	if (r == 0 && ((o->size_given && o->size == 0) || (o->rate_given && o->rate == 0))) {
		r = err_set(e, -EINVAL, "--%s: it must be more than 0",
			o->size_given && o->size == 0 ? "size" : "rate");
	}
	if (r == 0) {
		*ret = job;
	}
	return r;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / 1048576;
}

void copy_verb_summarise(const struct copy_job *job, const struct copy_result *result)
{
	if (job->progress != PROGRESS_AUTO && job->progress != PROGRESS_PLAIN) {
		return;
	}
	fprintf(stderr,
		"%s: %.1f MiB fetched, %.1f MiB written, %.1f MiB zeroed, %.1f MiB found done, in "
		"%.1f s (%.1f MiB/s)\n",
		job->target, mib(result->fetched), mib(result->written), mib(result->zeroed),
		mib(result->skipped), result->seconds,
		result->seconds > 0 ? mib(result->read + result->skipped) / result->seconds : 0);
}

int copy_verb_run(const struct options *o)
{
	struct options own = *o;
	struct copy_result result;
	struct copy_job job = { 0 };
	struct err e;
	int r = copy_verb_job(&own, &job, &e);

	own.check_digests = true;
	if (r < 0) {
		return exitcode_report(&e, EXITCODE_USAGE);
	}
	if (own.manifest_count) {
		return copy_manifest_run(&own, &job);
	}
	job.source = own.args[0];
	job.target = own.args[1];
	r = copy_run(&job, &result, &e);
	if (r < 0) {
		return exitcode_report(&e, result.exitcode);
	}
	copy_verb_summarise(&job, &result);
	return EXITCODE_OK;
}
