/* SPDX-License-Identifier: Apache-2.0 */
/* The image over a web server: one checked range request a read, on kept-alive connections. */
#include "sources/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "sources/http_url.h"

#define IDLE_MAX 32

struct net {
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX];
	unsigned int idle_count;
};

struct http_image {
	struct image img;
	struct net *net;
	struct http_url url;
	char *cacert;
	char *validator; /* "ETag: ..." or "" */
	_Atomic uint64_t requests;
	_Atomic uint64_t bytes;
};

/* One answer: its headers, and where its body goes. */
struct answer {
	CURL *curl;
	uint64_t off;
	uint64_t want;
	uint64_t got;
	uint64_t total;
	bool range_ok;
	char etag[300];
	image_sink_fn *sink;
	void *ctx;
	int sink_error;
};

int net_new(unsigned int connections, struct net **ret, struct err *e)
{
	struct net *net = calloc(1, sizeof(*net));

	(void)connections;
	if (!net) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_mutex_init(&net->lock, NULL);
	*ret = net;
	return 0;
}

void net_free(struct net *net)
{
	if (net) {
		while (net->idle_count > 0) {
			curl_easy_cleanup(net->idle[--net->idle_count]);
		}
		pthread_mutex_destroy(&net->lock);
		free(net);
	}
}

static CURL *take_handle(struct net *net)
{
	LOCK_SCOPE(&net->lock);

	return net->idle_count > 0 ? net->idle[--net->idle_count] : curl_easy_init();
}

static void give_handle(struct net *net, CURL *c)
{
	LOCK_SCOPE(&net->lock);

	if (net->idle_count < IDLE_MAX) {
		net->idle[net->idle_count++] = c;
	} else {
		curl_easy_cleanup(c);
	}
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;
	char text[256];
	uint64_t from;
	uint64_t to;

	(void)size;
	snprintf(text, sizeof(text), "%.*s", (int)n, line);
	text[strcspn(text, "\r\n")] = '\0';
	if (strncasecmp(text, "content-range:", 14) == 0) {
		a->range_ok = sscanf(text + 14, " bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &from,
				      &to, &a->total) == 3 &&
			      from == a->off && to == a->off + a->want - 1;
	} else if (strncasecmp(text, "etag: ", 6) == 0) {
		snprintf(a->etag, sizeof(a->etag), "%s", text + 6);
	}
	return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;
	long status = 0;

	(void)size;
	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 206 || !a->range_ok || n > a->want - a->got) {
		return 0;
	}
	a->sink_error = a->sink ? a->sink(a->ctx, a->off + a->got, data, n) : 0;
	a->got += n;
	return a->sink_error < 0 ? 0 : n;
}

static int outcome(struct http_image *h, struct answer *a, CURLcode c, struct err *e)
{
	long status = 0;

	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (a->sink_error < 0) {
		return err_set(e, a->sink_error, "%s: the reader stopped", h->url.label);
	}
	if (status == 404 || status == 410) {
		return err_set(e, -ENOENT, "%s: not found (%ld)", h->url.label, status);
	}
	if (status == 401 || status == 403) {
		return err_set(e, -EACCES, "%s: access refused (%ld)", h->url.label, status);
	}
	if (c == CURLE_COULDNT_CONNECT || c == CURLE_COULDNT_RESOLVE_HOST) {
		return err_set(e, -ENXIO, "%s: %s", h->url.label, curl_easy_strerror(c));
	}
	if (c != CURLE_OK && c != CURLE_WRITE_ERROR) {
		return err_set(e, -ECONNRESET, "%s: %s", h->url.label, curl_easy_strerror(c));
	}
	if (status != 206 || !a->range_ok || a->got != a->want) {
		return err_set(e, -EPROTO, "%s: not the range that was asked for (status %ld)",
			h->url.label, status);
	}
	if (h->validator && strcmp(h->validator, a->etag) != 0) {
		return err_set(e, -ESTALE, "%s: the image changed on the server", h->url.label);
	}
	return 0;
}

static int fetch(struct http_image *h, struct answer *a, struct err *e)
{
	char range[64];
	CURLcode c;
	int r;

	a->curl = take_handle(h->net);
	if (!a->curl) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	curl_easy_reset(a->curl);
	snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, a->off, a->off + a->want - 1);
	curl_easy_setopt(a->curl, CURLOPT_URL, h->url.full);
	curl_easy_setopt(a->curl, CURLOPT_RANGE, range);
	curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(a->curl, CURLOPT_BUFFERSIZE, 524288L);
	curl_easy_setopt(a->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (h->cacert) {
		curl_easy_setopt(a->curl, CURLOPT_CAINFO, h->cacert);
	}
	curl_easy_setopt(a->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(a->curl, CURLOPT_HEADERDATA, a);
	curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, a);
	c = curl_easy_perform(a->curl);
	h->requests++;
	h->bytes += a->got;
	r = outcome(h, a, c, e);
	give_handle(h->net, a->curl);
	return r;
}

static int http_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	struct answer a = { .off = off, .want = len, .sink = sink, .ctx = ctx };

	return fetch((struct http_image *)img, &a, e);
}

struct target {
	uint8_t *buf;
	uint64_t off;
};

static int into_buffer(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct target *t = ctx;

	memcpy(t->buf + (off - t->off), buf, n);
	return 0;
}

static int http_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct target t = { buf, off };

	return http_stream_at(img, off, len, into_buffer, &t, e);
}

static void http_report(struct image *img, struct report *r)
{
	struct http_image *h = (struct http_image *)img;

	report_text(r, "url", h->url.label);
	report_text(r, "validator", h->validator);
	report_u64(r, "requests", h->requests);
	report_u64(r, "bytes_fetched", h->bytes);
	report_u64(r, "retries", 0);
	report_u64(r, "redirects", 0);
	report_bool(r, "unconfirmed", false);
}

static void http_destroy(struct image *img)
{
	struct http_image *h = (struct http_image *)img;

	image_fini(img);
	http_url_clear(&h->url);
	free(h->cacert);
	free(h->validator);
	free(h);
}

static const struct image_ops http_ops = {
	.name = "http",
	.read_at = http_read_at,
	.stream_at = http_stream_at,
	.report = http_report,
	.destroy = http_destroy,
};

int http_open(struct net *net, const char *spec, const struct source_opts *opts, struct image **ret,
	struct err *e)
{
	struct http_image *h = calloc(1, sizeof(*h));
	struct answer a = { .want = 1 };
	CLEANUP_FREE char *id = NULL;
	int r = h ? http_url_parse(spec, &h->url, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0) {
		free(h);
		return r;
	}
	h->net = net;
	h->cacert = opts->cacert ? strdup(opts->cacert) : NULL;
	r = fetch(h, &a, e);
	if (r == 0) {
		h->validator = strdup(a.etag);
		if (asprintf(&id, "%s etag=%s size=%" PRIu64, h->url.label, a.etag, a.total) < 0 ||
			image_init(&h->img, &http_ops, NULL, a.total, id) < 0) {
			r = err_set(e, -ENOMEM, "out of memory");
		}
	}
	if (r < 0) {
		http_destroy(&h->img);
		return r;
	}
	h->img.flags = *a.etag ? 0 : IMAGE_UNVERSIONED;
	*ret = &h->img;
	return 0;
}
