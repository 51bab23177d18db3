/* SPDX-License-Identifier: Apache-2.0 */
/* Hashing in order what is read out of order. */
#include "sources/digest.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/image.h"
#include "sources/source.h"

/* What came early and is kept. Beyond the first, somebody fetches what is missing before it; beyond
 * the second, it is forgotten and fetched again in its turn. */
#define EARLY_MUCH MIB(8)
#define EARLY_MOST MIB(24)
/* What is read at a time where nobody else reads. */
#define PIECE       MIB(1)
#define FETCH_PIECE MIB(4)
#define FETCH_AHEAD MIB(16)

/* Bytes of [off, off + len) that wait for those before them. */
struct early {
	struct early *next; /* by offset */
	uint64_t off;
	size_t len;
	uint8_t data[];
};

struct digest {
	struct image img;
	struct digest_want want;
	pthread_mutex_t lock; /* protects what follows */
	EVP_MD_CTX *hash;
	uint64_t hashed; /* bytes from 0 on */
	struct early *early;
	uint64_t early_bytes;
	bool broken; /* the hash failed */

	pthread_cond_t stuck; /* the helper shall look */
	bool ending;
	pthread_t helper; /* fetches what nobody reads */
	bool has_helper;
};

static struct digest *digest_of(struct image *img)
{
	return (struct digest *)img;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_parse(const char *text, struct digest_want *ret, struct err *e)
{
	static const struct {
		const char *name;
		const char *algorithm;
		size_t length;
	} known[] = {
		{ "sha256", "SHA256", 32 },
		{ "sha512", "SHA512", 64 },
		{ "sha1", "SHA1", 20 },
		{ "md5", "MD5", 16 },
	};
	size_t name = strcspn(text, ":");
	const char *hex = text + name + (text[name] == ':');
	struct digest_want want = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strlen(known[i].name) == name && strncasecmp(text, known[i].name, name) == 0) {
			want.algorithm = known[i].algorithm;
			want.length = known[i].length;
		}
	}
	if (!want.algorithm || text[name] != ':') {
		return err_set(e, -EINVAL,
			"'%.80s' does not begin with sha256:, sha512:, sha1: or md5:", text);
	}
	if (strlen(hex) != 2 * want.length) {
		return err_set(e, -EINVAL, "%.*s: there are %zu digits, not %zu", (int)name, text,
			strlen(hex), 2 * want.length);
	}
	for (size_t i = 0; i < want.length; i++) {
		int hi = hex_value(hex[2 * i]);
		int lo = hex_value(hex[2 * i + 1]);

		if (hi < 0 || lo < 0) {
			return err_set(
				e, -EINVAL, "'%s' has a digit that is not hexadecimal", text);
		}
		want.value[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret = want;
	return 0;
}

int source_digest_check(const char *checksum, struct err *e)
{
	struct digest_want want;

	return digest_parse(checksum, &want, e);
}

/* The lock is held by the caller of all these. */

/* Bytes that begin at or before what is next and end behind it. */
static void hash(struct digest *d, const uint8_t *buf, uint64_t off, size_t len)
{
	size_t known = d->hashed - off;

	if (EVP_DigestUpdate(d->hash, buf + known, len - known) != 1) {
		d->broken = true;
	}
	d->hashed = off + len;
}

/* Hashes what has been waiting for its turn. */
static void catch_up(struct digest *d)
{
	while (d->early && d->early->off <= d->hashed) {
		struct early *first = d->early;

		if (first->off + first->len > d->hashed) {
			hash(d, first->data, first->off, first->len);
		}
		d->early = first->next;
		d->early_bytes -= first->len;
		free(first);
	}
}

/* Keeps a copy for later, if there is room. */
static void keep(struct digest *d, const uint8_t *buf, uint64_t off, size_t len)
{
	struct early **link = &d->early;
	struct early *piece;

	if (d->early_bytes + len > EARLY_MOST) {
		return;
	}
	while (*link && (*link)->off < off) {
		link = &(*link)->next;
	}
	if (*link && (*link)->off == off && (*link)->len >= len) {
		return;
	}
	piece = malloc(sizeof(*piece) + len);
	if (!piece) {
		return;
	}
	piece->off = off;
	piece->len = len;
	memcpy(piece->data, buf, len);
	piece->next = *link;
	*link = piece;
	d->early_bytes += len;
	if (d->early_bytes > EARLY_MUCH) {
		pthread_cond_signal(&d->stuck);
	}
}

/* --- */

static void note(struct digest *d, const uint8_t *buf, uint64_t off, size_t len)
{
	LOCK_SCOPE(&d->lock);

	if (off + len <= d->hashed) {
		return;
	}
	if (off <= d->hashed) {
		hash(d, buf, off, len);
		catch_up(d);
	} else {
		keep(d, buf, off, len);
	}
}

/* What lies between the hash and what came early. False: nothing does. */
static bool missing(const struct digest *d, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t end = d->early ? d->early->off : d->img.size;

	*ret_off = d->hashed;
	*ret_len = end - d->hashed;
	return end > d->hashed;
}

static int digest_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	int r = image_read_at(img->below, buf, len, off, e);

	if (r == 0) {
		note(digest_of(img), buf, off, len);
	}
	return r;
}

struct passing {
	struct digest *digest;
	image_sink_fn *sink; /* NULL: nobody else wants it */
	void *ctx;
};

static int pass(void *ctx, uint64_t off, const void *buf, size_t n)
{
	struct passing *p = ctx;

	note(p->digest, buf, off, n);
	return p->sink ? p->sink(p->ctx, off, buf, n) : 0;
}

static int digest_stream_at(struct image *img, uint64_t off, uint64_t len, image_sink_fn *sink,
	void *ctx, struct err *e)
{
	struct passing p = { digest_of(img), sink, ctx };

	return image_stream_at(img->below, off, len, pass, &p, e);
}

static int digest_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	int r = image_extent_at(img->below, off, ret, e);

	if (r == 0) {
		ret->host = ret->zero ? EXTENT_NO_HOST : ret->offset;
	}
	return r;
}

static void digest_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	image_prefetch(img->below, off, len);
}

static void digest_distrust(struct image *img, uint64_t off, uint64_t len)
{
	image_distrust(img->below, off, len);
}

static int digest_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	return image_allocated(img->below, ret, e);
}

static void digest_interrupt(struct image *img)
{
	struct digest *d = digest_of(img);
	LOCK_SCOPE(&d->lock);

	d->ending = true;
	pthread_cond_signal(&d->stuck);
}

static void digest_free(struct digest *d)
{
	if (d->has_helper) {
		digest_interrupt(&d->img);
		pthread_join(d->helper, NULL);
	}
	while (d->early) {
		struct early *next = d->early->next;

		free(d->early);
		d->early = next;
	}
	EVP_MD_CTX_free(d->hash);
	pthread_cond_destroy(&d->stuck);
	pthread_mutex_destroy(&d->lock);
}

static void digest_destroy(struct image *img)
{
	digest_free(digest_of(img));
	image_fini(img);
	free(img);
}

static const struct image_ops digest_ops = {
	.name = "digest",
	.read_at = digest_read_at,
	.stream_at = digest_stream_at,
	.extent_at = digest_extent_at,
	.prefetch = digest_prefetch,
	.distrust = digest_distrust,
	.allocated = digest_allocated,
	.interrupt = digest_interrupt,
	.destroy = digest_destroy,
};

static bool is_ending(struct digest *d)
{
	LOCK_SCOPE(&d->lock);

	return d->ending;
}

/* Reads what nobody reads, saying ahead what comes: the image below may be a cache, which fetches
 * nothing by itself. */
static int fetch(struct digest *d, uint64_t off, uint64_t len, struct err *e)
{
	struct passing p = { .digest = d };

	while (len > 0) {
		uint64_t n = min_u64(len, FETCH_PIECE);
		int r;

		if (is_ending(d)) {
			return err_set(e, -ECANCELED, "the image is being closed");
		}
		image_prefetch(d->img.below, off, min_u64(len, FETCH_AHEAD));
		r = image_stream_at(d->img.below, off, n, pass, &p, e);
		if (r < 0) {
			return r;
		}
		off += n;
		len -= n;
	}
	return 0;
}

/* Fetches what nobody reads (parts of a file that its format does not use), before too much of what
 * lies behind it has come. When that fails, the end of the copy tries it again. */
static void *help(void *arg)
{
	struct digest *d = arg;
	bool failed = false;

	pthread_mutex_lock(&d->lock);
	while (!d->ending && !failed) {
		uint64_t off;
		uint64_t len;

		if (d->early_bytes <= EARLY_MUCH || !missing(d, &off, &len)) {
			pthread_cond_wait(&d->stuck, &d->lock);
			continue;
		}
		pthread_mutex_unlock(&d->lock);
		failed = fetch(d, off, len, NULL) < 0;
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static int start(struct digest *d, struct err *e)
{
	const EVP_MD *type = EVP_get_digestbyname(d->want.algorithm);

	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->stuck, NULL);
	d->hash = EVP_MD_CTX_new();
	if (!d->hash) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (!type || EVP_DigestInit_ex(d->hash, type, NULL) != 1) {
		return err_set(
			e, -ENOTSUP, "this machine's OpenSSL does not know %s", d->want.algorithm);
	}
	/* Without it, more is fetched twice in the end. Bytes that come in order need none. */
	d->has_helper = !(d->img.flags & IMAGE_SEQUENTIAL) &&
			pthread_create(&d->helper, NULL, help, d) == 0;
	return 0;
}

int source_digest_open(struct image *below, const char *checksum, struct image **ret, struct err *e)
{
	struct digest *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = digest_parse(checksum, &d->want, e);
	if (r < 0) {
		free(d);
		return r;
	}
	if (image_init(&d->img, &digest_ops, below, below->size, below->id) < 0) {
		free(d);
		return err_set(e, -ENOMEM, "out of memory");
	}
	d->img.block = below->block;
	d->img.flags = below->flags;
	r = start(d, e);
	if (r < 0) {
		digest_free(d);
		free(d->img.id);
		free(d);
		return r;
	}
	*ret = &d->img;
	return 0;
}

static void to_hex(const uint8_t *value, size_t len, char *ret)
{
	for (size_t i = 0; i < len; i++) {
		snprintf(ret + 2 * i, 3, "%02x", value[i]);
	}
}

static int compare(struct digest *d, struct err *e)
{
	char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
	uint8_t value[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (d->broken || EVP_DigestFinal_ex(d->hash, value, &len) != 1) {
		return err_set(e, -EIO, "%s cannot be computed", d->want.algorithm);
	}
	if (len == d->want.length && memcmp(value, d->want.value, len) == 0) {
		return 0;
	}
	to_hex(value, len, hex);
	return err_set(e, -ENOKEY,
		"the checksum does not match: the source has %s %s; it is not the image that was "
		"meant, or it is damaged",
		d->want.algorithm, hex);
}

void source_digest_feed(struct image *img, uint64_t off, const void *buf, size_t len)
{
	note(digest_of(img), buf, off, len);
}

int source_digest_finish(struct image *img, struct err *e)
{
	struct digest *d = digest_of(img);
	uint64_t off;
	uint64_t len;
	bool more;

	do {
		int r = 0;

		pthread_mutex_lock(&d->lock);
		catch_up(d);
		more = missing(d, &off, &len);
		pthread_mutex_unlock(&d->lock);
		if (more) {
			r = fetch(d, off, len, e);
		}
		if (r < 0) {
			return r;
		}
	} while (more);
	LOCK_SCOPE(&d->lock);
	return compare(d, e);
}

static int read_through(struct digest *d, struct image *img, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(PIECE);

	if (!buf) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	while (d->hashed < img->size) {
		size_t len = min_u64(PIECE, img->size - d->hashed);
		int r = image_read_at(img, buf, len, d->hashed, e);

		if (r < 0) {
			return r;
		}
		hash(d, buf, d->hashed, len);
	}
	return compare(d, e);
}

int source_digest_image(struct image *img, const char *checksum, struct err *e)
{
	struct digest d = { 0 };
	const EVP_MD *type;
	int r = digest_parse(checksum, &d.want, e);

	if (r < 0) {
		return r;
	}
	type = EVP_get_digestbyname(d.want.algorithm);
	d.hash = EVP_MD_CTX_new();
	if (!d.hash || !type || EVP_DigestInit_ex(d.hash, type, NULL) != 1) {
		r = err_set(e, -EIO, "%s cannot be computed", d.want.algorithm);
	} else {
		r = read_through(&d, img, e);
	}
	EVP_MD_CTX_free(d.hash);
	return r;
}

bool source_sha256(const void *buf, size_t len, uint8_t ret[32])
{
	uint8_t value[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	if (EVP_Digest(buf, len, value, &n, EVP_sha256(), NULL) != 1 || n != 32) {
		return false;
	}
	memcpy(ret, value, 32);
	return true;
}
