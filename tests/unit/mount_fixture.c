/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mount_fixture.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/image.h"
#include "core/listener.h"
#include "fusefs/fusefs.h"
#include "fusefs/mounts.h"
#include "tests/unit/fake_image.h"

#define PAGE      4096U
#define WORK_SIZE 100000U
#define MORE_MAX  5000U

bool mount_fixture_hole(uint64_t off)
{
	uint64_t page = off / PAGE;

	/* Two of three in the first MiB; then all from 2 to 6 MiB; one last page. */
	return off < MIB(1) ? page % 3 != 0
			    : (off >= MIB(2) && off < MIB(6)) || page == DISK_SIZE / PAGE - 2;
}

uint8_t mount_fixture_byte(uint64_t off)
{
	return mount_fixture_hole(off) ? 0 : fake_byte(DISK_SEED, off);
}

bool mount_fixture_matches(const void *buf, uint64_t off, size_t len)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != mount_fixture_byte(off + i)) {
			fprintf(stderr, "byte %llu is %02x, not %02x\n",
				(unsigned long long)(off + i), p[i], mount_fixture_byte(off + i));
			return false;
		}
	}
	return true;
}

/* What the child serves. */
struct disk {
	struct image img;
	struct steer *steer;
	uint8_t *data;
	struct listener listener;
	_Atomic uint8_t kept; /* `flip` as of the last disk_forget() */
	_Atomic bool interrupted;
};

static int disk_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct disk *d = (struct disk *)img;
	struct steer *s = d->steer;
	uint8_t flip = s->keeps ? d->kept : s->flip;
	uint8_t *to = buf;

	/* Before the gate: an answer may be older than what happens there. */
	for (size_t i = 0; i < len; i++) {
		to[i] = d->data[off + i] ^ flip;
	}
	if (s->gate_closed && off >= s->gate_from) {
		s->waiting++;
		while (s->gate_closed && !d->interrupted) {
			usleep(500);
		}
		s->waiting--;
		if (d->interrupted) {
			return err_set(e, -ECANCELED, "interrupted");
		}
	}
	if (s->read_code) {
		return err_set(e, s->read_code, "made to fail");
	}
	return 0;
}

static void disk_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	listener_set(&((struct disk *)img)->listener, fn, ctx);
}

static void disk_forget(struct image *img)
{
	struct disk *d = (struct disk *)img;

	d->kept = d->steer->flip;
}

static void work_interrupt(struct image *img)
{
	((struct disk *)img)->interrupted = true;
}

static int disk_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	uint64_t start = round_down(off, PAGE);

	(void)e;
	*ret = (struct extent){
		.offset = start,
		.length = min_u64(PAGE, img->size - start),
		.zero = mount_fixture_hole(off),
		.host = EXTENT_NO_HOST,
	};
	return 0;
}

static int disk_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct disk *d = (struct disk *)img;
	uint64_t n = 0;

	while (d->steer->count_closed) {
		usleep(500);
	}
	if (d->steer->fail_alloc) {
		return err_set(e, -EIO, "no");
	}
	for (uint64_t off = 0; off < img->size; off += PAGE) {
		n += mount_fixture_hole(off) ? 0 : min_u64(PAGE, img->size - off);
	}
	*ret = n;
	return 0;
}

static int disk_write_at(
	struct image *img, const void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(((struct disk *)img)->data + off, buf, len);
	return 0;
}

static int disk_zero_at(struct image *img, uint64_t off, uint64_t len, struct err *e)
{
	(void)e;
	memset(((struct disk *)img)->data + off, 0, len);
	return 0;
}

static int disk_flush(struct image *img, struct err *e)
{
	(void)e;
	((struct disk *)img)->steer->flushes++;
	return 0;
}

static void disk_destroy(struct image *img)
{
	struct disk *d = (struct disk *)img;

	free(d->data);
	listener_fini(&d->listener);
	image_fini(img);
	free(d);
}

static const struct image_ops disk_ops = {
	.name = "disk",
	.read_at = disk_read_at,
	.extent_at = disk_extent_at,
	.allocated = disk_allocated,
	.listen = disk_listen,
	.forget = disk_forget,
	.destroy = disk_destroy,
};

static const struct image_ops work_ops = {
	.name = "work",
	.read_at = disk_read_at,
	.write_at = disk_write_at,
	.zero_at = disk_zero_at,
	.flush = disk_flush,
	.interrupt = work_interrupt,
	.listen = disk_listen,
	.forget = disk_forget,
	.destroy = disk_destroy,
};

static struct image *disk_new(const struct image_ops *ops, uint64_t size, struct steer *steer)
{
	struct disk *d = calloc(1, sizeof(*d));

	assert(d);
	assert(image_init(&d->img, ops, NULL, size, "disk") == 0);
	d->steer = steer;
	listener_init(&d->listener);
	d->data = malloc(size);
	assert(d->data);
	for (uint64_t i = 0; i < size; i++) {
		d->data[i] = mount_fixture_byte(i);
	}
	return &d->img;
}

static int status_text(void *ctx, char **ret, size_t *ret_len)
{
	struct steer *s = ctx;
	int n = asprintf(
		ret, "{\"version\":1,\"opened\":%u,\"fill\":\"%0*d\"}\n", ++s->statuses, 200000, 7);

	if (n < 0) {
		return -ENOMEM;
	}
	*ret_len = (size_t)n;
	return 0;
}

static int xattr(void *ctx, const char *attr, char **ret)
{
	(void)ctx;
	if (strcmp(attr, "url") != 0 && strcmp(attr, "format") != 0) {
		return -ENODATA;
	}
	*ret = strdup(strcmp(attr, "url") == 0 ? "https://example.org/disk.qcow2" : "qcow2");
	return *ret ? 0 : -ENOMEM;
}

static const char *const xattrs[] = { "url", "format", NULL };

static void tell_ready(void *ctx)
{
	(void)!write(*(int *)ctx, "r", 1);
}

static size_t make_volumes(
	const struct mount_plan *plan, struct steer *steer, struct fusefs_volume *ret)
{
	static char names[MORE_MAX][16];
	size_t n = 0;

	ret[n++] = (struct fusefs_volume){ "disk.raw", disk_new(&disk_ops, DISK_SIZE, steer), xattr,
		xattrs, NULL };
	if (plan->writable) {
		ret[n++] = (struct fusefs_volume){ .name = "work.raw",
			.image = disk_new(&work_ops, WORK_SIZE, steer) };
	}
	for (unsigned int i = 0; i < plan->more; i++) {
		snprintf(names[i], sizeof(names[i]), "v%04u.raw", i);
		ret[n++] = (struct fusefs_volume){ .name = names[i],
			.image = disk_new(&disk_ops, PAGE, steer) };
	}
	return n;
}

/* Withdraws bytes when the test says so. */
struct teller {
	struct steer *steer;
	struct fusefs_volume *volumes;
	size_t count;
	pthread_t thread;
	_Atomic bool stop;
};

static void *tell(void *arg)
{
	struct teller *t = arg;

	while (!t->stop) {
		unsigned int which = t->steer->withdraw | t->steer->storm;

		for (size_t i = 0; which >> i; i++) {
			if (which >> i & 1) {
				listener_tell(&((struct disk *)t->volumes[i].image)->listener);
			}
		}
		t->steer->withdraw &= ~which;
		usleep(which ? 50 : 500);
	}
	return NULL;
}

static void stop_telling(struct teller *t)
{
	t->stop = true;
	pthread_join(t->thread, NULL);
}

/* The exit code: 0, or 3 when it could not mount, 4 when serving failed. */
static int serve(const struct mount_fixture *f, const struct mount_plan *plan, int ready)
{
	static struct fusefs_volume volumes[MORE_MAX + 2];
	struct fusefs_opts opts = {
		.mountpoint = plan->mountpoint ? plan->mountpoint : f->mnt,
		.fsname = plan->fsname ? plan->fsname : "https://example.org/disk.qcow2",
		.threads = plan->threads,
		.allow_other = plan->allow_other,
		.status = status_text,
		.ctx = f->steer,
	};
	size_t count = make_volumes(plan, f->steer, volumes);
	struct teller teller = { .steer = f->steer, .volumes = volumes, .count = count };
	struct err e = { 0 };
	struct fusefs *fs = NULL;
	int code = 0;

	assert(pthread_create(&teller.thread, NULL, tell, &teller) == 0);
	while (f->steer->withdraw) {
		usleep(500); /* before there is a mount, then */
	}
	if (fusefs_new(&opts, volumes, count, &fs, &e) < 0 || fusefs_mount(fs, &e) < 0) {
		code = 3;
	} else if (plan->early_signal) {
		raise(plan->early_signal);
	}
	if (code == 0 && !plan->unserved && fusefs_serve(fs, tell_ready, &ready, &e) < 0) {
		code = 4;
	}
	if (code) {
		fprintf(stderr, "%d %s\n", e.code, e.text);
	}
	fusefs_free(fs);
	if (code == 4) {
		return code;
	}
	stop_telling(&teller);
	for (size_t i = 0; i < count; i++) {
		image_close(volumes[i].image);
	}
	return plan->unserved && code == 0 ? 5 : code;
}

static void run_child(const struct mount_fixture *f, const struct mount_plan *plan, int ready)
{
	int log = open(f->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	assert(log >= 0 && dup2(log, STDERR_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0);
	if (plan->uid) {
		assert(setgroups(0, NULL) == 0 && setgid(plan->uid) == 0 && setuid(plan->uid) == 0);
	}
	_exit(serve(f, plan, ready));
}

void mount_fixture_begin(struct mount_fixture *f)
{
	*f = (struct mount_fixture){ .dir = "/tmp/lazydisk-fusefs-XXXXXX" };
	assert(mkdtemp(f->dir));
	chmod(f->dir, 0755);
	snprintf(f->mnt, sizeof(f->mnt), "%s/mnt", f->dir);
	snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
	snprintf(f->disk, sizeof(f->disk), "%s/disk.raw", f->mnt);
	assert(mkdir(f->mnt, 0755) == 0);
	f->steer = mmap(
		NULL, sizeof(*f->steer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(f->steer != MAP_FAILED);
}

int mount_fixture_start(struct mount_fixture *f, const struct mount_plan *plan)
{
	struct pollfd p = { .events = POLLIN };
	char byte;
	int fds[2];
	ssize_t n;

	assert(f->pid == 0 && pipe2(fds, O_CLOEXEC) == 0);
	fflush(NULL);
	f->pid = fork();
	assert(f->pid >= 0);
	if (f->pid == 0) {
		run_child(f, plan, fds[1]);
	}
	close(fds[1]);
	p.fd = fds[0];
	n = poll(&p, 1, 60000) > 0 ? read(fds[0], &byte, 1) : -1;
	close(fds[0]);
	return n == 1 ? 0 : mount_fixture_wait(f, 30);
}

int mount_fixture_wait(struct mount_fixture *f, unsigned int seconds)
{
	int status;

	for (unsigned int i = 0; i < seconds * 100; i++) {
		if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
			f->pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		usleep(10000);
	}
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	f->pid = 0;
	return -1;
}

const char *mount_fixture_log(const struct mount_fixture *f)
{
	static char text[16384];
	int fd = open(f->log, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0) {
		close(fd);
	}
	return text;
}

bool mount_fixture_mounted(const char *path)
{
	struct mounts_entry m;

	return mounts_find(path, &m, NULL) == 0;
}

void mount_fixture_end(struct mount_fixture *f)
{
	f->steer->gate_closed = false;
	f->steer->count_closed = false;
	if (f->pid) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	while (mount_fixture_mounted(f->mnt) && umount2(f->mnt, MNT_DETACH) == 0) {
	}
	unlink(f->log);
	rmdir(f->mnt);
	rmdir(f->dir);
	munmap(f->steer, sizeof(*f->steer));
}
