/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What went wrong: a negative errno for programs and one sentence for people.
 *
 * A struct err lives on the caller's stack, is the last parameter of every function that can fail
 * for a reason worth telling, may be NULL, and is untouched on success. The function that meets the
 * problem fills it with err_set(); callers on the way up may put context in front with err_wrap();
 * nobody but the two edges (fusefs/ops.c and the verbs in tools/) prints it.
 *
 * What the codes mean, everywhere:
 *   -ESTALE      the remote is not the version that was opened
 *   -EBADMSG     the image (or the answer of a server) is corrupt
 *   -ENOTSUP     a feature that we refuse; the text names it
 *   -EACCES      credentials are missing or refused
 *   -EKEYREJECTED  TLS: the peer's certificate (or ours) is not accepted
 *   -ENOENT      there is no such image
 *   -ENXIO       the host does not exist or refuses connections
 *   -ETIMEDOUT   retries are spent
 *   -ECONNRESET  a transfer broke and may be tried again
 *   -EPROTO      the server breaks the rules of HTTP in a way that no retry mends
 *   -ENOSPC      the target is full (a full cache is never an error)
 *   -ENOKEY      verification failed: a digest does not match
 *   -EOVERFLOW   whether what was read was right cannot be told any more: see image_prove()
 * Secrets (passwords, tokens, Authorization headers, signed query strings) never enter the text.
 */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#define ERR_TEXT_MAX 512

struct err {
	int code; /* a negative errno */
	char text[ERR_TEXT_MAX];
};

/* Fills @e (which may be NULL) and returns @code, so that `return err_set(...)` is a whole error
 * path. A text that does not fit is cut. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), with @errnum's (positive or negative) own words behind the text: "open x: No such
 * file or directory". Returns the negative errno. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "CONTEXT: " in front of the text of @e and returns @code, the error that travels. */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* The analyser sees one file at a time and would take an error for a success: these are negative.
 */
static inline int err_same(int set, int code)
{
	(void)set;
	return code;
}
#define err_set(e, code, ...)   err_same(err_set(e, code, __VA_ARGS__), code)
#define err_sys(e, errnum, ...) err_same(err_sys(e, errnum, __VA_ARGS__), -1)
#define err_wrap(e, code, ...)  err_same(err_wrap(e, code, __VA_ARGS__), code)
#endif

#endif
