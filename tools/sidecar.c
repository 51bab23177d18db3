/* SPDX-License-Identifier: Apache-2.0 */
/* One small GET by the side. */
#include "tools/sidecar.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "core/cleanup.h"
#include "core/log.h"

#define SUFFIX ".trace"
/* A trace that comes later than that is of no use to a boot. */
#define PATIENCE_S 20U

struct sidecar {
	struct sidecar *next;
	struct net *net;
	char *url; /* owned; with what must not be shown */
	struct source_opts opts;
	pthread_t thread;
	pthread_mutex_t lock; /* protects what follows */
	struct image *cached; /* NULL: forgotten */
};

/* What stands behind the path of a URL stays there. */
static char *beside(const char *source)
{
	size_t path = strcspn(source, "?#");
	char *url = NULL;

	return asprintf(&url, "%.*s" SUFFIX "%s", (int)path, source, source + path) < 0 ? NULL
											: url;
}

/* Reads all of what is there, if it is small. */
static int fetch(struct sidecar *s, void **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(image_closep) struct image *file = NULL;
	int r = source_open(s->net, s->url, &s->opts, &file, e);
	void *data;

	if (r < 0) {
		return r;
	}
	if (file->size == 0 || file->size > CACHE_TRACE_MAX) {
		return err_set(e, -EINVAL, "it is no boot trace");
	}
	data = malloc(file->size);
	if (!data) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(file, data, file->size, 0, e);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret = data;
	*ret_len = file->size;
	return 0;
}

/* Servers that have a page for every name have no traces: that is no reason for a warning. */
static void hand_over(struct sidecar *s, const void *data, size_t len)
{
	struct err e;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->cached) {
		r = cache_image_trace(s->cached, data, len, &e);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == -EINVAL) {
		log_debug("what lies beside the image is no boot trace");
	} else if (r < 0) {
		CLEANUP_FREE char *shown = NULL;

		(void)source_key(s->url, &shown, NULL);
		log_warn("%s: %s: it is ignored", shown ? shown : SUFFIX, e.text);
	}
}

static void *sidecar_main(void *arg)
{
	struct sidecar *s = arg;
	CLEANUP_FREE void *data = NULL;
	size_t len = 0;
	struct err e;

	pthread_setname_np(pthread_self(), "sidecar");
	if (fetch(s, &data, &len, &e) == 0) {
		hand_over(s, data, len);
	} else {
		log_debug("no boot trace beside the image: %s", e.text);
	}
	return NULL;
}

struct sidecar *sidecar_start(
	struct net *net, const char *source, const struct source_opts *opts, struct image *cached)
{
	struct sidecar *s = calloc(1, sizeof(*s));

	if (!s) {
		return NULL;
	}
	s->net = net;
	s->url = beside(source);
	s->opts = *opts;
	s->opts.expected_id = NULL;
	s->opts.retry_hard = false;
	s->opts.tries = 1;
	s->opts.timeout_s = PATIENCE_S;
	s->cached = cached;
	pthread_mutex_init(&s->lock, NULL);
	if (!s->url || pthread_create(&s->thread, NULL, sidecar_main, s) != 0) {
		pthread_mutex_destroy(&s->lock);
		free(s->url);
		free(s);
		return NULL;
	}
	return s;
}

void sidecar_forget(struct sidecar *s)
{
	if (s) {
		LOCK_SCOPE(&s->lock);
		s->cached = NULL;
	}
}

void sidecar_push(struct sidecar *s, struct sidecar **list)
{
	if (s) {
		s->next = *list;
		*list = s;
	}
}

struct sidecar *sidecar_free(struct sidecar *s)
{
	struct sidecar *next = s->next;

	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	free(s->url);
	free(s);
	return next;
}
