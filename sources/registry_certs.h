/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories where container tools keep the certificates of a registry
 * (containers-certs.d(5)); the first that there is counts:
 *
 *   ~/.config/containers/certs.d/HOST   /etc/containers/certs.d/HOST   /etc/docker/certs.d/HOST
 *
 * with *.crt, authorities, and NAME.cert and NAME.key, a client certificate and its key.
 */
#ifndef SOURCES_REGISTRY_CERTS_H
#define SOURCES_REGISTRY_CERTS_H

#include "core/err.h"

/* Owned, NULL where there is none. */
struct registry_certs {
	char *ca_pem;
	char *client_cert; /* paths */
	char *client_key;
};

/* For the registry @domain. -EINVAL: a certificate without its key, or the reverse. */
int registry_certs_find(const char *domain, struct registry_certs *ret, struct err *e);
void registry_certs_clear(struct registry_certs *c);

#endif
