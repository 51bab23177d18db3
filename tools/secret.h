/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and passwords, from wherever people keep them: a Kubernetes Secret mounted as a directory,
 * a Secret's manifest, a file, the terminal. One newline at the end of a value is not part of it.
 * What is read here never reaches a message, a log or another process's argv.
 */
#ifndef TOOLS_SECRET_H
#define TOOLS_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

/* All NULL: anonymous. User and password are set together. */
struct secret {
	char *user;
	char *password;
	char *docker_config; /* logins for registries, as docker login writes them */
};

/* @path is a directory (files accessKeyId and secretKey, or username and password, or
 * .dockerconfigjson) or a manifest (secret_manifest_parse()). Empty values mean anonymous. @ret is
 * to be cleared in any case. */
int secret_load(const char *path, struct secret *ret, struct err *e);

/* Picks the login out of a Secret in YAML or JSON: `data` (base64) or `stringData`, keys as above.
 * @path is for messages. Documents of another kind are skipped; two Secrets are refused. */
int secret_manifest_parse(
	const char *path, const char *text, size_t len, struct secret *ret, struct err *e);

struct yamltree_node;

/* The login in the Secret @root, checked as secret_load() does; @path is for messages. @ret is to
 * be cleared in any case. */
int secret_node_login(
	const char *path, const struct yamltree_node *root, struct secret *ret, struct err *e);

/* The value of @key in the Secret @root: stringData wins over data. -ENOENT: no such key; -EINVAL:
 * not base64 text. */
int secret_node_value(const struct yamltree_node *root, const char *key, char **ret);

/* The keys of a Secret: CDI's first, then those of type kubernetes.io/basic-auth. */
extern const char *const secret_user_keys[2];
extern const char *const secret_password_keys[2];
/* Of types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg. */
extern const char *const secret_docker_keys[2];

/* What was read becomes a login, or anonymous; refuses what cannot be one. */
int secret_settle(const char *path, struct secret *s, struct err *e);

/* Whether @line is "Name: value" and can be sent as a header. */
bool secret_is_header(const char *line);

/* The first line of @path. */
int secret_read_password(const char *path, char **ret, struct err *e);

/* Asks for @user's password on the terminal, without echo. -ENOTTY when there is none. */
int secret_ask(const char *user, char **ret, struct err *e);

/* The headers in @path, one a line, NULL-terminated; free with secret_free_headers(). A line that
 * is no header is refused by its number; empty lines and those that begin with # are skipped. */
int secret_read_headers(const char *path, char ***ret, struct err *e);
void secret_free_headers(char **headers);

/* Takes one line end off the end of @text. */
void secret_strip_newline(char *text);

/* Wipes and frees. */
void secret_clear(struct secret *s);

#endif
