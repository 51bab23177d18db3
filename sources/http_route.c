/* SPDX-License-Identifier: Apache-2.0 */
/* Redirects: followed by hand, so that credentials stay where they belong and the way is kept. */
#include "sources/http_route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* A signed URL is not used in its last seconds, or last tenth if that is less. */
#define EXPIRY_MARGIN_S 30

static struct http_place *place_new(struct http_url *url, int64_t now)
{
	struct http_place *p = calloc(1, sizeof(*p));

	if (!p) {
		http_url_clear(url);
		return NULL;
	}
	p->url = *url;
	*url = (struct http_url){ 0 };
	p->since = now;
	p->refs = 1;
	return p;
}

static struct http_place *place_ref(struct http_place *p)
{
	p->refs++;
	return p;
}

static void place_unref(struct http_place *p)
{
	if (--p->refs == 0) {
		http_url_clear(&p->url);
		free(p);
	}
}

int http_route_init(struct http_route *r, struct http_url *url)
{
	r->origin = place_new(url, 0);
	if (!r->origin) {
		return -ENOMEM;
	}
	r->kept = place_ref(r->origin);
	pthread_mutex_init(&r->lock, NULL);
	return 0;
}

void http_route_clear(struct http_route *r)
{
	if (r->origin) {
		place_unref(r->kept);
		place_unref(r->origin);
		pthread_mutex_destroy(&r->lock);
		*r = (struct http_route){ 0 };
	}
}

static bool near_expiry(const struct http_place *p, int64_t now)
{
	int64_t life = p->url.expires - p->since;

	if (p->url.expires == 0 || life <= 0) {
		return p->url.expires != 0;
	}
	return now + (life / 10 < EXPIRY_MARGIN_S ? life / 10 : EXPIRY_MARGIN_S) >= p->url.expires;
}

void http_trail_clear(struct http_trail *t)
{
	while (t->count > 0) {
		place_unref(t->places[--t->count]);
	}
}

void http_trail_start(struct http_trail *t, struct http_route *r, int64_t now)
{
	http_trail_clear(t);
	pthread_mutex_lock(&r->lock);
	t->places[0] = place_ref(near_expiry(r->kept, now) ? r->origin : r->kept);
	t->count = 1;
	t->plain_ok = r->plain_ok;
	pthread_mutex_unlock(&r->lock);
}

struct http_place *http_trail_here(const struct http_trail *t)
{
	return t->places[t->count - 1];
}

static int check_hop(const struct http_trail *t, const struct http_url *to, struct err *e)
{
	const struct http_url *from = &http_trail_here(t)->url;

	if (from->tls && !to->tls && !t->plain_ok) {
		return err_set(e, -EPROTO,
			"%s: the server redirects from https to http (%s), which would lose the "
			"protection of the transfer",
			from->label, to->label);
	}
	for (unsigned int i = 0; i < t->count; i++) {
		if (strcmp(t->places[i]->url.full, to->full) == 0) {
			return err_set(e, -EPROTO, "%s: the server redirects in a circle (by %s)",
				to->label, from->label);
		}
	}
	if (t->count > HTTP_REDIRECTS_MAX) {
		return err_set(e, -EPROTO, "%s: more than %d redirects in a row",
			t->places[0]->url.label, HTTP_REDIRECTS_MAX);
	}
	return 0;
}

int http_trail_follow(struct http_trail *t, const char *location, int64_t now, struct err *e)
{
	struct http_url url;
	struct http_place *to;
	int r = http_url_resolve(&http_trail_here(t)->url, location, &url, e);

	if (r < 0) {
		return r;
	}
	r = check_hop(t, &url, e);
	if (r < 0) {
		http_url_clear(&url);
		return r;
	}
	to = place_new(&url, now);
	if (!to) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	t->places[t->count++] = to;
	return 0;
}

void http_route_keep(struct http_route *r, struct http_place *p)
{
	struct http_place *old;

	pthread_mutex_lock(&r->lock);
	old = r->kept;
	r->kept = place_ref(p);
	pthread_mutex_unlock(&r->lock);
	place_unref(old);
}

bool http_route_forget(struct http_route *r, const struct http_place *p)
{
	struct http_place *old = NULL;

	if (p == r->origin) {
		return false;
	}
	pthread_mutex_lock(&r->lock);
	if (r->kept == p) {
		old = r->kept;
		r->kept = place_ref(r->origin);
	}
	pthread_mutex_unlock(&r->lock);
	if (old) {
		place_unref(old);
	}
	return true;
}
