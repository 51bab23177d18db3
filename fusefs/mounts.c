/* SPDX-License-Identifier: Apache-2.0 */
/* Looks into /proc/self/mountinfo (proc(5)), whose paths have octal escapes. */
#include "fusefs/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/cleanup.h"

#define MAX_LINKS 40 /* as the kernel's */

/* "\040" for a blank, and so on; in place. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
			s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

static bool parse_dev(const char *text, dev_t *ret)
{
	char *end;
	unsigned long major = strtoul(text, &end, 10);
	unsigned long minor;

	if (end == text || *end != ':') {
		return false;
	}
	text = end + 1;
	minor = strtoul(text, &end, 10);
	if (end == text || *end) {
		return false;
	}
	*ret = makedev((unsigned int)major, (unsigned int)minor);
	return true;
}

/* 36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue */
bool mounts_parse(char *line, const char *path, struct mounts_entry *ret)
{
	struct mounts_entry entry = { 0 };
	char *save = NULL;
	char *field[5];
	char *type;

	for (int i = 0; i < 5; i++) {
		field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
		if (!field[i]) {
			return false;
		}
	}
	unescape(field[4]);
	if (strcmp(field[4], path) != 0 || !parse_dev(field[2], &entry.dev)) {
		return false;
	}
	do {
		type = strtok_r(NULL, " ", &save);
	} while (type && strcmp(type, "-") != 0);
	type = type ? strtok_r(NULL, " ", &save) : NULL;
	if (!type) {
		return false;
	}
	unescape(type);
	snprintf(entry.type, sizeof(entry.type), "%s", type);
	*ret = entry;
	return true;
}

int mounts_find(const char *path, struct mounts_entry *ret, struct err *e)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/self/mountinfo", "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	bool found = false;

	if (!f) {
		return err_set(e, -EIO, "/proc/self/mountinfo cannot be read: is /proc mounted?");
	}
	while (getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (mounts_parse(line, path, ret)) {
			found = true; /* the last one covers those before it */
		}
	}
	return found ? 0 : err_set(e, -ENOENT, "nothing is mounted at %s", path);
}

/* Cuts slashes from the end, and returns where the last component of @path begins. */
static char *last_component(char *path)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/') {
		path[--len] = '\0';
	}
	slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* Real directory of @path, whose last component begins at @last; malloc()ed. */
static char *real_parent(char *path, char *last)
{
	char first = *last;
	char *dir;

	if (last == path) {
		return realpath(".", NULL);
	}
	*last = '\0';
	dir = realpath(path, NULL);
	*last = first;
	return dir;
}

/* One step: *ret is the absolute path, or what the link says that it is (true in *ret_link). */
static int resolve_step(char *path, char **ret, bool *ret_link)
{
	char *last = last_component(path);
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *whole = NULL;
	char target[PATH_MAX];
	ssize_t n;

	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
		*ret_link = false;
		*ret = realpath(path, NULL);
		return *ret ? 0 : -errno;
	}
	dir = real_parent(path, last);
	if (!dir) {
		return -errno;
	}
	if (asprintf(&whole, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, last) < 0) {
		whole = NULL;
		return -ENOMEM;
	}
	/* Of a mountpoint the kernel knows by itself that it is no link. */
	n = readlink(whole, target, sizeof(target) - 1);
	*ret_link = n > 0;
	if (n <= 0) {
		*ret = TAKE_PTR(whole);
		return 0;
	}
	target[n] = '\0';
	if (target[0] == '/') {
		*ret = strdup(target);
	} else if (asprintf(ret, "%s/%s", dir, target) < 0) {
		*ret = NULL;
	}
	return *ret ? 0 : -ENOMEM;
}

int mounts_resolve(const char *path, char **ret, struct err *e)
{
	CLEANUP_FREE char *now = strdup(path);

	for (int i = 0; now && i < MAX_LINKS; i++) {
		char *next = NULL;
		bool link = false;
		int r = *now ? resolve_step(now, &next, &link) : -ENOENT;

		if (r < 0) {
			return err_sys(e, r, "%s", path);
		}
		if (!link) {
			*ret = next;
			return 0;
		}
		free(now);
		now = next;
	}
	return now ? err_sys(e, ELOOP, "%s", path) : err_set(e, -ENOMEM, "out of memory");
}
