/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For layers that implement `listen` of struct image_ops because they may have to withdraw what
 * they handed over: who is to be told, and the lock that makes the end of listening one. Nobody
 * else's lock is taken under it, so a layer may tell with its own locks held. Thread-safe.
 */
#ifndef CORE_LISTENER_H
#define CORE_LISTENER_H

#include <pthread.h>

#include "core/image.h"

struct listener {
	pthread_mutex_t lock; /* held while @fn is called */
	image_withdrawn_fn *fn;
	void *ctx;
	bool told; /* once or more, whether or not somebody listened */
};

void listener_init(struct listener *l);
void listener_fini(struct listener *l);

/* As `listen`: when it returns, who listened before is not called any more. @fn is called at once
 * if there was something to tell earlier: who listens now has perhaps seen those bytes already. */
void listener_set(struct listener *l, image_withdrawn_fn *fn, void *ctx);

/* After the bytes are gone and reads of them fail: whoever is told finds it so. */
void listener_tell(struct listener *l);

#endif
