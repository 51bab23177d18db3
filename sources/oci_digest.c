/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of small things that are in memory; those of blobs are digest.c's business. */
#include "sources/oci_digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static bool is_sha512(const char *digest)
{
	return strncmp(digest, "sha512:", 7) == 0;
}

int oci_digest_check(const char *digest, struct err *e)
{
	size_t want = is_sha512(digest) ? 128 : 64;

	if (!is_sha512(digest) && strncmp(digest, "sha256:", 7) != 0) {
		return err_set(
			e, -EINVAL, "not a digest: it begins with neither sha256: nor sha512:");
	}
	if (strspn(digest + 7, "0123456789abcdef") != want || digest[7 + want]) {
		return err_set(e, -EINVAL,
			"not a digest: %zu lower-case hexadecimal digits follow %.7s", want,
			digest);
	}
	return 0;
}

static int make(bool sha512, const void *data, size_t len, char ret[OCI_DIGEST_MAX], struct err *e)
{
	uint8_t value[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	static const char hex[] = "0123456789abcdef";
	char *p = ret + 7;

	if (EVP_Digest(data, len, value, &n, sha512 ? EVP_sha512() : EVP_sha256(), NULL) != 1) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(ret, sha512 ? "sha512:" : "sha256:", 8);
	for (unsigned int i = 0; i < n; i++) {
		*p++ = hex[value[i] >> 4];
		*p++ = hex[value[i] & 15];
	}
	*p = '\0';
	return 0;
}

int oci_digest_make(const void *data, size_t len, char ret[OCI_DIGEST_MAX], struct err *e)
{
	return make(false, data, len, ret, e);
}

int oci_digest_verify(
	const char *digest, const void *data, size_t len, const char *what, struct err *e)
{
	char is[OCI_DIGEST_MAX];
	int r = make(is_sha512(digest), data, len, is, e);

	if (r == 0 && strcmp(is, digest) != 0) {
		r = err_set(e, -ENOKEY,
			"%s: the bytes do not match their digest: they are %.19s..., not %.19s...",
			what, is, digest);
	}
	return r;
}
