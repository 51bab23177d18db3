/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a mount: from the kernel's first request to the unmount, however it comes about. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fusefs/fusefs.h"
#include "fusefs/kmount.h"
#include "fusefs/libfuse.h"
#include "fusefs/mounts.h"
#include "fusefs/ops.h"
#include "fusefs/pages.h"
#include "fusefs/state.h"
#include "fusefs/workers.h"

/* More than the kernel asks for in the background at once (see op_init()), so that somebody is left
 * for those who wait. */
#define DEFAULT_THREADS      80
#define DEFAULT_READAHEAD_KB 1024
/* How long a read that is under way may hold up the end. */
#define GRACE_MS 5000

/* What wakes fusefs_serve(): bits in `what`, and an eventfd to poll. Static, because a signal
 * handler has no other place to look; the eventfd stays open, for a handler may still run. */
enum {
	WAKE_FIRST = 1,
	WAKE_ENDED = 2,
	WAKE_SIGNAL = 4,
};

static struct {
	atomic_uint what;
	atomic_int fd;
} wake = { .fd = -1 };

static const int stop_signals[] = { SIGTERM, SIGINT, SIGHUP };
#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(stop_signals[0]))

/* What signals did before. */
static struct {
	bool caught;
	struct sigaction stop[STOP_SIGNALS];
	struct sigaction pipe;
} old_signals;

/* Async-signal-safe. */
static void wake_up(unsigned int what)
{
	int saved = errno;
	uint64_t one = 1;

	atomic_fetch_or(&wake.what, what);
	(void)!write(wake.fd, &one, sizeof(one));
	errno = saved;
}

static void on_signal(int number)
{
	(void)number;
	wake_up(WAKE_SIGNAL);
}

static void on_first(void *ctx)
{
	(void)ctx;
	wake_up(WAKE_FIRST);
}

static void on_ended(void *ctx)
{
	(void)ctx;
	wake_up(WAKE_ENDED);
}

/* A signal that is ignored (nohup, a job in the background of a script) stays so. */
static int catch_signals(struct err *e)
{
	struct sigaction stop = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	assert(!old_signals.caught);
	if (wake.fd < 0) {
		wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (wake.fd < 0) {
		return err_sys(e, errno, "eventfd");
	}
	wake.what = 0;
	old_signals.caught = true;
	for (size_t i = 0; i < STOP_SIGNALS; i++) {
		sigaction(stop_signals[i], NULL, &old_signals.stop[i]);
		if (old_signals.stop[i].sa_handler != SIG_IGN) {
			sigaction(stop_signals[i], &stop, NULL);
		}
	}
	sigaction(SIGPIPE, &ignore, &old_signals.pipe);
	return 0;
}

static void restore_signals(void)
{
	for (size_t i = 0; i < STOP_SIGNALS; i++) {
		sigaction(stop_signals[i], &old_signals.stop[i], NULL);
	}
	sigaction(SIGPIPE, &old_signals.pipe, NULL);
	old_signals.caught = false;
}

/* libfuse's own messages: ours have said it already. */
__attribute__((format(printf, 2, 0))) static void libfuse_log(
	enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];

	(void)level;
	if (log_enabled(LOG_LEVEL_DEBUG)) {
		vsnprintf(text, sizeof(text), fmt, ap);
		text[strcspn(text, "\n")] = '\0';
		log_debug("libfuse: %s", text);
	}
}

static int copy_options(struct fusefs *fs, const struct fusefs_opts *opts, struct err *e)
{
	int r = mounts_resolve(opts->mountpoint, &fs->mountpoint, e);

	if (r < 0) {
		return err_sys(e, r, "mount at %s", opts->mountpoint);
	}
	fs->opts = *opts;
	fs->opts.mountpoint = NULL;
	fs->opts.fsname = NULL;
	fs->fsname = strdup(opts->fsname && *opts->fsname ? opts->fsname : "lazydisk");
	if (!fs->fsname) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (fs->opts.threads == 0) {
		fs->opts.threads = DEFAULT_THREADS;
	}
	if (fs->opts.readahead_kb == 0) {
		fs->opts.readahead_kb = DEFAULT_READAHEAD_KB;
	}
	return 0;
}

static int make_volumes(
	struct fusefs *fs, const struct fusefs_volume *volumes, size_t count, struct err *e)
{
	CLEANUP_FREE struct tree_volume *names = calloc(count ? count : 1, sizeof(*names));

	fs->volumes = calloc(count ? count : 1, sizeof(*fs->volumes));
	fs->opens = calloc(count ? count : 1, sizeof(*fs->opens));
	if (!names || !fs->volumes || !fs->opens) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	fs->tree.count = count;
	for (size_t i = 0; i < count; i++) {
		if (volume_init(&fs->volumes[i], &volumes[i]) < 0) {
			return err_set(e, -ENOMEM, "out of memory");
		}
		passthrough_file_init(&fs->opens[i]);
		names[i] = (struct tree_volume){
			.name = fs->volumes[i].name,
			.size = volumes[i].image->size,
			.writable = fs->volumes[i].writable,
		};
	}
	return tree_init(&fs->tree, names, count, e);
}

int fusefs_new(const struct fusefs_opts *opts, const struct fusefs_volume *volumes, size_t count,
	struct fusefs **ret, struct err *e)
{
	struct fusefs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	fs->buffers = buffers_new();
	r = fs->buffers ? 0 : err_set(e, -ENOMEM, "out of memory");
	if (r == 0) {
		r = copy_options(fs, opts, e);
	}
	if (r == 0) {
		r = make_volumes(fs, volumes, count, e);
	}
	if (r < 0) {
		fusefs_free(fs);
		return r;
	}
	*ret = fs;
	return 0;
}

/* Before the mount, so that nothing has to be undone in the kernel when it fails. */
static struct fuse_session *new_session(struct fusefs *fs)
{
	char name[] = "lazydisk";
	char debug[] = "-odebug";
	char *argv[] = { name, debug, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(fs->opts.debug ? 2 : 1, argv);
	struct fuse_session *se;

	fuse_set_log_func(libfuse_log);
	se = fuse_session_new(&args, &ops_table, sizeof(ops_table), fs);
	fuse_opt_free_args(&args);
	return se;
}

static int mount_session(struct fusefs *fs, struct err *e)
{
	struct kmount_opts opts = {
		.mountpoint = fs->mountpoint,
		.fsname = fs->fsname,
		.allow_other = fs->opts.allow_other,
	};
	struct mounts_entry entry;
	int fd;
	int r;

	for (size_t i = 0; i < fs->tree.count; i++) {
		opts.writable |= fs->volumes[i].writable;
	}
	r = kmount_mount(&opts, &fd, e);
	if (r < 0) {
		return r;
	}
	r = passthrough_attach(&fs->passthrough, fs->session, fd);
	assert(r == 0);
	if (mounts_find(fs->mountpoint, &entry, NULL) == 0) {
		fs->dev = entry.dev;
	}
	return 0;
}

int fusefs_mount(struct fusefs *fs, struct err *e)
{
	int r;

	assert(!fs->session);
	fs->session = new_session(fs);
	if (!fs->session) {
		return err_set(e, -ENOMEM, "libfuse cannot start a session");
	}
	r = catch_signals(e);
	if (r == 0) {
		r = mount_session(fs, e);
		if (r < 0) {
			restore_signals();
		}
	}
	if (r < 0) {
		fuse_session_destroy(fs->session);
		fs->session = NULL;
	}
	return r;
}

/* Without it the kernel cuts buffered reads into 128 KiB. Only root may, and not everywhere. */
static void raise_readahead(const struct fusefs *fs)
{
	char path[64];
	char text[16];
	CLEANUP_CLOSE int fd = -1;
	int n = snprintf(text, sizeof(text), "%u", fs->opts.readahead_kb);

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(fs->dev),
		minor(fs->dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)n) != n) {
		log_debug("%s cannot be set: %s", path, strerrordesc_np(errno));
	}
}

/* Counts what the images hold, one after the other, for st_blocks. */
static void *count_volumes(void *arg)
{
	struct fusefs *fs = arg;

	for (size_t i = 0; i < fs->tree.count && !fs->stopping; i++) {
		volume_count(&fs->volumes[i]);
	}
	sem_post(&fs->counted);
	return NULL;
}

/* Still our mount, and not another one made at the same place since. */
static bool still_mounted(const struct fusefs *fs)
{
	struct mounts_entry entry;
	int r = mounts_find(fs->mountpoint, &entry, NULL);

	return r == -EIO || (r == 0 && entry.dev == fs->dev);
}

/* Whoever uses it does not hold up the end. */
static void unmount(const struct fusefs *fs)
{
	struct err e;

	if (!still_mounted(fs)) {
		return;
	}
	if (kmount_unmount(fs->mountpoint, false, &e) == 0) {
		return;
	}
	if (kmount_unmount(fs->mountpoint, true, &e) == 0) {
		log_warn("%s was in use and is detached: whoever has files of it open gets errors, "
			 "or goes on reading those that are read past the daemon",
			fs->mountpoint);
	} else {
		log_warn("%s", e.text);
	}
}

static unsigned int next_wake(void)
{
	struct pollfd p = { .fd = wake.fd, .events = POLLIN };
	uint64_t count;

	(void)poll(&p, 1, -1);
	(void)!read(wake.fd, &count, sizeof(count));
	return atomic_exchange(&wake.what, 0);
}

/* Until there is a reason to end. */
static int serve_on(struct fusefs *fs, void (*ready)(void *ctx), void *ctx, struct err *e)
{
	for (;;) {
		unsigned int what = next_wake();

		if ((what & WAKE_FIRST) && !fs->initialised) {
			return err_set(e, -EPROTO,
				"this kernel speaks a FUSE protocol that libfuse does not know");
		}
		if (what & WAKE_FIRST) {
			pages_ready(fs->pages);
			raise_readahead(fs);
			if (ready) {
				ready(ctx);
			}
		}
		if (what & (WAKE_SIGNAL | WAKE_ENDED)) {
			return 0;
		}
	}
}

/* What was written is durable when the mount is gone, as with other filesystems. That needs nothing
 * of an image that waits for the network, so it is done even if somebody is stuck in there. */
static int flush_volumes(struct fusefs *fs, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < fs->tree.count; i++) {
		struct volume *vol = &fs->volumes[i];
		int one = vol->writable ? volume_flush(vol) : 0;

		if (one < 0 && r == 0) {
			r = err_sys(e, one, "%s: what was written last may be lost", vol->name);
		}
	}
	return r;
}

/* Who waits for the network gets an error now: nobody else will come. False: there is no such
 * volume. */
static bool interrupt_volumes(struct fusefs *fs, bool writable)
{
	bool any = false;

	for (size_t i = 0; i < fs->tree.count; i++) {
		if (fs->volumes[i].writable == writable) {
			image_interrupt(fs->volumes[i].v.image);
			any = true;
		}
	}
	return any;
}

/* The writes under way may still need bytes of their images, and get them if that does not take
 * long. */
static bool stop_workers(struct fusefs *fs, struct workers *workers)
{
	(void)interrupt_volumes(fs, false);
	if (workers_stop(workers, GRACE_MS)) {
		return true;
	}
	(void)interrupt_volumes(fs, true);
	return workers_stop(workers, GRACE_MS);
}

/* Answers all requests there are, and will be, with an error. */
static void abort_connection(const struct fusefs *fs)
{
	char path[64];
	CLEANUP_CLOSE int fd = -1;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(fs->dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1) {
		log_debug("%s: %s", path, strerrordesc_np(errno));
		if (still_mounted(fs)) {
			(void)umount2(fs->mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
		}
	}
}

/* While pages are being dropped, the kernel waits for reads, and would wait for ever, beyond
 * SIGKILL, if those who answer them ended before. So first come those reads: after a while those of
 * writable volumes, too, for the end of the connection would take what was written with it. */
static bool stop_pages(struct fusefs *fs)
{
	if (pages_stop(fs->pages, 0)) {
		return true;
	}
	(void)interrupt_volumes(fs, false);
	if (pages_stop(fs->pages, GRACE_MS / 1000)) {
		return true;
	}
	if (interrupt_volumes(fs, true) && pages_stop(fs->pages, GRACE_MS / 1000)) {
		return true;
	}
	abort_connection(fs);
	return pages_stop(fs->pages, GRACE_MS / 1000);
}

/* Ends the threads. False when one of them is stuck in an image. */
static bool end_threads(struct fusefs *fs, struct workers *workers, pthread_t counter)
{
	struct timespec until;

	/* Whoever dropped pages returns a moment after the last answer. */
	if (!stop_workers(fs, workers) || !pages_stop(fs->pages, GRACE_MS / 1000)) {
		return false;
	}
	pages_free(TAKE_PTR(fs->pages));
	(void)interrupt_volumes(fs, true);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += GRACE_MS / 1000;
	while (sem_clockwait(&fs->counted, CLOCK_MONOTONIC, &until) < 0) {
		if (errno != EINTR) {
			return false;
		}
	}
	pthread_join(counter, NULL);
	workers_free(workers);
	return true;
}

/* Nothing was served, so it had nothing to do. */
static void end_pages(struct fusefs *fs)
{
	if (fs->pages && pages_stop(fs->pages, 0)) {
		pages_free(TAKE_PTR(fs->pages));
	}
}

static int serve(struct fusefs *fs, void (*ready)(void *ctx), void *ctx, struct err *e)
{
	struct workers_events events = { on_first, on_ended, NULL };
	struct workers *workers = NULL;
	pthread_t counter;
	int flushed;
	int r;

	sem_init(&fs->counted, 0, 0);
	r = pthread_create(&counter, NULL, count_volumes, fs);
	if (r != 0) {
		return err_sys(e, r, "start a thread");
	}
	r = pages_start(fs->session, fs->volumes, fs->tree.count, &fs->pages, e);
	if (r == 0) {
		r = workers_start(fs->session, fs->opts.threads, &events, &workers, e);
	}
	if (r < 0) {
		pthread_join(counter, NULL);
		end_pages(fs);
		return r;
	}
	r = serve_on(fs, ready, ctx, e);
	fs->stopping = true;
	if (stop_pages(fs)) {
		unmount(fs);
	}
	fs->abandoned = !end_threads(fs, workers, counter);
	flushed = flush_volumes(fs, r < 0 ? NULL : e);
	if (fs->abandoned) {
		return err_set(e, -EBUSY,
			"a read is still waiting for its image: ending without an answer to it%s",
			flushed < 0 ? "; what was written last may be lost" : "");
	}
	return r < 0 ? r : flushed;
}

/* The mount and all that belongs to it, but for @fs itself. */
static void end_session(struct fusefs *fs)
{
	unmount(fs);
	fuse_session_destroy(fs->session);
	fs->session = NULL;
	for (size_t i = 0; i < fs->tree.count; i++) {
		passthrough_forget(&fs->opens[i], fs->volumes[i].v.image);
	}
	restore_signals();
}

int fusefs_serve(struct fusefs *fs, void (*ready)(void *ctx), void *ctx, struct err *e)
{
	int r;

	assert(fs->session);
	/* Under a loop device or a guest, memory may be short because our answer is awaited: then
	 * our own allocations must not wait for more writeback. Only root has it. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	r = serve(fs, ready, ctx, e);
	if (!fs->abandoned) {
		end_session(fs);
	}
	return r;
}

void fusefs_free(struct fusefs *fs)
{
	if (!fs || fs->abandoned) {
		return;
	}
	if (fs->session) {
		end_session(fs);
	}
	for (size_t i = 0; fs->volumes && i < fs->tree.count; i++) {
		volume_clear(&fs->volumes[i]);
		if (fs->opens) {
			passthrough_file_fini(&fs->opens[i]);
		}
	}
	free(fs->volumes);
	free(fs->opens);
	tree_clear(&fs->tree);
	buffers_free(fs->buffers);
	free(fs->mountpoint);
	free(fs->fsname);
	free(fs);
}
