/* SPDX-License-Identifier: Apache-2.0 */
/* The parent that waits for its daemon. */
#include "tools/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"

/* What the parent's signal handler passes signals on to. */
static volatile sig_atomic_t daemon_pid;

static void pass_on(int sig)
{
	int saved = errno;

	kill((pid_t)daemon_pid, sig);
	errno = saved;
}

static void catch_signals(void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

static int exit_status(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return 1;
		}
	}
	if (!WIFSIGNALED(status)) {
		return WEXITSTATUS(status);
	}
	log_error("stopped by signal %d (%s) before the filesystem was mounted", WTERMSIG(status),
		sigdescr_np(WTERMSIG(status)));
	return 128 + WTERMSIG(status);
}

static int wait_for(pid_t pid, int fd)
{
	char word;
	ssize_t n;

	do {
		n = read(fd, &word, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : exit_status(pid);
}

/* Who kills the command does not want its daemon, be it opening an image for as long as it takes.
 */
static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent) {
		kill(getpid(), SIGTERM);
	}
}

/* Nothing of ours is open without close-on-exec: what is came from the caller. It may be needed
 * until the images are open: a password comes from /dev/fd/63, say. */
static void note_inherited(struct daemonize *d)
{
	for (int fd = STDERR_FILENO + 1; fd < (int)DAEMONIZE_FDS; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags >= 0 && !(flags & FD_CLOEXEC)) {
			d->inherited[fd / 64] |= UINT64_C(1) << fd % 64;
		}
	}
}

/* A lock that a script holds, or a pipe whose other end waits, must not live as long as we. */
static void close_inherited(const struct daemonize *d)
{
	for (int fd = STDERR_FILENO + 1; fd < (int)DAEMONIZE_FDS; fd++) {
		if (d->inherited[fd / 64] >> fd % 64 & 1) {
			close(fd);
		}
	}
}

int daemonize_start(struct daemonize *d, int *ret_exit, struct err *e)
{
	sigset_t ours;
	sigset_t before;
	int ends[2];
	pid_t parent = getpid();
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0) {
		return err_sys(e, errno, "pipe");
	}
	/* Held back until the parent knows whom to pass them on to. */
	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGHUP);
	sigprocmask(SIG_BLOCK, &ours, &before);
	pid = fork();
	if (pid > 0) {
		daemon_pid = pid;
		catch_signals(pass_on);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		int saved = errno;

		close(ends[0]);
		close(ends[1]);
		return err_sys(e, saved, "fork");
	}
	if (pid == 0) {
		close(ends[0]);
		*d = (struct daemonize){ .pipe = ends[1] };
		note_inherited(d);
		die_with(parent);
		return 0;
	}
	close(ends[1]);
	*ret_exit = wait_for(pid, ends[0]);
	close(ends[0]);
	return 1;
}

/* stdio must not keep a terminal, a pipe or a file of the caller's open. */
static void leave_stdio(void)
{
	CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
}

void daemonize_ready(struct daemonize *d)
{
	ssize_t n;

	if (d->pipe < 0) {
		return;
	}
	prctl(PR_SET_PDEATHSIG, 0);
	log_to_syslog();
	setsid();
	(void)!chdir("/");
	leave_stdio();
	close_inherited(d);
	do {
		n = write(d->pipe, "", 1);
	} while (n < 0 && errno == EINTR);
	close(d->pipe);
	d->pipe = -1;
	if (n != 1) {
		kill(getpid(), SIGTERM);
	}
}
