/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a mount: how it begins, what refuses it, and every way in which it ends. */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <mntent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/rw.h"
#include "fusefs/fusefs.h"
#include "fusefs/helper.h"
#include "fusefs/mounts.h"
#include "tests/unit/mount_test.h"

#define NOBODY 65534U

static bool opened_device; /* open_device_to_all() was here */

/* The mount is refused, and the only line that anybody prints says so. */
static void expect_refused(const struct mount_plan *plan, int code, const char *words)
{
	char want[32];
	const char *log;

	assert_int_equal(mount_fixture_start(&mount_test, plan), 3);
	log = mount_fixture_log(&mount_test);
	snprintf(want, sizeof(want), "%d ", code);
	if (strncmp(log, want, strlen(want)) != 0 || !strstr(log, words)) {
		print_error("not \"%d ... %s\": %s", code, words, log);
		fail();
	}
	assert_ptr_equal(strchr(log, '\n'), log + strlen(log) - 1);
}

static bool skip_unless_root(void)
{
	if (geteuid() != 0) {
		print_message("# needs root\n");
	}
	return geteuid() != 0;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void signals_unmount_and_end_it(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		mount_test_start_plain();
		assert_true(mount_fixture_mounted(mount_test.mnt));
		assert_int_equal(kill(mount_test.pid, signals[i]), 0);
		assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
		assert_false(mount_fixture_mounted(mount_test.mnt));
		assert_string_equal(mount_fixture_log(&mount_test), "");
	}
}

static void a_signal_before_serving_ends_it_when_it_serves(void **state)
{
	const struct mount_plan plan = { .early_signal = SIGTERM };

	(void)state;
	/* Ready or not: it ended well, and that is what the start reports. */
	if (mount_fixture_start(&mount_test, &plan) == 0 && mount_test.pid) {
		assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	}
	assert_int_equal(mount_test.pid, 0);
	assert_false(mount_fixture_mounted(mount_test.mnt));
	assert_string_equal(mount_fixture_log(&mount_test), "");
}

static void a_mount_that_is_never_served_leaves_nothing(void **state)
{
	const struct mount_plan plan = { .unserved = true };

	(void)state;
	assert_int_equal(mount_fixture_start(&mount_test, &plan), 5);
	assert_false(mount_fixture_mounted(mount_test.mnt));
	assert_string_equal(mount_fixture_log(&mount_test), "");
}

static void a_signal_ends_it_although_files_are_open(void **state)
{
	char byte;
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	assert_false(mount_fixture_mounted(mount_test.mnt));
	assert_int_equal(pread(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ENOTCONN);
	close(fd);
	assert_non_null(strstr(mount_fixture_log(&mount_test), "was in use and is detached"));
}

static void *read_behind_the_gate(void *ret)
{
	int fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	char byte;

	*(int *)ret = pread(fd, &byte, 1, (off_t)MIB(8)) < 0 ? errno : 0;
	close(fd);
	return NULL;
}

static void a_read_that_never_returns_does_not_hold_up_the_end(void **state)
{
	double began;
	pthread_t t;
	int code = 0;

	(void)state;
	mount_test.steer->gate_from = MIB(8);
	mount_test.steer->gate_closed = true;
	mount_test_start_plain();
	assert_int_equal(pthread_create(&t, NULL, read_behind_the_gate, &code), 0);
	while (mount_test.steer->waiting == 0) {
		usleep(1000);
	}
	began = seconds();
	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 4);
	assert_true(seconds() - began < 15);
	pthread_join(t, NULL);
	assert_true(code == ENOTCONN || code == ECONNABORTED || code == EIO);
	assert_false(mount_fixture_mounted(mount_test.mnt));
	assert_non_null(strstr(mount_fixture_log(&mount_test), "still waiting for its image"));
}

static void unmounting_waits_for_the_daemon_however_the_path_is_written(void **state)
{
	char link[128];
	char path[4][160];

	(void)state;
	snprintf(link, sizeof(link), "%s/link", mount_test.dir);
	assert_int_equal(symlink("mnt", link), 0);
	snprintf(path[0], sizeof(path[0]), "%s", mount_test.mnt);
	snprintf(path[1], sizeof(path[1]), "%s///", mount_test.mnt);
	snprintf(path[2], sizeof(path[2]), "%s", link);
	snprintf(path[3], sizeof(path[3]), "mnt");
	assert_int_equal(chdir(mount_test.dir), 0);
	for (size_t i = 0; i < ARRAY_SIZE(path); i++) {
		mount_test_start_plain();
		assert_int_equal(fusefs_unmount(path[i], NULL), 0);
		assert_false(mount_fixture_mounted(mount_test.mnt));
		/* A process that has ended is there to be waited for at once. */
		assert_int_equal(waitpid(mount_test.pid, NULL, WNOHANG), mount_test.pid);
		mount_test.pid = 0;
	}
	assert_int_equal(chdir("/"), 0);
	unlink(link);
}

static void a_mount_in_use_is_not_unmounted(void **state)
{
	struct err e = { 0 };
	int fd;

	(void)state;
	mount_test_start_plain();
	fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fusefs_unmount(mount_test.mnt, &e), -EBUSY);
	assert_non_null(strstr(e.text, mount_test.mnt));
	assert_non_null(strstr(e.text, "is in use"));
	assert_true(mount_fixture_mounted(mount_test.mnt));
	close(fd);
	assert_int_equal(fusefs_unmount(mount_test.mnt, &e), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

static void what_is_not_ours_is_not_unmounted(void **state)
{
	char missing[128];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(fusefs_unmount(mount_test.mnt, &e), -EINVAL);
	assert_non_null(strstr(e.text, "is not mounted"));
	assert_int_equal(fusefs_unmount("/proc", &e), -EINVAL);
	assert_non_null(strstr(e.text, "of type proc"));
	assert_int_equal(fusefs_unmount("/", &e), -EINVAL);
	snprintf(missing, sizeof(missing), "%s/a/b", mount_test.dir);
	assert_int_equal(fusefs_unmount(missing, &e), -ENOENT);
	assert_non_null(strstr(e.text, missing));
}

static void what_others_mount_at_the_same_place_is_left_alone(void **state)
{
	struct mounts_entry m;
	int fd;

	(void)state;
	if (skip_unless_root()) {
		skip();
	}
	mount_test_start_plain();
	fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(umount2(mount_test.mnt, MNT_DETACH), 0);
	assert_int_equal(mount("other", mount_test.mnt, "tmpfs", 0, NULL), 0);
	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	assert_int_equal(mounts_find(mount_test.mnt, &m, NULL), 0);
	assert_string_equal(m.type, "tmpfs");
	close(fd);
}

static void an_unmount_by_others_ends_it(void **state)
{
	const char *args[] = { "-u", "--", mount_test.mnt, NULL };
	struct helper_text text;

	(void)state;
	mount_test_start_plain();
	assert_int_equal(helper_run(args, -1, &text, NULL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	assert_string_equal(mount_fixture_log(&mount_test), "");
}

static void a_dead_mount_is_named_and_cleaned(void **state)
{
	const struct mount_plan plan = { 0 };
	struct stat st;

	(void)state;
	mount_test_start_plain();
	assert_int_equal(kill(mount_test.pid, SIGKILL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 128 + SIGKILL);
	assert_int_equal(stat(mount_test.mnt, &st), -1);
	assert_int_equal(errno, ENOTCONN);
	expect_refused(&plan, -ENOTCONN, "run `lazydisk umount /tmp/");
	assert_int_equal(fusefs_unmount(mount_test.mnt, NULL), 0);
	assert_int_equal(stat(mount_test.mnt, &st), 0);
	mount_test_start_plain();
	assert_int_equal(fusefs_unmount(mount_test.mnt, NULL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

static void a_daemon_that_hangs_is_not_waited_for(void **state)
{
	double began;
	int code;

	(void)state;
	mount_test_start_plain();
	assert_int_equal(kill(mount_test.pid, SIGSTOP), 0);
	began = seconds();
	/* Busy, as our own question hangs in it, or unmounted: but soon. */
	(void)fusefs_unmount(mount_test.mnt, NULL);
	assert_true(seconds() - began < 10);
	assert_int_equal(kill(mount_test.pid, SIGCONT), 0);
	(void)kill(mount_test.pid, SIGTERM);
	code = mount_fixture_wait(&mount_test, 60);
	/* It may have been ending already, past the point where it listens to signals. */
	assert_true(code == 0 || code == 128 + SIGTERM);
	assert_false(mount_fixture_mounted(mount_test.mnt));
}

static void mountpoints_that_cannot_be_are_named(void **state)
{
	struct mount_plan plan = { 0 };
	char path[128];
	int fd;

	(void)state;
	plan.mountpoint = path;
	snprintf(path, sizeof(path), "%s/none", mount_test.dir);
	expect_refused(&plan, -ENOENT, "/none does not exist");
	snprintf(path, sizeof(path), "%s/none/deeper", mount_test.dir);
	expect_refused(&plan, -ENOENT, "/none/deeper");
	snprintf(path, sizeof(path), "%s/file", mount_test.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	expect_refused(&plan, -ENOTDIR, "/file is not a directory");
	unlink(path);
}

static void a_place_that_is_taken_is_refused_and_its_mount_lives_on(void **state)
{
	const struct mount_plan plan = { 0 };
	struct mount_fixture other;
	struct stat st;

	(void)state;
	mount_test_start_plain();
	other = mount_test;
	mount_test.pid = 0;
	expect_refused(&plan, -EBUSY, "is already mounted");
	mount_test.pid = other.pid;
	assert_int_equal(stat(mount_test.disk, &st), 0);
	assert_int_equal(fusefs_unmount(mount_test.mnt, NULL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

static void the_mount_table_shows_type_source_and_safe_options(void **state)
{
	const struct mount_plan plan = { .fsname = "https://h/a,b c\\d" };
	char *text = NULL;
	char want[256];
	size_t len;

	(void)state;
	mount_test_start(&plan);
	assert_int_equal(rw_read_file("/proc/mounts", 1 << 20, &text, &len, NULL), 0);
	snprintf(want, sizeof(want),
		"https://h/a,b\\040c\\134d %s fuse.lazydisk ro,nosuid,nodev,relatime,",
		mount_test.mnt);
	assert_non_null(strstr(text, want));
	free(text);
	assert_int_equal(fusefs_unmount(mount_test.mnt, NULL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

static void the_kernel_reads_ahead_by_a_mebibyte(void **state)
{
	struct mounts_entry m;
	char path[96];
	char *text = NULL;
	size_t len;

	(void)state;
	if (skip_unless_root()) {
		skip();
	}
	mount_test_start_plain();
	assert_int_equal(mounts_find(mount_test.mnt, &m, NULL), 0);
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(m.dev),
		minor(m.dev));
	assert_int_equal(rw_read_file(path, 64, &text, &len, NULL), 0);
	assert_string_equal(text, "1024\n");
	free(text);
	assert_int_equal(fusefs_unmount(mount_test.mnt, NULL), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

/* A read-only loop device with direct I/O over @file: its descriptor, -1 when this machine has
 * none. */
static int open_loop(const char *file, char *ret_path, size_t room)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_DIRECT_IO |
						       LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int backing = open(file, O_RDONLY | O_CLOEXEC);
	int loop = -1;

	config.fd = (unsigned int)backing;
	for (int tries = 0; control >= 0 && loop < 0 && tries < 20; tries++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		snprintf(ret_path, room, "/dev/loop%d", n);
		loop = n < 0 ? -1 : open(ret_path, O_RDONLY | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
			close(loop);
			loop = -1;
		}
	}
	if (control >= 0) {
		close(control);
	}
	close(backing);
	return loop;
}

static void a_loop_device_with_direct_io_reads_the_same(void **state)
{
	struct loop_info64 info = { 0 };
	struct err e = { 0 };
	char want[64];
	uint8_t *buf = malloc(MIB(16));
	char path[32];
	int loop;

	(void)state;
	assert_non_null(buf);
	if (skip_unless_root()) {
		free(buf);
		skip();
	}
	mount_test_start_plain();
	loop = open_loop(mount_test.disk, path, sizeof(path));
	if (loop < 0) {
		print_message("# no loop device: %s\n", strerror(errno));
	} else {
		assert_int_equal(ioctl(loop, LOOP_GET_STATUS64, &info), 0);
		assert_true(info.lo_flags & LO_FLAGS_DIRECT_IO);
		assert_int_equal(rw_pread(loop, buf, MIB(16), 0), 0);
		assert_true(mount_fixture_matches(buf, 0, MIB(16)));
		assert_int_equal(fusefs_unmount(mount_test.mnt, &e), -EBUSY);
		snprintf(want, sizeof(want), "is in use by %s: detach", path);
		assert_non_null(strstr(e.text, want));
		close(loop);
	}
	free(buf);
	for (int i = 0; i < 100 && fusefs_unmount(mount_test.mnt, NULL) == -EBUSY; i++) {
		usleep(20000);
	}
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
}

/* A mount namespace of our own. Its copies of what others have mounted would keep their daemons
 * alive: away with them. */
static void enter_namespace(void)
{
	const struct mntent *m;
	FILE *f;

	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	f = setmntent("/proc/self/mounts", "re");
	assert_non_null(f);
	while ((m = getmntent(f)) != NULL) {
		if (strcmp(m->mnt_type, MOUNTS_TYPE) == 0) {
			(void)umount2(m->mnt_dir, MNT_DETACH);
		}
	}
	endmntent(f);
}

/* In a mount namespace of our own, where /dev/fuse is open to everybody. */
static void open_device_to_all(void)
{
	char node[96];

	enter_namespace();
	snprintf(node, sizeof(node), "%s/fuse", mount_test.dir);
	assert_int_equal(mknod(node, S_IFCHR | 0666, makedev(10, 229)), 0);
	assert_int_equal(chmod(node, 0666), 0);
	assert_int_equal(mount(node, "/dev/fuse", NULL, MS_BIND, NULL), 0);
	opened_device = true;
}

static int end_with_device(void **state)
{
	char node[96];

	snprintf(node, sizeof(node), "%s/fuse", mount_test.dir);
	if (opened_device) {
		(void)umount2("/dev/fuse", MNT_DETACH);
		unlink(node);
	}
	opened_device = false;
	return mount_test_end(state);
}

/* What a process of user nobody does. Its exit code: 0, or the number of what went wrong. */
static int as_nobody(void)
{
	struct err e = { 0 };
	int fd;

	if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0) {
		return 1;
	}
	fd = open(mount_test.disk, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fusefs_unmount(mount_test.mnt, &e) != -EBUSY) {
		return 2;
	}
	close(fd);
	return fusefs_unmount(mount_test.mnt, &e) == 0 ? 0 : 3;
}

static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void a_user_mounts_and_unmounts_through_fusermount3(void **state)
{
	const struct mount_plan plan = { .uid = NOBODY, .fsname = "https://h/a,b\\c" };
	char *text = NULL;
	char log[96];
	size_t len;

	(void)state;
	if (skip_unless_root()) {
		skip();
	}
	open_device_to_all();
	assert_int_equal(chown(mount_test.mnt, NOBODY, NOBODY), 0);
	snprintf(log, sizeof(log), "%s", mount_test.log);
	close(open(log, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	mount_test_start(&plan);
	assert_int_equal(rw_read_file("/proc/mounts", 1 << 20, &text, &len, NULL), 0);
	assert_non_null(strstr(text, "https://h/a,b\\134c /tmp/lazydisk-fusefs-"));
	assert_non_null(strstr(text, "fuse.lazydisk ro,nosuid,nodev,relatime,user_id=65534,"));
	free(text);
	assert_int_equal(in_child(as_nobody), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	mount_test_start(&plan);
	assert_int_equal(kill(mount_test.pid, SIGTERM), 0);
	assert_int_equal(mount_fixture_wait(&mount_test, 60), 0);
	assert_false(mount_fixture_mounted(mount_test.mnt));
}

static void a_user_is_told_what_is_missing(void **state)
{
	struct mount_plan plan = { .uid = NOBODY };
	const char *old = getenv("PATH");
	char *path = strdup(old ? old : "/usr/bin:/bin");

	(void)state;
	if (skip_unless_root()) {
		free(path);
		skip();
	}
	open_device_to_all();
	expect_refused(&plan, -EACCES, "is not yours");
	assert_int_equal(chown(mount_test.mnt, NOBODY, NOBODY), 0);
	setenv("PATH", "/nowhere", 1);
	expect_refused(&plan, -ENOENT, "fusermount3 is missing");
	setenv("PATH", path, 1);
	free(path);
	plan.allow_other = true;
	if (access("/etc/fuse.conf", F_OK) == 0) {
		assert_int_equal(mount("/dev/null", "/etc/fuse.conf", NULL, MS_BIND, NULL), 0);
	}
	expect_refused(&plan, -EPERM, "user_allow_other");
	assert_int_equal(chmod("/dev/fuse", 0600), 0);
	plan.allow_other = false;
	expect_refused(&plan, -EACCES, "only root may open /dev/fuse");
}

static void a_missing_device_is_named_with_what_to_do(void **state)
{
	const struct mount_plan plan = { 0 };

	(void)state;
	if (skip_unless_root()) {
		skip();
	}
	enter_namespace();
	assert_int_equal(mount("none", "/dev", "tmpfs", 0, NULL), 0);
	expect_refused(&plan, -ENODEV, "modprobe fuse");
	assert_int_equal(umount2("/dev", MNT_DETACH), 0);
}

#define IN_MOUNT(t)    cmocka_unit_test_setup_teardown(t, mount_test_begin, mount_test_end)
#define WITH_DEVICE(t) cmocka_unit_test_setup_teardown(t, mount_test_begin, end_with_device)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_MOUNT(signals_unmount_and_end_it),
		IN_MOUNT(a_signal_before_serving_ends_it_when_it_serves),
		IN_MOUNT(a_mount_that_is_never_served_leaves_nothing),
		IN_MOUNT(a_signal_ends_it_although_files_are_open),
		IN_MOUNT(a_read_that_never_returns_does_not_hold_up_the_end),
		IN_MOUNT(unmounting_waits_for_the_daemon_however_the_path_is_written),
		IN_MOUNT(a_mount_in_use_is_not_unmounted),
		IN_MOUNT(what_is_not_ours_is_not_unmounted),
		IN_MOUNT(what_others_mount_at_the_same_place_is_left_alone),
		IN_MOUNT(an_unmount_by_others_ends_it),
		IN_MOUNT(a_dead_mount_is_named_and_cleaned),
		IN_MOUNT(a_daemon_that_hangs_is_not_waited_for),
		IN_MOUNT(mountpoints_that_cannot_be_are_named),
		IN_MOUNT(a_place_that_is_taken_is_refused_and_its_mount_lives_on),
		IN_MOUNT(the_mount_table_shows_type_source_and_safe_options),
		IN_MOUNT(the_kernel_reads_ahead_by_a_mebibyte),
		IN_MOUNT(a_loop_device_with_direct_io_reads_the_same),
		/* These leave our mount namespace. */
		IN_MOUNT(a_missing_device_is_named_with_what_to_do),
		WITH_DEVICE(a_user_mounts_and_unmounts_through_fusermount3),
		WITH_DEVICE(a_user_is_told_what_is_missing),
	};

	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		printf("1..0 # SKIP /dev/fuse is missing or closed to us\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
