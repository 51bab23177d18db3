/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of an index's manifests is for a platform (image specification, image-index.md; the order
 * of variants is that of containers/image). Pure.
 */
#ifndef SOURCES_OCI_PLATFORM_H
#define SOURCES_OCI_PLATFORM_H

#include <stddef.h>

#include "core/err.h"
#include "sources/oci_manifest.h"

struct oci_platform {
	char os[32];
	char architecture[32]; /* as Go calls it: amd64, arm64 */
	char variant[32];      /* "": any */
};

/* @text: "os/arch[/variant]" or "arch"; NULL: this machine's. -EINVAL. */
int oci_platform_parse(const char *text, struct oci_platform *ret, struct err *e);

/* "linux/arm/v7" */
void oci_platform_print(const struct oci_platform *p, char *ret, size_t room);

/* Whether @architecture, in any spelling, is @p's. */
bool oci_platform_has_architecture(const struct oci_platform *p, const char *architecture);

/* The entry of the index @m for @p. -ENOENT: none; the text names those that there are. */
int oci_platform_choose(const char *what, const struct oci_manifest *m,
	const struct oci_platform *p, size_t *ret, struct err *e);

#endif
