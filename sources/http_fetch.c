/* SPDX-License-Identifier: Apache-2.0 */
/* The loop around requests: what to do next after each kind of answer. */
#include "sources/http_fetch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "sources/http_request.h"
#include "sources/http_retry.h"

/* An unreachable server at open: so long it may be restarting, then the URL is wrong. */
#define OPEN_PATIENCE_MS 3000U
/* Where the retries of one read were spent, the next (the kernel asks twice for what fails) get one
 * attempt each, as long as they follow on each other's heels: a dead server shall not cost every
 * reader the whole time limit again. */
#define GAVE_UP_MS 1000U
/* A server without ranges begins at 0 each time: so often without getting further. */
#define RESTARTS_MAX 5U
#define RENEWALS_MAX 3U
/* How often somebody who waits for another's transfer looks. */
#define WARMING_MS 300U

struct attempts {
	struct http_fetch *f;
	struct http_trail trail;
	struct net_clock clock;
	uint64_t started_ms;
	unsigned int failures;    /* in a row, without a byte between */
	unsigned int stalls;      /* likewise */
	unsigned int restarts;    /* likewise; of these, such that brought bytes we had already */
	bool server_is_dead;      /* as far as others know */
	unsigned int renewals;    /* of the authorization, since the last byte */
	bool resolved_anew;       /* the redirects, since the last byte */
	bool warming;             /* it is us who do that */
	struct http_verdict last; /* the last failure that was not for lack of time */
};

/* 0: go on; 1: finished; negative: an error. */
typedef int next_step;

static bool is_probe(const struct attempts *a)
{
	return a->f->ask.kind == HTTP_PROBE || a->f->ask.kind == HTTP_PROBE_PLAIN ||
	       a->f->ask.kind == HTTP_DOCUMENT;
}

/* How messages call what is fetched. */
static const char *name_of(const struct http_remote *remote)
{
	return remote->name ? remote->name : remote->label;
}

/* Where it failed, and if that was somewhere else, where the user had sent us. */
static next_step fail_with(const struct attempts *a, int code, const char *text, struct err *e)
{
	const struct http_url *url = &http_trail_here(&a->trail)->url;
	const char *here = url->label;

	if (a->f->remote->name && !http_conf_trusts(a->f->remote->conf, url)) {
		return err_set(
			e, code, "%s: %s (redirected to %s)", a->f->remote->name, text, url->host);
	}
	if (a->f->remote->name) {
		return err_set(e, code, "%s: %s", a->f->remote->name, text);
	}
	if (strcmp(here, a->f->remote->label) == 0) {
		return err_set(e, code, "%s: %s", here, text);
	}
	return err_set(e, code, "%s: %s (redirected from %s)", here, text, a->f->remote->label);
}

/* Whoever hands out tokens did not. */
static next_step failed_to_ask(const struct attempts *a, int code, struct err *e)
{
	struct http_fetch *f = a->f;

	f->temporary = code == -ENXIO || code == -ETIMEDOUT || code == -ECONNRESET;
	return f->remote->name ? err_wrap(e, code, "%s", f->remote->name) : code;
}

static next_step fail(const struct attempts *a, const struct http_verdict *v, struct err *e)
{
	return fail_with(a, v->code, v->text, e);
}

/* Begins again at the user's URL, unless the way began there just now. */
static bool resolve_anew(struct attempts *a)
{
	struct http_route *route = &a->f->remote->route;

	if (a->resolved_anew || !http_route_forget(route, a->trail.places[0])) {
		return false;
	}
	a->resolved_anew = true;
	http_trail_start(&a->trail, route, time(NULL));
	return true;
}

/* Another resolution may lead to a server that works. */
static void leave_failing_server(struct attempts *a)
{
	struct http_route *route = &a->f->remote->route;

	if (a->failures > 1) {
		http_route_forget(route, a->trail.places[0]);
		http_trail_start(&a->trail, route, time(NULL));
	}
}

static next_step follow(struct attempts *a, const struct http_request *q, struct err *e)
{
	if (a->f->ask.question && a->f->ask.question->form) {
		return fail_with(a, -EPROTO, "the server redirects a login, which is refused", e);
	}
	a->f->remote->redirects++;
	return http_trail_follow(&a->trail, q->head.location, time(NULL), e);
}

static next_step give_up(struct attempts *a, const struct http_request *q, struct err *e)
{
	const struct http_verdict *v = &q->verdict;
	const struct http_verdict *why = v->cause == HTTP_CAUSE_LATE && a->last.code ? &a->last : v;
	uint64_t s = (net_now_ms() - a->started_ms + 500) / 1000;
	char text[ERR_TEXT_MAX];

	a->f->temporary = true;
	a->f->remote->gave_up_ms = net_now_ms();
	if (q->head.retry_after != HTTP_UNKNOWN) {
		snprintf(text, sizeof(text),
			"%s and asks to wait %" PRIu64 " s; gave up after %" PRIu64 " s", why->text,
			q->head.retry_after, s);
	} else {
		snprintf(text, sizeof(text), "%s; gave up after %" PRIu64 " s", why->text, s);
	}
	return fail_with(a, a->f->opening ? why->code : -ETIMEDOUT, text, e);
}

static uint64_t time_left(const struct net_clock *c)
{
	uint64_t now = net_now_ms();

	return now < c->deadline_ms ? c->deadline_ms - now : 0;
}

static bool out_of_tries(const struct attempts *a)
{
	unsigned int tries = a->f->remote->conf->tries;

	return tries > 0 && a->failures >= tries && !a->f->hard;
}

static bool out_of_time(const struct attempts *a, const struct http_verdict *v, uint64_t wait_ms)
{
	if (a->f->hard) {
		return false;
	}
	if (a->f->opening && v->cause == HTTP_CAUSE_UNREACHABLE &&
		net_now_ms() + wait_ms - a->started_ms >= OPEN_PATIENCE_MS) {
		return true;
	}
	return a->server_is_dead || v->cause == HTTP_CAUSE_LATE || wait_ms >= time_left(&a->clock);
}

/* A server without ranges has to send everything again, and without a validator nobody knows
 * whether it is the same. */
static next_step check_restart(const struct attempts *a, struct err *e)
{
	const struct http_fetch *f = a->f;

	if (f->ask.kind != HTTP_WHOLE && !f->ask.whole_ok) {
		return 0;
	}
	if (f->remote->streamed && !f->ask.version->addressed &&
		!http_version_has_validator(f->ask.version)) {
		return err_set(e, -ESTALE,
			"%s: the transfer did not bring all that is wanted; the server serves "
			"neither ranges nor a version (ETag, Last-Modified), so nobody knows "
			"whether another one is of the same bytes: open it again to start over",
			name_of(f->remote));
	}
	if (a->restarts > RESTARTS_MAX && !f->hard) {
		return err_set(e, -ETIMEDOUT,
			"%s: the transfer breaks off each time before byte %" PRIu64
			", and the server serves no ranges to continue with",
			name_of(f->remote), f->ask.off + f->got);
	}
	return 0;
}

static next_step try_again(struct attempts *a, const struct http_request *q, struct err *e)
{
	const struct http_verdict *v = &q->verdict;
	uint64_t wait;
	int r;

	a->failures++;
	a->stalls = v->cause == HTTP_CAUSE_STALL ? a->stalls + 1 : 0;
	a->f->remote->retries++;
	a->f->remote->stalls += v->cause == HTTP_CAUSE_STALL;
	a->restarts += q->received > 0 && q->got == 0;
	r = check_restart(a, e);
	if (r < 0) {
		return r;
	}
	wait = http_retry_wait(
		a->failures, q->head.retry_after, arc4random(), time_left(&a->clock));
	if (out_of_tries(a) || out_of_time(a, v, wait)) {
		return give_up(a, q, e);
	}
	if (v->cause == HTTP_CAUSE_LATE || time_left(&a->clock) == 0) {
		a->clock = net_clock_start(a->clock.limit_ms);
	} else {
		a->last = *v;
	}
	log_debug("%s: %s; attempt %u in %" PRIu64 " ms", http_trail_here(&a->trail)->url.label,
		v->text, a->failures + 1, wait);
	leave_failing_server(a);
	if (!net_sleep(a->f->remote->net, wait, a->f->remote->cancel)) {
		return err_set(e, -ECANCELED, "%s: stopped", name_of(a->f->remote));
	}
	return 0;
}

/* A registry that fetches what it is asked for from another (a pull-through cache) serves no ranges
 * before it has all of it. Where that is news, one transfer reads all there is, so that it gets
 * there, and the others wait. */
static next_step take_whole(struct attempts *a, struct err *e)
{
	struct http_fetch *f = a->f;
	struct http_remote *remote = f->remote;

	if (remote->no_ranges || remote->warmed) {
		f->ask.whole_ok = true;
		return 0;
	}
	if (!atomic_exchange(&remote->warming, true)) {
		a->warming = true;
		f->ask.whole_ok = true;
		f->ask.drain = true;
		return 0;
	}
	if (time_left(&a->clock) == 0 && !f->hard) {
		f->temporary = true;
		return fail_with(a, -ETIMEDOUT,
			"the server does not serve ranges of it before it has all of it", e);
	}
	return net_sleep(remote->net, WARMING_MS, remote->cancel)
		       ? 0
		       : err_set(e, -ECANCELED, "%s: stopped", name_of(remote));
}

/* The server has the version but no ranges of it. Known since the probe, that is no surprise; after
 * an open without the server it is news. */
static next_step without_ranges(struct attempts *a, const struct http_verdict *v, struct err *e)
{
	struct http_fetch *f = a->f;

	if (f->ask.kind == HTTP_PROBE) {
		f->ask.kind = HTTP_PROBE_PLAIN;
		return 0;
	}
	if (f->ask.version->addressed && a->f->status == 200) {
		return take_whole(a, e);
	}
	if (f->remote->unconfirmed || f->remote->no_ranges || f->ask.version->addressed) {
		f->remote->no_ranges = true;
		f->ask.kind = HTTP_WHOLE;
		return 0;
	}
	return fail(a, v, e);
}

static bool uses_tokens(const struct attempts *a)
{
	const struct http_conf *c = a->f->remote->conf;

	return c->auth && !c->authorization &&
	       http_conf_trusts(c, &http_trail_here(&a->trail)->url);
}

static next_step refused(struct attempts *a, const struct http_verdict *v, struct err *e)
{
	return resolve_anew(a) ? 0 : fail(a, v, e);
}

/* What has expired is renewed, once or twice. */
static next_step renew(struct attempts *a, const struct http_request *q, struct err *e)
{
	struct http_auth *auth = a->f->remote->conf->auth;
	int r;

	if (a->renewals++ >= RENEWALS_MAX) {
		return fail(a, &q->verdict, e);
	}
	r = auth->ops->refused(auth, q->authorization, q->head.challenges, a->f->remote->cancel, e);
	return r < 0 ? failed_to_ask(a, r, e) : 0;
}

static void note_accepted(const struct attempts *a, const struct http_request *q)
{
	struct http_auth *auth = a->f->remote->conf->auth;

	if (q->authorization && q->head.status != 0 && q->head.status != 401) {
		auth->ops->accepted(auth, q->authorization);
	}
}

static int authorize(struct attempts *a, char **ret, struct err *e)
{
	struct http_auth *auth = a->f->remote->conf->auth;
	int r;

	*ret = NULL;
	if (!uses_tokens(a)) {
		return 0;
	}
	r = auth->ops->authorize(auth, a->f->remote->cancel, ret, e);
	return r < 0 ? failed_to_ask(a, r, e) : 0;
}

static next_step use_digest(struct attempts *a, const struct http_verdict *v, struct err *e)
{
	bool tried = a->f->remote->conf->digest;

	a->f->remote->conf->digest = true;
	return tried ? refused(a, v, e) : 0;
}

static next_step finish(struct attempts *a, struct http_request *q)
{
	struct http_remote *remote = a->f->remote;

	if (a->trail.count > 1) {
		http_route_keep(&remote->route, http_trail_here(&a->trail));
	}
	a->f->verdict = q->verdict;
	return 1;
}

static next_step changed(struct attempts *a, const struct http_verdict *v, struct err *e)
{
	a->f->remote->changed = true;
	return fail(a, v, e);
}

static next_step after(struct attempts *a, struct http_request *q, struct err *e)
{
	switch (q->verdict.answer) {
	case HTTP_DONE:
		return finish(a, q);
	case HTTP_MORE:
		return is_probe(a) ? finish(a, q) : 0;
	case HTTP_MOVED:
		return follow(a, q, e);
	case HTTP_AGAIN:
		return try_again(a, q, e);
	case HTTP_REFUSED:
		return q->head.status == 401 && uses_tokens(a) ? renew(a, q, e)
							       : refused(a, &q->verdict, e);
	case HTTP_DIGEST:
		return use_digest(a, &q->verdict, e);
	case HTTP_NO_RANGES:
		return without_ranges(a, &q->verdict, e);
	case HTTP_CHANGED:
		return changed(a, &q->verdict, e);
	case HTTP_ACCEPT:
	case HTTP_FATAL:
		break;
	}
	return fail(a, &q->verdict, e);
}

static struct http_request next_request(struct attempts *a)
{
	struct http_fetch *f = a->f;
	uint64_t have = is_probe(a) ? 0 : f->got;
	const struct http_url *url = &http_trail_here(&a->trail)->url;
	struct http_request q = {
		.remote = f->remote,
		.url = url,
		.ask = f->ask,
		.sink = f->sink,
		.ctx = f->ctx,
		.clock = &a->clock,
		.stall_ms = http_retry_stall(a->stalls, f->limit_ms),
	};

	q.ask.off += have;
	q.ask.len -= have;
	q.ask.credentials = http_conf_trusts(f->remote->conf, url) &&
			    (f->remote->conf->user || f->remote->conf->password ||
				    f->remote->conf->authorization);
	return q;
}

/* Bytes came: what went wrong before is forgotten, and the server is the one that we knew. */
static void note_progress(struct attempts *a, const struct http_request *q)
{
	struct http_fetch *f = a->f;

	if (is_probe(a)) {
		f->got = q->got;
	} else if (q->got > 0) {
		f->got += q->got;
		f->remote->streamed |= f->ask.kind == HTTP_WHOLE;
		a->failures = 0;
		a->stalls = 0;
		a->restarts = 0;
		a->renewals = 0;
		a->resolved_anew = false;
		a->last.code = 0;
		f->remote->unconfirmed = false;
		f->remote->gave_up_ms = 0;
		if (a->trail.count > 1) {
			http_route_keep(&f->remote->route, http_trail_here(&a->trail));
			http_trail_start(&a->trail, &f->remote->route, time(NULL));
		}
	}
}

static next_step attempt(struct attempts *a, struct err *e)
{
	struct http_fetch *f = a->f;
	CLEANUP_SECRET char *authorization = NULL;
	struct http_request q;
	next_step step = check_restart(a, e);

	if (step < 0) {
		return step;
	}
	if (f->remote->changed) {
		return err_set(e, -ESTALE,
			"%s: the image changed on the server since it was opened",
			name_of(f->remote));
	}
	if (a->trail.count == 1) {
		http_trail_start(&a->trail, &f->remote->route, time(NULL));
	}
	step = authorize(a, &authorization, e);
	if (step < 0) {
		return step;
	}
	q = next_request(a);
	q.authorization = authorization;
	http_request_run(&q);
	f->status = q.head.status;
	f->cause = q.verdict.cause;
	f->elsewhere = !http_conf_trusts(f->remote->conf, q.url);
	note_progress(a, &q);
	note_accepted(a, &q);
	step = after(a, &q, e);
	if (step != 0) {
		f->head = q.head;
	} else {
		http_headers_clear(&q.head);
	}
	return step;
}

int http_fetch_run(struct http_fetch *f, struct err *e)
{
	struct attempts a = {
		.f = f,
		.clock = net_clock_start(f->limit_ms),
		.started_ms = net_now_ms(),
	};
	uint64_t gave_up_ms = f->remote->gave_up_ms;
	next_step step = 0;

	a.server_is_dead = gave_up_ms && a.started_ms < gave_up_ms + GAVE_UP_MS;
	assert(f->ask.len > 0);
	f->got = 0;
	f->temporary = false;
	f->status = 0;
	http_trail_start(&a.trail, &f->remote->route, time(NULL));
	while (step == 0) {
		step = attempt(&a, e);
	}
	http_trail_clear(&a.trail);
	if (a.warming) {
		f->remote->warmed = true;
		f->remote->warming = false;
	}
	return step < 0 ? step : 0;
}
