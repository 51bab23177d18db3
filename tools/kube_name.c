/* SPDX-License-Identifier: Apache-2.0 */
/* Which names Kubernetes takes: see "Object Names and IDs" in its documentation, and RFC 1123. */
#include "tools/kube_name.h"

#include <string.h>

#define LABEL_MAX     63
#define SUBDOMAIN_MAX 253

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* The label at @text that ends at @len. */
static bool is_label(const char *text, size_t len)
{
	if (len == 0 || !is_alphanumeric(text[0]) || !is_alphanumeric(text[len - 1])) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (!is_alphanumeric(text[i]) && text[i] != '-') {
			return false;
		}
	}
	return true;
}

bool kube_name_is_label(const char *text)
{
	size_t len = strlen(text);

	return len <= LABEL_MAX && is_label(text, len);
}

bool kube_name_is_subdomain(const char *text)
{
	if (strlen(text) > SUBDOMAIN_MAX) {
		return false;
	}
	for (;;) {
		size_t len = strcspn(text, ".");

		if (!is_label(text, len)) {
			return false;
		}
		if (!text[len]) {
			return true;
		}
		text += len + 1;
	}
}
