/* SPDX-License-Identifier: Apache-2.0 */
/* One child, two pipes, a deadline. */
#include "sources/credhelper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "sources/json_text.h"
#include "sources/net.h"

#define PATIENCE_MS 10000U
#define ANSWER_MAX  65536U

struct child {
	pid_t pid;
	int in;  /* we write */
	int out; /* we read */
};

static bool is_name(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

	return n > 0 && n < 100 && !name[n];
}

static void wipe(char *text, size_t len)
{
	if (text) {
		explicit_bzero(text, len);
	}
	free(text);
}

/* Signals that this process blocks or handles are the child's as they come by default. */
static int spawn(const char *program, int in, int out, pid_t *ret)
{
	char *const argv[] = { (char *)(uintptr_t)program, "get", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawnp(ret, program, &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int start(const char *program, struct child *ret, struct err *e)
{
	int in[2];
	int out[2];
	int r;

	if (pipe2(in, O_CLOEXEC) < 0) {
		return err_sys(e, errno, "pipe");
	}
	if (pipe2(out, O_CLOEXEC) < 0) {
		r = err_sys(e, errno, "pipe");
		close(in[0]);
		close(in[1]);
		return r;
	}
	r = spawn(program, in[0], out[1], &ret->pid);
	close(in[0]);
	close(out[1]);
	if (r < 0) {
		close(in[1]);
		close(out[0]);
		return err_set(e, -EACCES, "the credential helper %s does not start: %s", program,
			strerrordesc_np(-r));
	}
	ret->in = in[1];
	ret->out = out[0];
	return 0;
}

/* All that it says until it closes its output; *ret_len bytes and a NUL in @buf. */
static int read_all(const struct child *c, char *buf, size_t *ret_len)
{
	uint64_t deadline = net_now_ms() + PATIENCE_MS;
	size_t n = 0;

	for (;;) {
		struct pollfd p = { .fd = c->out, .events = POLLIN };
		uint64_t now = net_now_ms();
		ssize_t got;

		if (now >= deadline) {
			return -ETIMEDOUT;
		}
		if (poll(&p, 1, (int)(deadline - now)) <= 0) {
			continue;
		}
		got = read(c->out, buf + n, ANSWER_MAX - n);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0) {
			buf[n] = '\0';
			*ret_len = n;
			return got < 0 ? -errno : 0;
		}
		n += (size_t)got;
		if (n == ANSWER_MAX) {
			return -EFBIG;
		}
	}
}

/* A helper that does not read what it is told would raise SIGPIPE. */
static void tell(int fd, const char *server)
{
	sigset_t pipe_only;
	sigset_t old;
	struct timespec none = { 0 };
	size_t len = strlen(server);

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
	if (write(fd, server, len) < 0 && errno == EPIPE) {
		sigtimedwait(&pipe_only, NULL, &none);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Its status when it is gone, which it is soon: it has closed its output. */
static int reap(pid_t pid)
{
	uint64_t deadline = net_now_ms() + PATIENCE_MS;
	int status = 0;
	pid_t r = 0;

	while (r == 0 && net_now_ms() < deadline) {
		r = waitpid(pid, &status, WNOHANG);
		if (r == 0) {
			usleep(1000);
		}
	}
	if (r == 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return status;
}

/* 0: it said @buf and ended well; 1: it said so and ended otherwise. */
static int converse(
	const char *program, const char *server, char *buf, size_t *ret_len, struct err *e)
{
	struct child c;
	int status;
	int r = start(program, &c, e);

	if (r < 0) {
		return r;
	}
	tell(c.in, server);
	close(c.in);
	r = read_all(&c, buf, ret_len);
	close(c.out);
	if (r < 0) {
		kill(c.pid, SIGKILL);
	}
	status = reap(c.pid);
	if (r < 0) {
		return err_set(e, -EACCES, "the credential helper %s does not answer: %s", program,
			strerrordesc_np(-r));
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && *ret_len == 0) {
		return err_set(e, -EACCES, "the credential helper %s does not start", program);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

static int take_answer(const char *program, const char *text, size_t len, char **ret_user,
	char **ret_secret, struct err *e)
{
	CLEANUP(json_text_dropp) json_t *json = NULL;
	const char *user;
	const char *secret;
	int r = json_text_parse(program, text, len, &json, e);

	if (r < 0) {
		return e ? (e->code = -EACCES) : -EACCES;
	}
	user = json_text_get(json, "Username");
	secret = json_text_get(json, "Secret");
	if (!user || !secret) {
		return err_set(
			e, -EACCES, "the credential helper %s names no user and secret", program);
	}
	*ret_user = strdup(user);
	*ret_secret = strdup(secret);
	return *ret_user && *ret_secret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* What a helper says that fails; in an answer there may be a secret, however it ended. */
static const char *first_line(char *answer)
{
	const char *line = strtok(answer, "\n");

	if (!line) {
		return "it says nothing";
	}
	return strpbrk(line, "{\"") ? "what it says looks like an answer, and is not shown" : line;
}

int credhelper_get(
	const char *name, const char *server, char **ret_user, char **ret_secret, struct err *e)
{
	char program[128];
	char *answer;
	size_t len = 0;
	int r;

	if (!is_name(name)) {
		return err_set(e, -EACCES, "'%.80s' is not the name of a credential helper", name);
	}
	snprintf(program, sizeof(program), "docker-credential-%s", name);
	answer = malloc(ANSWER_MAX + 1);
	if (!answer) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = converse(program, server, answer, &len, e);
	if (r == 1) {
		r = strstr(answer, "credentials not found in native keychain")
			    ? -ENOENT
			    : err_set(e, -EACCES, "the credential helper %s fails for %s: %.200s",
				      program, server, first_line(answer));
	} else if (r == 0) {
		r = take_answer(program, answer, len, ret_user, ret_secret, e);
	}
	wipe(answer, ANSWER_MAX);
	return r;
}
