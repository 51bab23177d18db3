/* SPDX-License-Identifier: Apache-2.0 */
/* Spawns fusermount3 without a shell, with its messages caught: the user shall see one line, ours.
 */
#include "fusefs/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"

#define PROGRAM  "fusermount3"
#define COMM_FD  3
#define HIGH_FD  10
#define ENV_NAME "_FUSE_COMMFD"
#define MAX_ARGS 8

/* Our environment with _FUSE_COMMFD; free the array, not the strings. */
static char **make_environment(void)
{
	static char comm[] = ENV_NAME "=3";
	size_t n = 0;
	size_t used = 0;
	char **env;

	while (environ[n]) {
		n++;
	}
	env = calloc(n + 2, sizeof(*env));
	if (!env) {
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], ENV_NAME "=", strlen(ENV_NAME) + 1) != 0) {
			env[used++] = environ[i];
		}
	}
	env[used] = comm;
	return env;
}

static int spawn(const char *const *args, int comm, int out, pid_t *ret)
{
	static char program[] = PROGRAM;
	char *argv[MAX_ARGS + 2] = { program };
	CLEANUP_FREE char **env = make_environment();
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	if (!env) {
		return ENOMEM;
	}
	/* It does not write to them, whatever its prototype says. */
	for (size_t i = 0; i < MAX_ARGS && args[i]; i++) {
		memcpy(&argv[i + 1], &args[i], sizeof(argv[i + 1]));
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	if (comm >= 0) {
		posix_spawn_file_actions_adddup2(&actions, comm, COMM_FD);
	}
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawnp(ret, PROGRAM, &actions, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

/* Moves the descriptors out of the way of what the program gets as its 0 to 3. */
static int spawn_with(const char *const *args, int comm, int out, pid_t *ret)
{
	CLEANUP_CLOSE int high_out = fcntl(out, F_DUPFD_CLOEXEC, HIGH_FD);
	CLEANUP_CLOSE int high_comm = comm < 0 ? -1 : fcntl(comm, F_DUPFD_CLOEXEC, HIGH_FD);

	if (high_out < 0 || (comm >= 0 && high_comm < 0)) {
		return errno;
	}
	return spawn(args, high_comm, high_out, ret);
}

/* Reads @fd to its end and keeps the first line of what it says, without "fusermount3: ". */
static void catch_text(int fd, struct helper_text *ret)
{
	static const char own[] = PROGRAM ": ";
	char text[sizeof(ret->text)];
	size_t used = 0;
	char more[256];
	ssize_t n;

	while ((n = read(fd, more, sizeof(more))) > 0 || (n < 0 && errno == EINTR)) {
		for (ssize_t i = 0; i < n && used < sizeof(text) - 1; i++) {
			text[used++] = more[i];
		}
	}
	text[used] = '\0';
	text[strcspn(text, "\n")] = '\0';
	snprintf(ret->text, sizeof(ret->text), "%s",
		strncmp(text, own, strlen(own)) == 0 ? text + strlen(own) : text);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int helper_run(const char *const *args, int comm, struct helper_text *ret_text, struct err *e)
{
	int fds[2];
	CLEANUP_CLOSE int in = -1;
	pid_t pid = -1;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return err_sys(e, errno, "pipe");
	}
	in = fds[0];
	r = spawn_with(args, comm, fds[1], &pid);
	close(fds[1]);
	if (r == ENOENT) {
		return err_set(e, -ENOENT,
			PROGRAM " is missing, and only root can do without: install the package "
				"fuse3");
	}
	if (r != 0) {
		return err_sys(e, r, "run " PROGRAM);
	}
	catch_text(in, ret_text);
	r = wait_for(pid);
	return r < 0 ? err_set(e, -EIO, PROGRAM ": %s", ret_text->text) : 0;
}
