/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry, a file of accounts or a user may say: manifests, challenges, accounts,
 * references. The first byte says which; whatever is accepted is consistent. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "sources/authfile.h"
#include "sources/oci_digest.h"
#include "sources/oci_manifest.h"
#include "sources/oci_platform.h"
#include "sources/registry_challenge.h"
#include "sources/registry_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_manifest(const char *text, size_t len)
{
	struct oci_platform p;
	struct oci_manifest m;
	struct err e = { 0 };
	size_t chosen = 0;
	int r = oci_manifest_parse("x", text, len, len % 2 ? OCI_TYPE_INDEX : "", &m, &e);

	if (r < 0) {
		assert((r == -EBADMSG || r == -ENOTSUP) && e.code == r && e.text[0]);
		return;
	}
	assert(*m.media_type && m.artifact_type);
	for (size_t i = 0; i < m.count; i++) {
		assert(oci_digest_check(m.items[i].blob.digest, NULL) == 0);
		assert(m.items[i].blob.size < 1ULL << 53);
		(void)source_blob_annotation(&m.items[i].blob, "k");
	}
	assert(oci_platform_parse("linux/arm64/v8", &p, NULL) == 0);
	if (m.is_index && oci_platform_choose("x", &m, &p, &chosen, &e) == 0) {
		assert(chosen < m.count);
	}
	oci_manifest_clear(&m);
}

static void try_challenge(const char *text)
{
	static const char *const schemes[] = { "Bearer", "Basic" };

	for (int i = 0; i < 2; i++) {
		struct registry_challenge c;

		if (registry_challenge_find(text, schemes[i], &c)) {
			assert(strcasestr(text, schemes[i]));
			registry_challenge_clear(&c);
		}
	}
}

static void try_accounts(const char *text, size_t len)
{
	struct registry_login login = { 0 };
	struct registry_ref ref;
	struct err e = { 0 };
	json_t *file;

	if (authfile_parse("f", text, len, &file, &e) < 0) {
		assert(e.code == -EINVAL && e.text[0]);
		return;
	}
	assert(registry_ref_parse("docker://h.io/a/b", &ref, NULL) == 0);
	(void)authfile_helper(file, &ref);
	if (authfile_find("f", file, &ref, &login, &e) == 0) {
		assert(!registry_login_is_anonymous(&login));
		registry_login_clear(&login);
	}
	registry_ref_clear(&ref);
	json_decref(file);
}

/* What is accepted is accepted again as it is shown. */
static void try_reference(const char *text)
{
	struct registry_ref again;
	struct registry_ref ref;
	struct err e = { 0 };
	char *spec = malloc(strlen(text) + sizeof(REGISTRY_SCHEME));

	assert(spec);
	stpcpy(stpcpy(spec, REGISTRY_SCHEME), text);
	if (registry_ref_parse(spec, &ref, &e) == 0) {
		assert(!ref.digest != !ref.tag && !strstr(ref.path, ".."));
		assert(registry_ref_parse(ref.text, &again, NULL) == 0);
		assert(strcmp(again.text, ref.text) == 0);
		registry_ref_clear(&again);
		registry_ref_clear(&ref);
	} else {
		assert(e.code == -EINVAL && e.text[0]);
	}
	free(spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text;

	if (len == 0) {
		return 0;
	}
	text = bytes_text(data + 1, len - 1);
	assert(text);
	switch (data[0]) {
	case 'c':
		try_challenge(text);
		break;
	case 'a':
		try_accounts((const char *)data + 1, len - 1);
		break;
	case 'r':
		try_reference(text);
		break;
	default:
		try_manifest((const char *)data + 1, len - 1);
		break;
	}
	free(text);
	return 0;
}
