/* SPDX-License-Identifier: Apache-2.0 */
/* Progress of a copy, as people and programs want to see it. */
#include "tools/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

#define BAR_WIDTH  24U
#define ETA_ROOM   32U
#define BAR_EVERY  0.2
#define LINE_EVERY 5.0
#define JSON_EVERY 1.0
/* The share of a new second in the rate. */
#define RATE_WEIGHT 0.4

int progress_parse(const char *text, enum progress_mode *ret, struct err *e)
{
	static const char *const names[] = { "auto", "plain", "json", "none" };

	for (unsigned int i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret = (enum progress_mode)i;
			return 0;
		}
	}
	if (text) {
		return err_set(
			e, -EINVAL, "--progress: '%s' is not auto, plain, json or none", text);
	}
	*ret = PROGRESS_AUTO;
	return 0;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* There is more than was estimated; nobody knows how much. */
static bool is_overrun(const struct progress_state *s)
{
	return s->done > s->total;
}

double progress_eta(const struct progress_state *s)
{
	if (s->done >= s->total) {
		return is_overrun(s) ? -1 : 0;
	}
	return s->rate > 0 ? (double)(s->total - s->done) / s->rate : -1;
}

static unsigned int percent(const struct progress_state *s)
{
	if (s->done >= s->total) {
		return 100;
	}
	return (unsigned int)((double)s->done * 100 / (double)s->total);
}

static void format_eta(double eta, char ret[ETA_ROOM])
{
	bool known = eta >= 0 && eta < 359999;
	uint64_t s = known ? (uint64_t)(eta + 0.5) : 0;

	if (!known) {
		snprintf(ret, ETA_ROOM, "--:--");
	} else if (s >= 3600) {
		snprintf(ret, ETA_ROOM, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600,
			s / 60 % 60, s % 60);
	} else {
		snprintf(ret, ETA_ROOM, "%02" PRIu64 ":%02" PRIu64, s / 60, s % 60);
	}
}

static void format_people(bool bar, const struct progress_state *s, char *ret, size_t room)
{
	char blocks[BAR_WIDTH + 1];
	unsigned int full = percent(s) * BAR_WIDTH / 100;
	char eta[ETA_ROOM];

	if (is_overrun(s)) {
		snprintf(ret, room, "%s  %.1f MiB  %.1f MiB/s", s->phase, (double)s->done / 1048576,
			s->rate / 1048576);
		return;
	}
	memset(blocks, '-', BAR_WIDTH);
	memset(blocks, '#', full);
	blocks[BAR_WIDTH] = '\0';
	format_eta(progress_eta(s), eta);
	snprintf(ret, room, "%s %s%s%s%3u %%  %.1f of %.1f MiB  %.1f MiB/s  ETA %s", s->phase,
		bar ? "[" : "", bar ? blocks : "", bar ? "] " : "", percent(s),
		(double)s->done / 1048576, (double)s->total / 1048576, s->rate / 1048576, eta);
}

static void format_json(const struct progress_state *s, char *ret, size_t room)
{
	double eta = progress_eta(s);
	char number[32] = "null";
	char total[32] = "null";

	if (eta >= 0) {
		snprintf(number, sizeof(number), "%.1f", eta);
	}
	if (!is_overrun(s)) {
		snprintf(total, sizeof(total), "%" PRIu64, s->total);
	}
	snprintf(ret, room,
		"{\"phase\":\"%s\",\"done\":%" PRIu64 ",\"total\":%s"
		",\"rate\":%.0f,\"eta_s\":%s,\"elapsed_s\":%.1f}",
		s->phase, s->done, total, s->rate, number, s->seconds);
}

void progress_format(
	enum progress_mode mode, const struct progress_state *s, char *ret, size_t room)
{
	if (mode == PROGRESS_JSON) {
		format_json(s, ret, room);
	} else {
		format_people(mode == PROGRESS_BAR, s, ret, room);
	}
}

static void show(struct progress *p)
{
	char text[256];

	progress_format(p->mode, &p->state, text, sizeof(text));
	switch (p->mode) {
	case PROGRESS_BAR:
		fprintf(stderr, "\r\033[K%s", text);
		fflush(stderr);
		p->bar_is_open = true;
		break;
	case PROGRESS_JSON:
		printf("%s\n", text);
		fflush(stdout);
		break;
	case PROGRESS_PLAIN:
	case PROGRESS_AUTO:
		fprintf(stderr, "%s\n", text);
		break;
	case PROGRESS_NONE:
		break;
	}
	p->shown = now_s();
}

void progress_begin(struct progress *p, enum progress_mode mode, uint64_t total)
{
	if (mode == PROGRESS_AUTO) {
		mode = isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_PLAIN;
	}
	*p = (struct progress){ .mode = mode };
	p->begun = now_s();
	p->shown = p->begun;
	p->sampled = p->begun;
	p->state = (struct progress_state){ .phase = "copy", .total = total };
}

static void sample(struct progress *p, double now)
{
	double since = now - p->sampled;
	double rate;

	if (since < 0.5) {
		return;
	}
	rate = p->state.done > p->sample ? (double)(p->state.done - p->sample) / since : 0;
	p->state.rate =
		p->state.rate > 0 ? (1 - RATE_WEIGHT) * p->state.rate + RATE_WEIGHT * rate : rate;
	p->sampled = now;
	p->sample = p->state.done;
}

void progress_tell(struct progress *p, const char *phase, uint64_t done)
{
	double every = p->mode == PROGRESS_BAR    ? BAR_EVERY
		       : p->mode == PROGRESS_JSON ? JSON_EVERY
						  : LINE_EVERY;
	double now = now_s();

	if (done < p->state.done) {
		p->sample = 0;
		p->sampled = now;
		p->state.rate = 0;
	}
	p->state.phase = phase;
	p->state.done = done;
	p->state.seconds = now - p->begun;
	sample(p, now);
	if (now - p->shown >= every) {
		show(p);
	}
}

void progress_measured(struct progress *p, uint64_t total)
{
	p->state.total = total;
}

void progress_break(struct progress *p)
{
	if (p->bar_is_open) {
		fprintf(stderr, "\r\033[K");
		p->bar_is_open = false;
	}
}

void progress_end(struct progress *p, bool ok)
{
	progress_break(p);
	if (p->mode == PROGRESS_JSON) {
		p->state.phase = ok ? "done" : "failed";
		p->state.done = ok ? p->state.total : p->state.done;
		p->state.seconds = now_s() - p->begun;
		/* Of all of it, in the end: a short copy was never sampled. */
		p->state.rate = p->state.seconds > 0 ? (double)p->state.done / p->state.seconds
						     : p->state.rate;
		show(p);
	}
}
