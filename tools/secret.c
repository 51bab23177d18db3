/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials from mounted Secrets and files. */
#include "tools/secret.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define VALUE_MAX    65536
#define MANIFEST_MAX (1U << 20)

const char *const secret_user_keys[2] = { "accessKeyId", "username" };
const char *const secret_password_keys[2] = { "secretKey", "password" };
const char *const secret_docker_keys[2] = { ".dockerconfigjson", ".dockercfg" };

void secret_clear(struct secret *s)
{
	free_secret(s->user);
	free_secret(s->password);
	free_secret(s->docker_config);
	*s = (struct secret){ 0 };
}

void secret_strip_newline(char *text)
{
	size_t len = strlen(text);

	if (len && text[len - 1] == '\n') {
		text[--len] = '\0';
	}
	if (len && text[len - 1] == '\r') {
		text[--len] = '\0';
	}
}

/* Values go into header lines: nothing that could end one may be in them. */
static int check_value(const char *path, const char *text, size_t len, struct err *e)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
			return err_set(e, -EINVAL,
				"%s: a name or password is one line of text without control "
				"characters",
				path);
		}
	}
	return 0;
}

static int read_value(const char *path, char **ret, struct err *e)
{
	CLEANUP_SECRET char *text = NULL;
	size_t len;
	size_t stripped;
	int r = rw_read_file(path, VALUE_MAX, &text, &len, e);

	if (r < 0) {
		return r;
	}
	secret_strip_newline(text);
	/* A NUL within makes the text shorter than what was read, by more than a line's end. */
	stripped = strlen(text);
	if (stripped + 2 < len) {
		return err_set(e, -EINVAL, "%s: holds a NUL byte", path);
	}
	r = check_value(path, text, stripped, e);
	if (r == 0) {
		*ret = TAKE_PTR(text);
	}
	return r;
}

int secret_read_password(const char *path, char **ret, struct err *e)
{
	int r = read_value(path, ret, e);

	return r < 0 ? err_wrap(e, r, "--password-file") : 0;
}

/* The first of @keys that is a file in @dir; *ret stays NULL when none is. */
static int read_key(const char *dir, const char *const keys[2], char **ret, struct err *e)
{
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *path = NULL;

		if (asprintf(&path, "%s/%s", dir, keys[i]) < 0) {
			path = NULL;
			return err_set(e, -ENOMEM, "out of memory");
		}
		if (access(path, F_OK) == 0) {
			return read_value(path, ret, e);
		}
	}
	return 0;
}

/* A docker config is a text of lines. */
static int read_docker_config(const char *dir, char **ret, struct err *e)
{
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *path = NULL;
		size_t len;

		if (asprintf(&path, "%s/%s", dir, secret_docker_keys[i]) < 0) {
			path = NULL;
			return err_set(e, -ENOMEM, "out of memory");
		}
		if (access(path, F_OK) == 0) {
			return rw_read_file(path, MANIFEST_MAX, ret, &len, e);
		}
	}
	return 0;
}

static int load_directory(const char *path, struct secret *ret, struct err *e)
{
	int r = read_docker_config(path, &ret->docker_config, e);

	if (r == 0) {
		r = read_key(path, secret_user_keys, &ret->user, e);
	}
	if (r == 0) {
		r = read_key(path, secret_password_keys, &ret->password, e);
	}
	return r < 0 ? r : secret_settle(path, ret, e);
}

static int load_manifest(const char *path, struct secret *ret, struct err *e)
{
	CLEANUP_SECRET char *text = NULL;
	size_t len;
	int r = rw_read_file(path, MANIFEST_MAX, &text, &len, e);

	return r < 0 ? r : secret_manifest_parse(path, text, len, ret, e);
}

/* Both empty is anonymous; a Secret with neither key is a mistake. */
int secret_settle(const char *path, struct secret *s, struct err *e)
{
	int r;

	if (!s->user && !s->password && s->docker_config) {
		return 0;
	}
	if (!s->user && !s->password) {
		return err_set(e, -EINVAL,
			"%s: has neither accessKeyId and secretKey nor username and password, nor "
			".dockerconfigjson",
			path);
	}
	if ((!s->user || !*s->user) && (!s->password || !*s->password)) {
		secret_clear(s);
		return 0;
	}
	if (!s->user || !*s->user) {
		return err_set(e, -EINVAL, "%s: has a password but no user name", path);
	}
	if (!s->password) {
		s->password = strdup("");
		if (!s->password) {
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	r = check_value(path, s->user, strlen(s->user), e);
	return r < 0 ? r : check_value(path, s->password, strlen(s->password), e);
}

int secret_load(const char *path, struct secret *ret, struct err *e)
{
	struct stat st;
	int r;

	*ret = (struct secret){ 0 };
	if (stat(path, &st) < 0) {
		return err_sys(e, errno, "--secret: cannot read %s", path);
	}
	r = S_ISDIR(st.st_mode) ? load_directory(path, ret, e) : load_manifest(path, ret, e);
	return r < 0 ? err_wrap(e, r, "--secret") : 0;
}

/* RFC 9110, section 5.6.2 */
static bool is_token(const char *text, size_t len)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') && !memchr(others, c, sizeof(others) - 1)) {
			return false;
		}
	}
	return len > 0;
}

bool secret_is_header(const char *line)
{
	const char *colon = strchr(line, ':');

	if (!colon || !is_token(line, (size_t)(colon - line))) {
		return false;
	}
	for (const char *p = colon; *p; p++) {
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f) {
			return false;
		}
	}
	return true;
}

void secret_free_headers(char **headers)
{
	for (char **p = headers; p && *p; p++) {
		free_secret(*p);
	}
	free(headers);
}

static int collect_headers(const char *path, char *text, char **headers, struct err *e)
{
	size_t n = 0;
	unsigned int number = 0;
	char *next = text;

	while (next && *next) {
		char *line = strsep(&next, "\n");

		number++;
		secret_strip_newline(line);
		if (!*line || *line == '#') {
			continue;
		}
		if (!secret_is_header(line)) {
			return err_set(e, -EINVAL,
				"--header-file: %s, line %u: not a header; write \"Name: value\"",
				path, number);
		}
		headers[n] = strdup(line);
		if (!headers[n++]) {
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	return 0;
}

int secret_read_headers(const char *path, char ***ret, struct err *e)
{
	CLEANUP_SECRET char *text = NULL;
	char **headers;
	size_t lines = 2;
	size_t len;
	int r = rw_read_file(path, VALUE_MAX, &text, &len, e);

	if (r < 0) {
		return err_wrap(e, r, "--header-file");
	}
	for (const char *p = text; *p; p++) {
		lines += *p == '\n';
	}
	headers = calloc(lines, sizeof(*headers));
	if (!headers) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = collect_headers(path, text, headers, e);
	if (r < 0) {
		secret_free_headers(headers);
		return r;
	}
	*ret = headers;
	return 0;
}
