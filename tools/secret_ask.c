/* SPDX-License-Identifier: Apache-2.0 */
/* The password, asked for on the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "tools/secret.h"

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static volatile sig_atomic_t caught;

static void note(int sig)
{
	caught = sig;
}

/* One line without its echo. A signal waits until the terminal is as it was. */
static ssize_t read_hidden(int tty, char *line, size_t room)
{
	struct sigaction noting = { .sa_handler = note };
	struct sigaction before[SIGNALS];
	struct termios shown;
	struct termios hidden;
	ssize_t n;

	if (tcgetattr(tty, &shown) < 0) {
		return -errno;
	}
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	hidden.c_lflag |= ECHONL | ICANON | ISIG;
	caught = 0;
	for (size_t i = 0; i < SIGNALS; i++) {
		sigaction(signals[i], &noting, &before[i]);
	}
	n = tcsetattr(tty, TCSAFLUSH, &hidden) < 0 ? -1 : read(tty, line, room - 1);
	n = n < 0 ? -errno : n;
	tcsetattr(tty, TCSAFLUSH, &shown);
	for (size_t i = 0; i < SIGNALS; i++) {
		sigaction(signals[i], &before[i], NULL);
	}
	if (caught) {
		raise(caught);
		return -EINTR;
	}
	return n;
}

int secret_ask(const char *user, char **ret, struct err *e)
{
	CLEANUP_CLOSE int tty = -1;
	char line[1024];
	ssize_t n;

	if (isatty(STDIN_FILENO)) {
		tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	}
	if (tty < 0) {
		return err_set(e, -ENOTTY,
			"--user: there is no terminal to ask for the password on; give "
			"--password-file or --secret");
	}
	dprintf(tty, "Password for %s: ", user);
	n = read_hidden(tty, line, sizeof(line));
	if (n <= 0) {
		return err_set(e, -EINTR, "--user: no password was given");
	}
	line[n] = '\0';
	secret_strip_newline(line);
	*ret = strdup(line);
	explicit_bzero(line, sizeof(line));
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}
