/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for what another thread is to do: not for ever, and with a word of what did not come. */
#ifndef TESTS_UNIT_PATIENCE_H
#define TESTS_UNIT_PATIENCE_H

#include <time.h>
#include <unistd.h>

#include "tests/unit/test.h"

/* Sanitizers make everything slow. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define PATIENCE_S 360
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PATIENCE_S 360
#endif
#ifndef PATIENCE_S
#define PATIENCE_S 120
#endif

struct patience {
	const char *what;
	time_t until;
};

static inline time_t patience_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static inline struct patience patience_begin(const char *what)
{
	return (struct patience){ what, patience_now() + PATIENCE_S };
}

/* The test fails when it has taken too long; on the thread of the test only. */
static inline void patience_sleep(const struct patience *p)
{
	if (patience_now() > p->until) {
		fail_msg("waited %d s in vain for %s", PATIENCE_S, p->what);
	}
	usleep(1000);
}

/* Waits as long as @condition is true, for what is called @text. */
#define WAIT_WHILE(condition, text)                                                                \
	do {                                                                                       \
		const struct patience p_ = patience_begin(text);                                   \
                                                                                                   \
		while (condition) {                                                                \
			patience_sleep(&p_);                                                       \
		}                                                                                  \
	} while (0)

#endif
