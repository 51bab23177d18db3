/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WWW-Authenticate (RFC 9110, 11.6.1; RFC 6750, 3): a list of challenges, each a scheme and its
 * parameters. Pure.
 */
#ifndef SOURCES_REGISTRY_CHALLENGE_H
#define SOURCES_REGISTRY_CHALLENGE_H

#include <stdbool.h>

/* Of one challenge; owned, NULL where it does not say. */
struct registry_challenge {
	char *realm;
	char *service;
	char *scope;
	char *error;
};

/* The first challenge of @scheme in @header. False: there is none, or what comes before it cannot
 * be read; or no memory. */
bool registry_challenge_find(
	const char *header, const char *scheme, struct registry_challenge *ret);
void registry_challenge_clear(struct registry_challenge *c);

#endif
