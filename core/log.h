/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to the person who runs the command: to stderr, or to syslog once the daemon is in the
 * background. One message is one line. Library code uses log_debug() only, and log_warn() for what
 * it survived on its own ("cache bypassed"); errors travel as struct err. Thread-safe.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

enum log_format {
	LOG_FORMAT_TEXT, /* "lazydisk: warning: ..." */
	LOG_FORMAT_JSON, /* {"time":"...","level":"warn","msg":"..."} */
};

/* Call before the first thread starts. */
void log_setup(enum log_level most, enum log_format format);

/* From now on to syslog (facility daemon) instead of stderr. */
void log_to_syslog(void);

void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool log_enabled(enum log_level level);

#define log_error(...) log_msg(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG)) {                                                \
			log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__);                                     \
		}                                                                                  \
	} while (0)

#endif
