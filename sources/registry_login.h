/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who to be at a registry. The first that has something for it:
 *
 *   --user, --secret (user and password)
 *   a Secret that holds a docker config
 *   --authfile, else $REGISTRY_AUTH_FILE: a file, or a directory that holds one (a mounted Secret)
 *   $XDG_RUNTIME_DIR/containers/auth.json, without that variable /run/containers/UID/auth.json
 *   ${XDG_CONFIG_HOME:-~/.config}/containers/auth.json
 *   ${DOCKER_CONFIG:-~/.docker}/config.json
 *   ~/.dockercfg
 *
 * A file that is not there is passed over; one that cannot be read as such is an error.
 */
#ifndef SOURCES_REGISTRY_LOGIN_H
#define SOURCES_REGISTRY_LOGIN_H

#include <stdbool.h>

#include "core/err.h"
#include "sources/registry_ref.h"
#include "sources/source.h"

/* All owned, NULL where there is none; all NULL: anonymous. */
struct registry_login {
	char *user;
	char *password;
	char *identity; /* exchanged for tokens */
	char *bearer;   /* a token as it is */
	char *account;  /* for people: "user joe (from FILE)" */
	bool ambient;   /* nobody asked for it: it was found */
};

void registry_login_clear(struct registry_login *l);
bool registry_login_is_anonymous(const struct registry_login *l);
bool registry_login_equals(const struct registry_login *a, const struct registry_login *b);

/* What to look through: a copy of the options that say so. */
struct registry_wallet;

int registry_wallet_new(
	const struct source_opts *opts, struct registry_wallet **ret, struct err *e);
void registry_wallet_free(struct registry_wallet *w);

/* What there is for @ref now: files and helpers may say something else later. */
int registry_wallet_find(const struct registry_wallet *w, const struct registry_ref *ref,
	struct registry_login *ret, struct err *e);

#endif
