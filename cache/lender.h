/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lends the file behind an object, and has the proof made that this takes, which may be slow, by a
 * thread of the queue: whoever asks meanwhile is told to ask again. Thread-safe.
 */
#ifndef CACHE_LENDER_H
#define CACHE_LENDER_H

#include <pthread.h>
#include <stdbool.h>

#include "cache/object.h"
#include "core/workq.h"

struct lender {
	struct object *object;
	struct workq *queue;
	struct work work;

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t idle;
	bool proving;
	bool proven; /* it was possible once */
	bool lent;
};

/* Both are borrowed for the life of the lender. */
void lender_init(struct lender *l, struct object *object, struct workq *queue);

/* Waits for a proof under way. The file was returned. */
void lender_fini(struct lender *l);

/* As lend_file and return_file of struct image_ops. */
int lender_lend(struct lender *l, int *ret_fd);
void lender_return(struct lender *l, bool closed);

bool lender_has_lent(struct lender *l);

#endif
