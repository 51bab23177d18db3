/* SPDX-License-Identifier: Apache-2.0 */
/* Runs fusermount3, the setuid program that mounts and unmounts for those who are not root. */
#ifndef FUSEFS_HELPER_H
#define FUSEFS_HELPER_H

#include <stddef.h>

#include "core/err.h"

/* What the program printed, on one line and without its own name in front. */
struct helper_text {
	char text[256];
};

/* Runs `fusermount3 ARGS...`, @args being NULL-terminated and without the program's name, to its
 * end. @comm (or -1) becomes its _FUSE_COMMFD. 0: it succeeded; -EIO: it failed, *ret_text says
 * why; -ENOENT: it is not installed. */
int helper_run(const char *const *args, int comm, struct helper_text *ret_text, struct err *e);

#endif
