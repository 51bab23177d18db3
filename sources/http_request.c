/* SPDX-License-Identifier: Apache-2.0 */
/* One transfer: from a question to curl, from curl's callbacks to the sink. The header decides what
 * happens to the body before its first byte is looked at. */
#include "sources/http_request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "sources/http_error.h"

/* The body of a redirect or an error is read to its end, so that the connection can be used again;
 * but not more than this. */
#define DROP_MAX 65536U

struct exchange {
	struct http_request *q;
	struct net_transfer transfer;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];
	bool judged; /* verdict is of the present header */
	uint64_t body_done;
	uint64_t dropped;
	bool overrun;
	bool no_memory;
	int sink_error;
};

static bool wants_body(const struct exchange *x)
{
	return x->judged && x->q->verdict.answer == HTTP_ACCEPT;
}

/* Whether the rest of the answer is worth reading. */
static bool judge(struct exchange *x)
{
	struct http_request *q = x->q;

	x->judged = true;
	q->verdict = http_check(&q->ask, &q->head);
	x->transfer.overloaded = q->head.status == 429 || q->head.status == 503;
	return wants_body(x) || (q->head.status != 200 && q->head.status != 206);
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;

	(void)size;
	net_heard(&x->transfer, 0);
	http_headers_line(&x->q->head, line, n, time(NULL));
	if (!x->q->head.complete) {
		x->judged = false;
	} else if (!x->judged && !judge(x)) {
		return 0;
	}
	return n;
}

/* Hands over the part of [at, at + n) that is wanted. */
static bool deliver(struct exchange *x, const char *data, uint64_t at, size_t n)
{
	struct http_request *q = x->q;
	uint64_t from = max_u64(at, q->ask.off + q->got);
	uint64_t to = min_u64(at + n, q->ask.off + q->ask.len);

	if (from < to) {
		x->sink_error = q->sink(q->ctx, from, data + (from - at), to - from);
		if (x->sink_error < 0) {
			return false;
		}
		q->got += to - from;
	}
	return true;
}

/* Why a question was refused, as far as there is room for it. */
static void note_refusal(struct exchange *x, const char *data, size_t n)
{
	const struct http_question *w = x->q->ask.question;

	if (w && w->said && x->dropped + 1 < w->said_room) {
		n = min_u64(n, w->said_room - 1 - x->dropped);
		memcpy(w->said + x->dropped, data, n);
		w->said[x->dropped + n] = '\0';
	}
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	struct http_request *q = x->q;
	uint64_t at;

	(void)size;
	net_heard(&x->transfer, wants_body(x) ? n : 0);
	q->remote->bytes_fetched += n;
	if (!wants_body(x)) {
		note_refusal(x, data, n);
		x->dropped += n;
		return x->dropped <= DROP_MAX ? n : 0;
	}
	if (n > q->verdict.body_len - x->body_done) {
		x->overrun = true;
		return 0;
	}
	at = q->verdict.body_off + x->body_done;
	x->body_done += n;
	q->received += n;
	if (!deliver(x, data, at, n)) {
		return 0;
	}
	return q->got == q->ask.len && x->body_done < q->verdict.body_len && !q->ask.drain ? 0 : n;
}

static void add_line(struct exchange *x, const char *line)
{
	struct curl_slist *list = curl_slist_append(x->headers, line);

	if (list) {
		x->headers = list;
	} else {
		x->no_memory = true;
	}
}

static void add_header(struct exchange *x, const char *name, const char *value)
{
	char line[HTTP_ETAG_MAX + 64];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	add_line(x, line);
}

/* Tokens may be longer than any field of our own. */
static void add_secret(struct exchange *x, const char *name, const char *value)
{
	char *line = NULL;

	if (asprintf(&line, "%s: %s", name, value) < 0) {
		x->no_memory = true;
		return;
	}
	add_line(x, line);
	free_secret(line);
}

static void set_headers(struct exchange *x, CURL *easy)
{
	const struct http_request *q = x->q;
	const struct http_version *v = q->ask.version;
	char range[64];

	add_header(x, "Accept-Encoding", "identity");
	if (q->ask.kind == HTTP_PROBE || q->ask.kind == HTTP_RANGE) {
		snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, q->ask.off,
			q->ask.off + q->ask.len - 1);
		add_header(x, "Range", range);
	}
	if (q->ask.kind == HTTP_RANGE && http_version_strong(v)) {
		add_header(x, "If-Match", v->etag);
	} else if (q->ask.kind == HTTP_RANGE && v->if_range) {
		add_header(x, "If-Range", v->last_modified);
	}
	if (q->ask.question && q->ask.question->accept) {
		add_header(x, "Accept", q->ask.question->accept);
	}
	if (http_conf_trusts(q->remote->conf, q->url)) {
		if (q->authorization) {
			add_secret(x, "Authorization", q->authorization);
		}
		for (const struct curl_slist *h = q->remote->conf->headers; h; h = h->next) {
			add_line(x, h->data);
		}
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
}

static void set_method(const struct http_question *w, CURL *easy)
{
	if (w && strcmp(w->method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (w && strcmp(w->method, "POST") == 0) {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(w->form));
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, w->form);
	}
}

static void configure(struct exchange *x, CURL *easy)
{
	http_conf_apply(x->q->remote->conf, x->q->url, easy);
	set_headers(x, easy);
	set_method(x->q->ask.question, easy);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
}

static struct http_verdict failure(struct exchange *x, CURL *easy)
{
	const struct http_request *q = x->q;
	struct http_failure f = {
		.end = x->transfer.end,
		.result = x->transfer.result,
		.detail = x->error,
		.host = q->url->host,
		.authority = strstr(q->url->origin, "://") + 3,
		.stall_ms = q->stall_ms,
		.limit_ms = q->clock->limit_ms,
	};
	curl_off_t connected_us = 0;
	long connect_status = 0;

	curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &connect_status);
	curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
	f.connect_status = (int)connect_status;
	f.connected = connected_us > 0;
	if (http_conf_trusts(q->remote->conf, q->url)) {
		f.user_cert = q->remote->conf->client_cert;
	}
	if (!x->error[0] && f.result != CURLE_OK) {
		snprintf(x->error, sizeof(x->error), "%s", curl_easy_strerror(f.result));
	}
	return http_error(&f);
}

/* All of it came, or more than is wanted. */
static struct http_verdict conclude_document(struct exchange *x, CURL *easy)
{
	const struct http_request *q = x->q;
	struct http_verdict v = q->verdict;
	bool ended = x->transfer.end == NET_ENDED && x->transfer.result == CURLE_OK;

	if (!ended && q->got < q->ask.len) {
		return failure(x, easy);
	}
	v.answer = HTTP_DONE;
	return v;
}

/* What the transfer came to, given that its header was fine. */
static struct http_verdict conclude_body(struct exchange *x, CURL *easy)
{
	struct http_request *q = x->q;
	struct http_verdict v = q->verdict;
	bool ended = x->transfer.end == NET_ENDED && x->transfer.result == CURLE_OK;
	bool probe = q->ask.kind == HTTP_PROBE || q->ask.kind == HTTP_PROBE_PLAIN;

	if (q->ask.kind == HTTP_DOCUMENT) {
		return conclude_document(x, easy);
	}

	if (probe && ended && v.total == HTTP_UNKNOWN && q->head.status == 200) {
		v.total = x->body_done;
	}
	if (q->got == q->ask.len || (probe && v.total != HTTP_UNKNOWN)) {
		v.answer = HTTP_DONE;
	} else if (ended && (probe || x->body_done == v.body_len)) {
		v.answer = HTTP_MORE;
	} else {
		v = failure(x, easy);
	}
	return v;
}

static struct http_verdict conclude(struct exchange *x, CURL *easy)
{
	if (x->sink_error < 0) {
		return http_verdict_error(
			HTTP_FATAL, x->sink_error, "the reader stopped the stream");
	}
	if (x->overrun) {
		return http_verdict_error(
			HTTP_FATAL, -EPROTO, "the server sends more bytes than it announced");
	}
	if (x->transfer.end == NET_STOPPED || !x->judged) {
		return failure(x, easy);
	}
	return x->q->verdict.answer == HTTP_ACCEPT ? conclude_body(x, easy) : x->q->verdict;
}

static void run(struct exchange *x, CURL *easy)
{
	struct http_request *q = x->q;
	long connects = 0;

	x->transfer.easy = easy;
	configure(x, easy);
	if (x->no_memory) {
		q->verdict = http_verdict_error(HTTP_FATAL, -ENOMEM, "out of memory");
		return;
	}
	q->remote->requests++;
	net_run(q->remote->net, &x->transfer);
	q->verdict = conclude(x, easy);
	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
	q->remote->connections += (uint64_t)connects;
}

void http_request_run(struct http_request *q)
{
	struct exchange x = {
		.q = q,
		.transfer = {
			.origin = q->url->origin,
			.clock = q->clock,
			.stall_ms = q->stall_ms,
			.cancel = q->remote->cancel,
		},
	};
	CURL *easy = net_easy(q->remote->net);

	q->head = HTTP_HEADERS_INIT;
	q->got = 0;
	q->received = 0;
	if (!easy) {
		q->verdict = http_verdict_error(HTTP_FATAL, -ENOMEM, "out of memory");
		return;
	}
	run(&x, easy);
	net_easy_done(q->remote->net, easy);
	for (struct curl_slist *h = x.headers; h && q->authorization; h = h->next) {
		explicit_bzero(h->data, strlen(h->data));
	}
	curl_slist_free_all(x.headers);
}
