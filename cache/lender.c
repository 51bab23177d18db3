/* SPDX-License-Identifier: Apache-2.0 */
/* Who may have the file now, and the job that finds out whether anybody may. */
#include "cache/lender.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "core/cleanup.h"

/* Of the priorities of the queue: nobody waits for it. */
#define PROOF_PRIORITY (WORKQ_PRIORITIES - 1)

void lender_init(struct lender *l, struct object *object, struct workq *queue)
{
	*l = (struct lender){ .object = object, .queue = queue };
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->idle, NULL);
}

static void make_proof(struct work *w)
{
	struct lender *l = (struct lender *)((char *)w - offsetof(struct lender, work));
	int fd;
	int r = l->object->ops->lend(l->object, true, &fd);

	if (r == 0) {
		l->object->ops->unlend(l->object, true);
	}
	LOCK_SCOPE(&l->lock);
	l->proven = r == 0;
	l->proving = false;
	pthread_cond_broadcast(&l->idle);
}

void lender_fini(struct lender *l)
{
	pthread_mutex_lock(&l->lock);
	assert(!l->lent);
	if (l->proving && workq_cancel(l->queue, &l->work)) {
		l->proving = false;
	}
	while (l->proving) {
		pthread_cond_wait(&l->idle, &l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	pthread_cond_destroy(&l->idle);
	pthread_mutex_destroy(&l->lock);
}

int lender_lend(struct lender *l, int *ret_fd)
{
	LOCK_SCOPE(&l->lock);

	if (!l->object->ops->lend) {
		return -EOPNOTSUPP;
	}
	assert(!l->lent);
	if (l->proving) {
		return -EAGAIN;
	}
	if (l->proven && l->object->ops->lend(l->object, false, ret_fd) == 0) {
		l->lent = true;
		return 0;
	}
	l->proving = true;
	l->work = (struct work){ .run = make_proof, .priority = PROOF_PRIORITY };
	workq_push(l->queue, &l->work);
	return -EAGAIN;
}

void lender_return(struct lender *l, bool closed)
{
	LOCK_SCOPE(&l->lock);

	assert(l->lent);
	l->object->ops->unlend(l->object, closed);
	l->lent = false;
}

bool lender_has_lent(struct lender *l)
{
	LOCK_SCOPE(&l->lock);

	return l->lent;
}
