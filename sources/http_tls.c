/* SPDX-License-Identifier: Apache-2.0 */
/* Collects PEM certificates. They are parsed and written anew, because curl refuses a bundle in
 * which any one certificate is broken. */
#include "sources/http_tls.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/rw.h"

#define PEM_MAX MIB(4)

static void cleanup_bio(BIO **b)
{
	BIO_free(*b);
}

static void cleanup_dir(DIR **d)
{
	if (*d) {
		closedir(*d);
	}
}

/* Appends the certificates in @pem to @out; returns how many. */
static int copy_certificates(const char *pem, size_t len, BIO *out)
{
	CLEANUP(cleanup_bio) BIO *in = BIO_new_mem_buf(pem, (int)min_u64(len, INT_MAX));
	X509 *cert;
	int count = 0;

	while (in && (cert = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		count += PEM_write_bio_X509(out, cert) == 1;
		X509_free(cert);
	}
	ERR_clear_error();
	return count;
}

static int add_cacert(const char *path, BIO *out, struct err *e)
{
	CLEANUP_FREE char *pem = NULL;
	size_t len;
	int r = rw_read_file(path, PEM_MAX, &pem, &len, e);

	if (r < 0) {
		return err_wrap(e, -EINVAL, "--cacert");
	}
	if (copy_certificates(pem, len, out) == 0) {
		return err_set(e, -EINVAL, "--cacert %s: holds no PEM certificate", path);
	}
	return 0;
}

/* One entry of the directory; symbolic links are followed, as a mounted ConfigMap is made of them.
 */
static void add_entry(int dir, const char *name, BIO *out)
{
	CLEANUP_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP_FREE char *pem = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
		(uint64_t)st.st_size > PEM_MAX) {
		return;
	}
	pem = malloc((size_t)st.st_size);
	if (pem && rw_pread(fd, pem, (size_t)st.st_size, 0) == 0) {
		copy_certificates(pem, (size_t)st.st_size, out);
	}
}

static int add_dir(const char *path, BIO *out, struct err *e)
{
	CLEANUP(cleanup_dir) DIR *dir = opendir(path);
	const struct dirent *entry;

	if (!dir) {
		err_sys(e, errno, "--cert-dir %s", path);
		return e ? (e->code = -EINVAL) : -EINVAL;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.') {
			add_entry(dirfd(dir), entry->d_name, out);
		}
	}
	return 0;
}

/* Where this libcurl finds the system's authorities; no such file is no error. */
static void add_system(BIO *out)
{
	CURL *easy = curl_easy_init();
	CLEANUP_FREE char *pem = NULL;
	char *path = NULL;
	size_t len;

	if (easy) {
		curl_easy_getinfo(easy, CURLINFO_CAINFO, &path);
		if (path && rw_read_file(path, PEM_MAX, &pem, &len, NULL) == 0) {
			BIO_write(out, pem, (int)len);
			BIO_write(out, "\n", 1);
		}
		curl_easy_cleanup(easy);
	}
}

int http_tls_bundle(
	const char *cacert, const char *cert_dir, char **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(cleanup_bio) BIO *out = BIO_new(BIO_s_mem());
	char *data;
	char *copy;
	long len;
	int r = out ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (r == 0) {
		add_system(out);
	}
	if (r == 0 && cacert) {
		r = add_cacert(cacert, out, e);
	}
	if (r == 0 && cert_dir) {
		r = add_dir(cert_dir, out, e);
	}
	if (r < 0) {
		return r;
	}
	len = BIO_get_mem_data(out, &data);
	copy = malloc((size_t)len + 1);
	if (!copy) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(copy, data, (size_t)len);
	copy[len] = '\0';
	*ret = copy;
	*ret_len = (size_t)len;
	return 0;
}
