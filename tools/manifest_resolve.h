/* SPDX-License-Identifier: Apache-2.0 */
/* References by name become what they name: credentials, headers, authorities. */
#ifndef TOOLS_MANIFEST_RESOLVE_H
#define TOOLS_MANIFEST_RESOLVE_H

#include "tools/manifest_spec.h"
#include "tools/secret.h"

/* What is needed to reach a volume's http source; owned. All zero: nothing is needed. */
struct manifest_access {
	struct secret login;
	char **headers;   /* NULL-terminated, or NULL; free with secret_free_headers() */
	char *ca;         /* PEM certificates, or NULL */
	char *login_from; /* which Secret, for messages; NULL: none */
};

/* -EINVAL: a Secret or ConfigMap that is not among the manifests, or holds not what it should. @ret
 * changes on success only. */
int manifest_resolve(const struct manifest *m, const struct manifest_object *volume,
	const struct manifest_spec *spec, struct manifest_access *ret, struct err *e);

/* Wipes and frees. */
void manifest_access_clear(struct manifest_access *access);

#endif
