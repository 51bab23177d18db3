/* SPDX-License-Identifier: Apache-2.0 */
/* A fetch into memory that grows. */
#include "sources/http_document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define ROOM_FIRST 4096U

struct collector {
	char *body;
	size_t len;
	size_t room;
};

static int collect(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct collector *c = ctx;

	if (off + n >= c->room) {
		size_t room = max_u64(max_u64(c->room * 2, ROOM_FIRST), off + n + 1);
		char *more = realloc(c->body, room);

		if (!more) {
			return -ENOMEM;
		}
		c->body = more;
		c->room = room;
	}
	memcpy(c->body + off, buf, n);
	c->len = off + n;
	c->body[c->len] = '\0';
	return 0;
}

static int setup(struct http_remote *remote, const struct http_document *d, struct err *e)
{
	struct http_url url;
	int r = http_url_parse(d->url, &url, e);

	if (r < 0) {
		return err_wrap(e, -EPROTO, "%s", d->name);
	}
	remote->net = d->net;
	remote->conf = http_conf_ref(d->conf);
	remote->cancel = d->cancel ? d->cancel : &remote->stopped;
	remote->label = strdup(url.label);
	remote->name = strdup(d->name);
	if (http_route_init(&remote->route, &url) < 0 || !remote->label || !remote->name) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	remote->route.plain_ok = d->conf->insecure;
	return 0;
}

static void release(struct http_remote *remote)
{
	http_route_clear(&remote->route);
	http_conf_unref(remote->conf);
	free(remote->label);
	free(remote->name);
}

int http_document_get(struct http_document *d, struct err *e)
{
	struct http_remote remote = { 0 };
	struct collector c = { 0 };
	struct http_fetch f = {
		.remote = &remote,
		.ask = { .kind = HTTP_DOCUMENT, .len = d->limit + 1, .question = &d->question },
		.sink = collect,
		.ctx = &c,
		.limit_ms = d->limit_ms ? d->limit_ms : d->conf->limit_ms,
		.hard = d->patient && d->conf->hard,
		.opening = d->opening,
	};
	int r = setup(&remote, d, e);

	if (r == 0) {
		r = http_fetch_run(&f, e);
	}
	if (r == 0 && !c.body) {
		c.body = calloc(1, 1);
		r = c.body ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	d->body = c.body;
	d->len = min_u64(c.len, f.got);
	d->head = f.head;
	d->status = f.status;
	d->temporary = f.temporary;
	d->elsewhere = f.elsewhere;
	d->cause = f.cause;
	release(&remote);
	return r;
}

void http_document_clear(struct http_document *d)
{
	if (d->body) {
		explicit_bzero(d->body, d->len);
	}
	free(d->body);
	d->body = NULL;
	d->len = 0;
	http_headers_clear(&d->head);
}
