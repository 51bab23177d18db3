/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of Kubernetes objects: DNS labels and subdomains of RFC 1123, in lower case. Such a name is
 * also safe as a part of a path: it holds no slash, does not begin with a dot, and is never "..".
 */
#ifndef TOOLS_KUBE_NAME_H
#define TOOLS_KUBE_NAME_H

#include <stdbool.h>

/* Letters, digits and '-', alphanumeric at both ends, at most 63. Namespaces are labels. */
bool kube_name_is_label(const char *text);

/* Labels (here of any length) with dots between, at most 253. Most objects' names are such. */
bool kube_name_is_subdomain(const char *text);

#endif
