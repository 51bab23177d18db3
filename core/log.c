/* SPDX-License-Identifier: Apache-2.0 */
/* One line a message, to stderr or syslog. */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static struct {
	enum log_level most;
	enum log_format format;
	_Atomic bool syslog; /* changes when threads are there already */
} log_state = { LOG_LEVEL_INFO, LOG_FORMAT_TEXT, false };

static const char *const level_word[] = { "error", "warn", "info", "debug" };
static const char *const level_prefix[] = { "error: ", "warning: ", "", "debug: " };
static const int level_syslog[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_setup(enum log_level most, enum log_format format)
{
	log_state.most = most;
	log_state.format = format;
}

void log_to_syslog(void)
{
	openlog("lazydisk", LOG_PID, LOG_DAEMON);
	log_state.syslog = true;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.most;
}

/* A message is one line: control characters (a server may have sent them) become spaces. */
static void flatten(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f) {
			*text = ' ';
		}
	}
}

static void escape_json(const char *text, char *ret, size_t room)
{
	size_t n = 0;

	for (; *text && n + 3 < room; text++) {
		if (*text == '"' || *text == '\\') {
			ret[n++] = '\\';
		}
		ret[n++] = *text;
	}
	ret[n] = '\0';
}

/* One writev(), so that lines of several threads (and processes) do not mix. */
static void to_stderr(enum log_level level, const char *text)
{
	char line[2600];
	char body[2200];
	char stamp[32];
	struct timespec now;
	struct tm tm;
	int n;

	if (log_state.format == LOG_FORMAT_JSON) {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
		escape_json(text, body, sizeof(body));
		n = snprintf(line, sizeof(line),
			"{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"msg\":\"%s\"}\n", stamp,
			now.tv_nsec / 1000000, level_word[level], body);
	} else {
		n = snprintf(line, sizeof(line), "lazydisk: %s%s\n", level_prefix[level], text);
	}
	if (n > 0) {
		struct iovec iov = { line, (size_t)n };

		(void)!writev(STDERR_FILENO, &iov, 1);
	}
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!log_enabled(level)) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	flatten(text);
	if (log_state.syslog) {
		syslog(level_syslog[level], "%s", text);
	} else {
		to_stderr(level, text);
	}
}
