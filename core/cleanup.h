/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound resources. CLEANUP_* on a local releases it when the scope ends; TAKE_PTR and TAKE_FD
 * hand it over to somebody else at the success return and disarm the cleanup.
 */
#ifndef CORE_CLEANUP_H
#define CORE_CLEANUP_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* For passwords and the like: nothing of @text stays in memory. NULL is nothing. */
static inline void free_secret(char *text)
{
	if (text) {
		explicit_bzero(text, strlen(text));
		free(text);
	}
}

static inline void cleanup_secret(char **text)
{
	free_secret(*text);
}

static inline void cleanup_close(const int *fd)
{
	int saved = errno;

	if (*fd >= 0) {
		close(*fd);
	}
	errno = saved;
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f) {
		fclose(*f);
	}
}

static inline void cleanup_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

static inline pthread_mutex_t *cleanup_lock(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

#define CLEANUP(fn)    __attribute__((cleanup(fn)))
#define CLEANUP_FREE   CLEANUP(cleanup_free)
#define CLEANUP_SECRET CLEANUP(cleanup_secret)
#define CLEANUP_CLOSE  CLEANUP(cleanup_close)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose)

#define CLEANUP_JOIN(a, b)          a##b
#define CLEANUP_JOIN_EXPANDED(a, b) CLEANUP_JOIN(a, b)

/* Holds @m until the scope ends. */
#define LOCK_SCOPE(m)                                                                              \
	CLEANUP(cleanup_unlock)                                                                    \
	pthread_mutex_t *CLEANUP_JOIN_EXPANDED(lock_scope_, __COUNTER__) __attribute__((unused)) = \
		cleanup_lock(m)

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) take_ptr_ = (p);                                                     \
		(p) = NULL;                                                                        \
		take_ptr_;                                                                         \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int take_fd_ = (fd);                                                               \
		(fd) = -1;                                                                         \
		take_fd_;                                                                          \
	})

#endif
