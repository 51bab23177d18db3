/* SPDX-License-Identifier: Apache-2.0 */
/* The image over a web server. Opening is one GET for the first bytes: it tells the size, the
 * version and whether there are ranges, and what it brought is served from memory. */
#include "sources/http.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "sources/http_fetch.h"
#include "sources/http_remote.h"

/* With a version at hand, opening waits no longer than this for the server to confirm it. */
#define CONFIRM_MS 4000U

struct http_image {
	struct image img;
	struct http_remote remote;
	uint8_t *first; /* what came with the probe */
	size_t first_len;
};

static struct http_image *of(struct image *img)
{
	return (struct http_image *)img;
}

static int fetch(struct http_image *h, uint64_t off, uint64_t len, image_sink_fn *sink, void *ctx,
	struct err *e)
{
	struct http_remote *remote = &h->remote;
	struct http_fetch f = {
		.remote = remote,
		.ask = {
			.kind = remote->no_ranges && !remote->version.addressed ? HTTP_WHOLE
										: HTTP_RANGE,
			.whole_ok = remote->no_ranges && remote->version.addressed,
			.off = off,
			.len = len,
			.version = &remote->version,
			.gzip_name = remote->gzip_name,
		},
		.sink = sink,
		.ctx = ctx,
		.limit_ms = remote->conf->limit_ms,
		.hard = remote->conf->hard,
	};
	int r = http_fetch_run(&f, e);

	http_headers_clear(&f.head);
	return r;
}

static int http_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	struct http_image *h = of(img);
	size_t n;
	int r;

	if (off < h->first_len) {
		n = min_u64(len, h->first_len - off);
		r = sink(ctx, off, h->first + off, n);
		if (r < 0) {
			return err_set(e, r, "%s: the reader stopped the stream",
				h->remote.name ? h->remote.name : h->remote.label);
		}
		off += n;
		len -= n;
	}
	return len > 0 ? fetch(h, off, len, sink, ctx, e) : 0;
}

struct target {
	uint8_t *buf;
	uint64_t off;
};

static int into_buffer(void *ctx, uint64_t off, const void *buf, size_t n)
{
	const struct target *t = ctx;

	memcpy(t->buf + (off - t->off), buf, n);
	return 0;
}

static int http_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct target t = { buf, off };

	return http_stream_at(img, off, len, into_buffer, &t, e);
}

static void http_interrupt(struct image *img)
{
	struct http_remote *remote = &of(img)->remote;

	remote->stopped = true;
	net_kick(remote->net);
}

static void http_report(struct image *img, struct report *r)
{
	struct http_remote *remote = &of(img)->remote;

	report_text(r, "url", remote->label);
	report_text(r, "validator", http_version_words(&remote->version));
	report_bool(r, "ranges", !remote->no_ranges);
	report_bool(r, "unconfirmed", remote->unconfirmed);
	report_u64(r, "requests", remote->requests);
	report_u64(r, "bytes_fetched", remote->bytes_fetched);
	report_u64(r, "retries", remote->retries);
	report_u64(r, "stalls", remote->stalls);
	report_u64(r, "redirects", remote->redirects);
	report_u64(r, "connections", remote->connections);
}

static void http_destroy(struct image *img)
{
	struct http_image *h = of(img);

	image_fini(img);
	http_route_clear(&h->remote.route);
	http_conf_unref(h->remote.conf);
	free(h->remote.label);
	free(h->remote.name);
	free(h->first);
	free(h);
}

static const struct image_ops http_ops = {
	.name = "http",
	.read_at = http_read_at,
	.stream_at = http_stream_at,
	.report = http_report,
	.interrupt = http_interrupt,
	.destroy = http_destroy,
};

static bool ends_in_gz(const char *url)
{
	size_t n = strcspn(url, "?");

	return (n > 3 && strncasecmp(url + n - 3, ".gz", 3) == 0) ||
	       (n > 4 && strncasecmp(url + n - 4, ".tgz", 4) == 0);
}

static int setup_remote(struct http_remote *remote, struct net *net, const char *spec,
	const struct source_opts *opts, struct err *e)
{
	struct http_url url;
	int r = http_url_parse(spec, &url, e);

	if (r < 0) {
		return r;
	}
	remote->net = net;
	remote->gzip_name = ends_in_gz(url.label);
	remote->label = strdup(url.label);
	remote->cancel = &remote->stopped;
	r = http_conf_new(&url, opts, &remote->conf, e);
	if (http_route_init(&remote->route, &url) < 0 || !remote->label) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return r < 0 ? err_wrap(e, r, "%s", remote->label) : 0;
}

/* The version that the caller knows from before, if it is one of this URL. */
static bool known_version(
	const struct http_remote *remote, const struct source_opts *opts, struct http_version *ret)
{
	return opts->expected_id && http_version_parse(opts->expected_id, remote->label, ret) &&
	       ret->size == opts->expected_size;
}

/* Asks what is there. Of a version that is @known, and so perhaps in a cache, one byte will do; a
 * conditional request, answered with 304, would not tell whether there are ranges. */
static int probe(struct http_image *h, bool known, struct http_fetch *ret, struct err *e)
{
	struct target t = { h->first, 0 };

	*ret = (struct http_fetch){
		.remote = &h->remote,
		.ask = {
			.kind = HTTP_PROBE,
			.len = known ? 1 : HTTP_PROBE_BYTES,
			.gzip_name = h->remote.gzip_name,
		},
		.sink = into_buffer,
		.ctx = &t,
		.limit_ms = known ? min_u64(CONFIRM_MS, h->remote.conf->limit_ms)
				  : h->remote.conf->limit_ms,
		.hard = !known && h->remote.conf->hard,
		.opening = true,
	};
	return http_fetch_run(ret, e);
}

/* What the probe learned. */
static int take_answer(
	struct http_image *h, const struct http_fetch *f, unsigned int *ret_flags, struct err *e)
{
	struct http_remote *remote = &h->remote;
	uint64_t total = f->verdict.total;

	if (total == HTTP_UNKNOWN) {
		return err_set(e, -ENOTSUP,
			"%s: the server does not tell the size of the file (neither Content-Range "
			"nor Content-Length)",
			remote->label);
	}
	if (total > INT64_MAX) {
		return err_set(e, -EPROTO, "%s: the server names an impossible size (%" PRIu64 ")",
			remote->label, total);
	}
	remote->version = http_version_of(&f->head, total);
	h->first_len = min_u64(f->got, total);
	remote->no_ranges = f->head.status == 200 && h->first_len < total;
	*ret_flags = (remote->no_ranges ? IMAGE_SEQUENTIAL : 0) |
		     (http_version_has_validator(&remote->version) ? 0 : IMAGE_UNVERSIONED);
	return 0;
}

/* Probes, and falls back to the known version where the server cannot be asked. */
static int establish(struct http_image *h, const struct source_opts *opts, unsigned int *ret_flags,
	struct err *e)
{
	struct http_version known;
	bool has_known = known_version(&h->remote, opts, &known);
	struct http_fetch f;
	struct err why = { 0 };
	int r = probe(h, has_known, &f, &why);

	*ret_flags = 0;
	if (r == 0) {
		r = take_answer(h, &f, ret_flags, &why);
	} else if (has_known && f.temporary) {
		h->remote.version = known;
		h->remote.unconfirmed = true;
		r = 0;
	}
	http_headers_clear(&f.head);
	return r < 0 ? err_set(e, r, "%s", why.text) : 0;
}

static int setup_image(struct http_image *h, unsigned int flags, struct err *e)
{
	CLEANUP_FREE char *id = NULL;
	uint64_t nonce = 0;
	uint8_t *trimmed;

	if (getentropy(&nonce, sizeof(nonce)) < 0) {
		return err_sys(e, errno, "getentropy");
	}
	id = http_version_id(&h->remote.version, h->remote.label, nonce);
	if (!id || image_init(&h->img, &http_ops, NULL, h->remote.version.size, id) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	h->img.flags = flags;
	if (h->first_len < HTTP_PROBE_BYTES) {
		trimmed = realloc(h->first, h->first_len ? h->first_len : 1);
		h->first = trimmed ? trimmed : h->first;
	}
	return 0;
}

int http_open(struct net *net, const char *spec, const struct source_opts *opts, struct image **ret,
	struct err *e)
{
	struct http_image *h = calloc(1, sizeof(*h));
	unsigned int flags = 0;
	int r;

	assert(net);
	if (!h) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	h->first = malloc(HTTP_PROBE_BYTES);
	r = h->first ? setup_remote(&h->remote, net, spec, opts, e)
		     : err_set(e, -ENOMEM, "out of memory");
	if (r == 0) {
		r = establish(h, opts, &flags, e);
	}
	if (r == 0) {
		r = setup_image(h, flags, e);
	}
	if (r < 0) {
		http_destroy(&h->img);
		return r;
	}
	*ret = &h->img;
	return 0;
}

/* The first bytes, unless nobody needs to be asked: they tell whether there are ranges. */
static int probe_blob(struct http_image *h, uint64_t size, struct err *e)
{
	struct target t = { h->first, 0 };
	struct http_fetch f = {
		.remote = &h->remote,
		.ask = {
			.kind = HTTP_RANGE,
			.len = min_u64(size, HTTP_PROBE_BYTES),
			.version = &h->remote.version,
			.whole_ok = true,
		},
		.sink = into_buffer,
		.ctx = &t,
		.limit_ms = h->remote.conf->limit_ms,
		.hard = h->remote.conf->hard,
		.opening = true,
	};
	int r = http_fetch_run(&f, e);

	if (r == 0) {
		h->first_len = f.got;
		h->remote.no_ranges = f.head.status == 200 && f.got < size;
	}
	http_headers_clear(&f.head);
	return r;
}

static int setup_blob(struct http_image *h, const struct http_blob *blob, struct err *e)
{
	struct http_url url;
	int r = http_url_parse(blob->url, &url, e);

	if (r < 0) {
		return r;
	}
	h->remote.cancel = &h->remote.stopped;
	h->remote.conf = http_conf_ref(blob->conf);
	h->remote.version.addressed = true;
	h->remote.version.size = blob->size;
	h->remote.label = strdup(url.label);
	h->remote.name = strdup(blob->name);
	if (http_route_init(&h->remote.route, &url) < 0 || !h->remote.label || !h->remote.name) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	h->remote.route.plain_ok = blob->conf->insecure;
	return 0;
}

static int fill_blob(struct http_image *h, const struct http_blob *blob, struct err *e)
{
	int r = setup_blob(h, blob, e);

	if (r == 0 && !blob->known && blob->size > 0) {
		h->first = malloc(HTTP_PROBE_BYTES);
		r = h->first ? probe_blob(h, blob->size, e) : err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0 && image_init(&h->img, &http_ops, NULL, blob->size, blob->id) < 0) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0 && h->remote.no_ranges) {
		h->img.flags = IMAGE_SEQUENTIAL;
	}
	return r;
}

int http_blob_open(struct net *net, const struct http_blob *blob, struct image **ret, struct err *e)
{
	struct http_image *h = calloc(1, sizeof(*h));
	int r;

	if (!h) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	h->remote.net = net;
	r = fill_blob(h, blob, e);
	if (r < 0) {
		http_destroy(&h->img);
		return r;
	}
	*ret = &h->img;
	return 0;
}
