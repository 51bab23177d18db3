/* SPDX-License-Identifier: Apache-2.0 */
/* From what a manifest says of a source to how it is opened. */
#ifndef TOOLS_MANIFEST_STACK_H
#define TOOLS_MANIFEST_STACK_H

#include "tools/manifest_resolve.h"
#include "tools/manifest_spec.h"
#include "tools/stack.h"

/* Borrows from both. */
struct stack_access manifest_stack_access(
	const struct manifest_spec *spec, const struct manifest_access *access);

#endif
