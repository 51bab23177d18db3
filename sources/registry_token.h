/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens from the server that a Bearer challenge names (distribution project,
 * docs/spec/auth/token.md and oauth.md): GET with Basic credentials or none; POST with an identity
 * token.
 */
#ifndef SOURCES_REGISTRY_TOKEN_H
#define SOURCES_REGISTRY_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "sources/http_conf.h"
#include "sources/net.h"
#include "sources/registry_login.h"

/* All borrowed. */
struct registry_token_ask {
	struct net *net;
	const struct http_conf *conf; /* of the registry: how to reach others on its behalf */
	const struct http_url *registry;
	const char *realm;
	const char *service; /* NULL: none */
	const char *scope;
	const struct registry_login *login;
	const _Atomic bool *cancel;
};

/* Owned; secrets. */
struct registry_token {
	char *text;
	char *identity; /* to be used from now on; NULL: as before */
	uint64_t life_s;
};

/* -EACCES: it does not accept the login, or refuses without one. */
int registry_token_fetch(
	const struct registry_token_ask *ask, struct registry_token *ret, struct err *e);
void registry_token_clear(struct registry_token *t);

/* Whether @realm may be asked on behalf of @registry. It is a stranger's word: it must neither lead
 * from https to http, nor to addresses behind our own doors. @insecure: the first does not count.
 */
int registry_token_check_realm(const struct http_url *registry, const struct http_url *realm,
	bool insecure, struct err *e);

#endif
