/* SPDX-License-Identifier: Apache-2.0 */
/* The one place where those two meet. */
#include "tools/manifest_stack.h"

struct stack_access manifest_stack_access(
	const struct manifest_spec *spec, const struct manifest_access *access)
{
	return (struct stack_access){
		.user = access->login.user,
		.password = access->login.password,
		.docker_config = access->login.docker_config,
		.login_from = access->login_from,
		.headers = (const char *const *)access->headers,
		.ca_pem = access->ca,
		.insecure = spec->insecure,
		.platform = spec->architecture,
	};
}
