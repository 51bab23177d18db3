/* SPDX-License-Identifier: Apache-2.0 */
/* One thread that asks the kernel to drop the pages of files. */
#include "fusefs/pages.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/image.h"
#include "core/log.h"
#include "fusefs/libfuse.h"
#include "fusefs/tree.h"

struct pages;

/* One a volume. */
struct page_file {
	struct pages *pages;
	struct volume *volume;
	bool stale; /* pages were read that are to go */
};

struct pages {
	struct fuse_session *session;
	struct page_file *files;
	size_t count;
	pthread_t thread;

	pthread_mutex_t lock; /* protects what follows, and `stale` */
	pthread_cond_t changed;
	bool ready;
	bool stop;
	bool busy; /* the thread is with an image or the kernel */
};

static void on_withdrawn(void *ctx)
{
	struct page_file *f = ctx;
	LOCK_SCOPE(&f->pages->lock);

	f->stale = true;
	pthread_cond_broadcast(&f->pages->changed);
}

/* The next file whose pages are to go, or NULL: it is time to end. */
static struct page_file *next_file(struct pages *p)
{
	LOCK_SCOPE(&p->lock);

	p->busy = false;
	pthread_cond_broadcast(&p->changed);
	while (!p->stop) {
		for (size_t i = 0; p->ready && i < p->count; i++) {
			if (p->files[i].stale) {
				p->files[i].stale = false;
				p->busy = true;
				return &p->files[i];
			}
		}
		pthread_cond_wait(&p->changed, &p->lock);
	}
	return NULL;
}

/* Whatever the kernel says is no failure: it does not know the file, so it has no pages of it, or
 * the mount is gone. */
static void drop(struct pages *p, struct page_file *f)
{
	fuse_ino_t ino = TREE_FIRST_VOLUME + (fuse_ino_t)(f - p->files);
	int r;

	image_forget(f->volume->v.image);
	r = fuse_lowlevel_notify_inval_inode(p->session, ino, 0, 0);
	log_debug("%s: what was read may be wrong, its pages are dropped: %s", f->volume->name,
		r < 0 ? strerrordesc_np(-r) : "done");
	if (f->volume->v.image->ops->write_at) {
		log_warn("%s: bytes that were read of the image have turned out to be damaged, and "
			 "what was written since may be made of them: begin a new overlay",
			f->volume->name);
	}
}

static void *pages_main(void *arg)
{
	struct pages *p = arg;
	struct page_file *f;

	pthread_setname_np(pthread_self(), "fuse-pages");
	while ((f = next_file(p)) != NULL) {
		drop(p, f);
	}
	return NULL;
}

static void destroy(struct pages *p)
{
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->files);
	free(p);
}

static int start_thread(struct pages *p)
{
	sigset_t all;
	sigset_t old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&p->thread, NULL, pages_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static void init_lock(struct pages *p)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
}

int pages_start(struct fuse_session *se, struct volume *volumes, size_t count, struct pages **ret,
	struct err *e)
{
	struct pages *p = calloc(1, sizeof(*p));
	int r;

	if (p) {
		p->files = calloc(count ? count : 1, sizeof(*p->files));
	}
	if (!p || !p->files) {
		free(p);
		return err_set(e, -ENOMEM, "out of memory");
	}
	p->session = se;
	p->count = count;
	init_lock(p);
	r = start_thread(p);
	if (r < 0) {
		destroy(p);
		return err_sys(e, r, "start a thread");
	}
	for (size_t i = 0; i < count; i++) {
		p->files[i].pages = p;
		p->files[i].volume = &volumes[i];
		image_listen(volumes[i].v.image, on_withdrawn, &p->files[i]);
	}
	*ret = p;
	return 0;
}

void pages_ready(struct pages *p)
{
	LOCK_SCOPE(&p->lock);

	p->ready = true;
	pthread_cond_broadcast(&p->changed);
}

static void stop_listening(struct pages *p)
{
	for (size_t i = 0; i < p->count; i++) {
		image_listen(p->files[i].volume->v.image, NULL, NULL);
	}
}

bool pages_stop(struct pages *p, unsigned int seconds)
{
	struct timespec until;
	int r = 0;

	/* Without the lock: whoever tells us has one of their own, and takes ours. */
	stop_listening(p);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	LOCK_SCOPE(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
	while (p->busy && r == 0) {
		r = pthread_cond_timedwait(&p->changed, &p->lock, &until);
	}
	return !p->busy;
}

void pages_free(struct pages *p)
{
	if (p) {
		pthread_join(p->thread, NULL);
		destroy(p);
	}
}
