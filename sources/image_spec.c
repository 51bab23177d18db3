/* SPDX-License-Identifier: Apache-2.0 */
/* References and layouts by their prefixes. */
#include "sources/image_spec.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cleanup.h"
#include "sources/oci_files.h"
#include "sources/registry_ref.h"

static bool is_docker(const char *spec)
{
	return strncasecmp(spec, REGISTRY_SCHEME, strlen(REGISTRY_SCHEME)) == 0;
}

bool source_is_image(const char *spec)
{
	static const char *const layouts[] = { "oci:", "oci-archive:", "docker-archive:" };

	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
		if (strncasecmp(spec, layouts[i], strlen(layouts[i])) == 0) {
			return true;
		}
	}
	return is_docker(spec);
}

int image_spec_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct image **ret, struct err *e)
{
	(void)net;
	(void)opts;
	(void)ret;
	return err_set(e, -EINVAL, "%s is an image of layers, not a file", spec);
}

int image_spec_key(const char *spec, char **ret, struct err *e)
{
	CLEANUP_FREE char *real = NULL;
	char *key = NULL;
	struct registry_ref ref;
	struct oci_files f;
	int r;

	if (is_docker(spec)) {
		r = registry_ref_parse(spec, &ref, e);
		if (r == 0) {
			*ret = TAKE_PTR(ref.text);
			registry_ref_clear(&ref);
		}
		return r;
	}
	r = oci_files_init(&f, spec, NULL, e);
	if (r == 0) {
		real = realpath(f.path, NULL);
		r = asprintf(&key, "%.*s%s%s%s", (int)strcspn(spec, ":") + 1, spec,
			    real ? real : f.path, *f.ref ? ":" : "", f.ref) < 0
			    ? err_set(e, -ENOMEM, "out of memory")
			    : 0;
	}
	if (r == 0) {
		*ret = key;
	}
	oci_files_clear(&f);
	return r;
}

int image_spec_sibling(const char *spec, const char *name, char **ret, struct err *e)
{
	(void)ret;
	return err_set(e, -EINVAL, "%s: there is no \"%s\" beside an image", spec, name);
}

int image_spec_path(const char *spec, char **ret, struct err *e)
{
	struct registry_ref ref;
	struct oci_files f;
	int r;

	if (is_docker(spec)) {
		r = registry_ref_parse(spec, &ref, e);
		if (r == 0) {
			*ret = TAKE_PTR(ref.path);
			registry_ref_clear(&ref);
		}
		return r;
	}
	r = oci_files_init(&f, spec, NULL, e);
	if (r == 0) {
		*ret = TAKE_PTR(f.path);
	}
	oci_files_clear(&f);
	return r;
}
