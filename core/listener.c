/* SPDX-License-Identifier: Apache-2.0 */
/* One ear. */
#include "core/listener.h"

#include "core/cleanup.h"

void listener_init(struct listener *l)
{
	*l = (struct listener){ 0 };
	pthread_mutex_init(&l->lock, NULL);
}

void listener_fini(struct listener *l)
{
	pthread_mutex_destroy(&l->lock);
}

void listener_set(struct listener *l, image_withdrawn_fn *fn, void *ctx)
{
	LOCK_SCOPE(&l->lock);

	l->fn = fn;
	l->ctx = ctx;
	if (fn && l->told) {
		fn(ctx);
	}
}

void listener_tell(struct listener *l)
{
	LOCK_SCOPE(&l->lock);

	l->told = true;
	if (l->fn) {
		l->fn(l->ctx);
	}
}
