/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are at a registry, request by request: nobody at first, then what its challenges ask for,
 * Bearer before Basic. A token is fetched by one of those who need it, the others wait; it is
 * renewed before it ends, and when a request is refused. Credentials that were found rather than
 * given, and that do not work, are left aside once: public images need none.
 */
#ifndef SOURCES_REGISTRY_AUTH_H
#define SOURCES_REGISTRY_AUTH_H

#include <stdbool.h>

#include "sources/http_auth.h"
#include "sources/http_conf.h"
#include "sources/net.h"
#include "sources/registry_login.h"

struct registry_auth;

/* For the repository of @ref. @wallet is taken over on success. */
int registry_auth_new(struct net *net, const struct registry_ref *ref,
	struct registry_wallet *wallet, struct registry_auth **ret, struct err *e);

/* @conf, of the registry at @url, will own @a. */
int registry_auth_attach(
	struct registry_auth *a, struct http_conf *conf, const struct http_url *url, struct err *e);

/* What is known from before, so that the first request need not be refused. NULL is nothing. */
int registry_auth_expect(struct registry_auth *a, const char *realm, const char *service);

/* What there is to remember for that. Both malloc()ed, NULL where there is nothing; false without
 * memory. */
bool registry_auth_challenge(struct registry_auth *a, char **ret_realm, char **ret_service);

/* For people, malloc()ed: the account that is used, and what was wrong with another (or NULL). */
char *registry_auth_account(struct registry_auth *a);
char *registry_auth_warning(struct registry_auth *a);

#endif
