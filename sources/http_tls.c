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
#include <openssl/ssl.h>
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
static void add_system(X509_STORE *store)
{
	CURL *easy = curl_easy_init();
	char *path = NULL;

	if (easy) {
		curl_easy_getinfo(easy, CURLINFO_CAINFO, &path);
		if (path) {
			X509_STORE_load_file(store, path);
			ERR_clear_error();
		}
		curl_easy_cleanup(easy);
	}
}

static int add_extra(X509_STORE *store, const char *pem, size_t len, struct err *e)
{
	CLEANUP(cleanup_bio) BIO *in = BIO_new_mem_buf(pem, (int)len);
	X509 *cert;
	int ok = in != NULL;

	while (ok && (cert = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		ok = X509_STORE_add_cert(store, cert);
		X509_free(cert);
	}
	ERR_clear_error();
	return ok ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* With the flags that curl gives to stores of its own. */
static int make_store(struct http_trust *t, struct err *e)
{
	t->store = X509_STORE_new();
	if (!t->store) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	X509_STORE_set_flags(t->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	add_system(t->store);
	return add_extra(t->store, t->extra, t->extra_len, e);
}

static int take_extra(struct http_trust *t, BIO *pem, struct err *e)
{
	char *data = NULL;
	long len = BIO_get_mem_data(pem, &data);

	if (len <= 0) {
		return 0;
	}
	t->extra = malloc((size_t)len);
	if (!t->extra) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(t->extra, data, (size_t)len);
	t->extra_len = (size_t)len;
	return make_store(t, e);
}

int http_trust_init(struct http_trust *t, const char *cacert, const char *cert_dir,
	const char *ca_pem, struct err *e)
{
	CLEANUP(cleanup_bio) BIO *pem = BIO_new(BIO_s_mem());
	int r = pem ? 0 : err_set(e, -ENOMEM, "out of memory");

	*t = (struct http_trust){ 0 };
	if (r == 0 && cacert) {
		r = add_cacert(cacert, pem, e);
	}
	if (r == 0 && cert_dir) {
		r = add_dir(cert_dir, pem, e);
	}
	if (r == 0 && ca_pem && copy_certificates(ca_pem, strlen(ca_pem), pem) == 0) {
		r = err_set(e, -EINVAL, "the authorities given hold no PEM certificate");
	}
	return r < 0 ? r : take_extra(t, pem, e);
}

int http_trust_copy(const struct http_trust *t, struct http_trust *ret)
{
	*ret = (struct http_trust){ 0 };
	if (!t->store) {
		return 0;
	}
	ret->extra = malloc(t->extra_len);
	if (!ret->extra) {
		return -ENOMEM;
	}
	memcpy(ret->extra, t->extra, t->extra_len);
	ret->extra_len = t->extra_len;
	X509_STORE_up_ref(t->store);
	ret->store = t->store;
	return 0;
}

void http_trust_clear(struct http_trust *t)
{
	X509_STORE_free(t->store);
	free(t->extra);
	*t = (struct http_trust){ 0 };
}

static CURLcode use_store(CURL *easy, void *ssl_ctx, void *store)
{
	(void)easy;
	SSL_CTX_set1_cert_store(ssl_ctx, store);
	return CURLE_OK;
}

/* curl is given the extra authorities alone, and then the store with all of them. */
void http_trust_apply(const struct http_trust *t, CURL *easy)
{
	struct curl_blob extra = { t->extra, t->extra_len, CURL_BLOB_NOCOPY };

	if (t->store) {
		curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &extra);
		curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO_BLOB, &extra);
		curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, t->store);
		curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, use_store);
	}
}
