/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cache_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

int cache_dir_make(void **state)
{
	const char *parent = getenv("TMPDIR");
	char *dir = NULL;

	if (asprintf(&dir, "%s/lazydisk-test-XXXXXX", parent ? parent : "/tmp") < 0 ||
		!mkdtemp(dir)) {
		return -1;
	}
	*state = dir;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int cache_dir_remove(void **state)
{
	int r;

	(void)umount2(*state, MNT_DETACH); /* of a test that failed meanwhile */
	r = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return r;
}
