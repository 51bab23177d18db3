/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where bytes come from: a SOURCE as a user writes it becomes an image.
 *
 *   https://...  http://...        sources/http.c
 *   /path  ./path  file://...      sources/file.c
 *
 * or an image in the sense of registries, whose blobs become images:
 *
 *   docker://[host[:port]/]repo[:tag][@digest]
 *   oci:DIR[:tag]  oci-archive:FILE[:tag]  docker-archive:FILE[:repo:tag]
 *
 * One row a scheme in source.c. struct net is what all remote sources of a process share: the
 * thread that drives the transfers, its connections, DNS and TLS sessions.
 */
#ifndef SOURCES_SOURCE_H
#define SOURCES_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/blobs.h"
#include "core/err.h"
#include "core/image.h"

struct net;

/* How to reach one source. All strings are borrowed for the call that takes the struct; what must
 * live longer is copied. NULL or 0 means the default. */
struct source_opts {
	const char *cacert;      /* PEM file, in addition to the system's authorities */
	const char *cert_dir;    /* directory of PEM files, any name (a mounted ConfigMap) */
	const char *ca_pem;      /* authorities as text (PEM), in addition, too */
	const char *client_cert; /* PEM */
	const char *client_key;  /* PEM; may be NULL when the certificate file holds it too */
	bool insecure;           /* accept any certificate */
	const char *user;
	const char *password;
	const char *const *
		headers; /* NULL-terminated, each "Name: value"; sent to the source's origin only */
	const char *proxy;      /* URL; else HTTP_PROXY, HTTPS_PROXY, NO_PROXY as curl reads them */
	unsigned int timeout_s; /* total time a read may take, retries included; default 60 */
	unsigned int tries; /* of one transfer at most, in a row without progress; 0: as many as fit
			       the time */
	bool retry_hard;    /* never give up on what may pass: for VMs, which cannot stand EIO */

	/* The id of a version that is known from an earlier open (in a cache). When the source
	 * cannot be asked (network down, 5xx, 429, timeouts) source_open() then succeeds with that
	 * id and size, unconfirmed, without waiting longer than a few seconds. */
	const char *expected_id;
	uint64_t expected_size;

	/* of images only, see below */
	const char *platform; /* "os/arch[/variant]" or "arch"; NULL: this machine's */
	const char *authfile; /* credentials as docker login and podman login write them; a file or
				 a directory (a mounted Secret). NULL: where those keep them */
	const char *docker_config; /* the same as text, of a Secret; NULL: none */
	const char *login_from;    /* where user or docker_config came from, for messages */
	const struct source_archive *archive; /* must outlive the image */
	const struct source_records *records; /* likewise; NULL: nothing is remembered */
};

/* How to look into a tar file; who composes the layers knows. */
struct source_archive {
	/* The file @member of the tar file @path as an image; links in the archive are followed.
	 * -ENOENT: there is no such member. */
	int (*open)(
		void *ctx, const char *path, const char *member, struct image **ret, struct err *e);
	void *ctx;
};

/* Small records that outlive the process: what is known of images, so that one that is cached opens
 * without asking much, or without anybody who answers. They need not be kept for ever, and are not
 * trusted. @key is one line of text. */
struct source_records {
	/* *ret is malloc()ed. -ENOENT: there is none. */
	int (*get)(void *ctx, const char *key, void **ret, size_t *ret_len);
	void (*put)(void *ctx, const char *key, const void *data, size_t len);
	void *ctx;
};

/* @connections: at most so many at once to one host, opened as they are needed; 0: the default
 * (32). Starts a thread: a process that forks does so before. */
int net_new(unsigned int connections, struct net **ret, struct err *e);

/* For a shutdown that waits for nobody: all that blocks on the network, now and later, fails with
 * -ECANCELED at once. */
void net_stop(struct net *net);

/* All images on it are closed before. NULL is nothing. */
void net_free(struct net *net);

/* Opens @spec. The image is a root: no `below`. Its id is URL (without user info) + validator.
 * Errors: -ENOENT, -EACCES, -EKEYREJECTED, -ENXIO, -ETIMEDOUT, -EPROTO, -EINVAL (not a SOURCE). The
 * text is one line, names the source and says what to do. */
int source_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct image **ret, struct err *e);

/* An image over @below that hashes what is read through it. @checksum: "sha256:HEX", or sha512,
 * sha1, md5, in any case. Takes @below over on success. -EINVAL: no checksum. */
int source_digest_open(
	struct image *below, const char *checksum, struct image **ret, struct err *e);

/* Whether @checksum is one: 0, or -EINVAL with a text. */
int source_digest_check(const char *checksum, struct err *e);

/* Bytes of @img, which source_digest_open() made, that somebody has from elsewhere. */
void source_digest_feed(struct image *img, uint64_t off, const void *buf, size_t len);

/* Nobody reads @img any more, which source_digest_open() made: fetches what was not read, and
 * compares. -ENOKEY: the bytes are not those that the checksum is of. Once. */
int source_digest_finish(struct image *img, struct err *e);

/* Reads all of @img, in order, and compares. -ENOKEY: the bytes are not those that @checksum is of;
 * other errors are those of reading. */
int source_digest_image(struct image *img, const char *checksum, struct err *e);

/* SHA-256 of @len bytes. False: this machine cannot compute it. */
bool source_sha256(const void *buf, size_t len, uint8_t ret[32]);

/*
 * --- images of registries and layouts ---
 *
 * OCI image specification 1.1 (manifest, index, descriptor, layout), distribution specification
 * 1.1, Docker image manifest V2 schema 2. Opening an image reads its manifest, of an index the one
 * for the platform, and pins its digest: what is read later is of these digests, whatever happens
 * to the tag.
 */
struct source_image;

struct source_annotation {
	const char *key;
	const char *value;
};

/* A layer, as the manifest describes it. */
struct source_blob {
	const char *digest;     /* "sha256:HEX" or "sha512:HEX"; "" in a docker-archive without */
	const char *media_type; /* may lie; "" where none is given */
	uint64_t size;
	const struct source_annotation *annotations;
	size_t annotation_count;
};

/* Borrowed from the image. Texts are "" where nothing is known. */
struct source_facts {
	const char *reference; /* to show */
	const char *digest;    /* of the manifest */
	const char *media_type;
	const char *artifact_type;
	const char *config_type; /* the media type of the config */
	const char *platform;    /* "linux/amd64" of the index that it was chosen from */
	const char *account;     /* where the credentials came from, for people */
	const char *warning;     /* what the user should know all the same */
	const char *origin;      /* the registry, and how sure that is; "" of layouts */
	bool unconfirmed; /* the registry does not answer; this is what was there the last time */
	const struct source_blob *layers; /* base first */
	size_t layer_count;
};

bool source_is_image(const char *spec);

/* @spec is an image. Errors as source_open(), and -EBADMSG: a manifest that is none; -ENOTSUP: one
 * of a kind that is refused; -ENOKEY: a digest does not match. -ENOENT also when there is none for
 * the platform; the text names those that there are. */
int source_image_open(struct net *net, const char *spec, const struct source_opts *opts,
	struct source_image **ret, struct err *e);

/* Calls @fn for all that @records know of the image @spec of a registry: keys of records, and
 * digests of layers. Stops at a negative return and returns it. -ENOENT: nothing is known. */
typedef int source_known_fn(void *ctx, const char *key, bool record);
int source_image_known(const struct source_records *records, const char *spec, source_known_fn *fn,
	void *ctx, struct err *e);

const struct source_facts *source_image_facts(const struct source_image *s);

/* NULL: there is no such annotation. */
const char *source_blob_annotation(const struct source_blob *b, const char *key);

/* The label @name of the image's config, which is read when first asked for; *ret is malloc()ed,
 * NULL when there is none. */
int source_image_label(struct source_image *s, const char *name, char **ret, struct err *e);

/* How much of a blob is in a cache. */
enum source_here {
	SOURCE_HERE_NONE,
	SOURCE_HERE_SOME, /* nobody needs to be asked before a byte is missing, if there are ranges
			   */
	SOURCE_HERE_ALL,  /* or if nothing is going to be missing */
};

/* The bytes of layer @layer. The image's id is @id; NULL: the digest, or in a local layout or
 * archive what tells the file from others. What has been verified is the same wherever it comes
 * from; before that, the digest is only what somebody says that the bytes have, so that a cache
 * must not give them to who asked another one. The image may outlive
 * @s. The size is the descriptor's; a blob of another one is -EBADMSG. */
int source_image_blob_open(struct source_image *s, size_t layer, const char *id,
	enum source_here here, struct image **ret, struct err *e);

/* An image over @below, a cache over a blob, that computes the blob's @digest when all of it is
 * here (by the report of @below, present_bytes), on a thread of its own, and says so in its report:
 * "verified". Bytes that are others are not handed out any more: reads fail with -ENOKEY. @blobs
 * (NULL: none; outlives the image) remembers the verdict. What was verified counts until a byte of
 * it is fetched again. Takes @below over on success. */
int source_watch_open(struct image *below, const char *digest, struct blobs *blobs,
	struct image **ret, struct err *e);

/* 0, or why nothing of @checked is to be handed out. */
typedef int source_check_fn(struct image *checked, struct err *e);

/* An image over @disk, which is made of such an image with caches of what was decoded in between:
 * nor are they handed out when the blob is not what it should be. With @check, which is called
 * before each read, it is made of @checked. Takes @disk over on success. */
int source_guard_open(struct image *disk, source_check_fn *check, struct image *checked,
	struct image **ret, struct err *e);

enum source_verdict {
	SOURCE_UNVERIFIED,
	SOURCE_VERIFIED, /* all of it is here, and is what @digest says */
	SOURCE_WRONG,
};

/* What @blobs remember of @image, such a cache. What does not hold any more they forget. */
enum source_verdict source_verdict_recall(
	struct image *image, const char *digest, struct blobs *blobs);

/* NULL is nothing. */
void source_image_close(struct source_image *s);

/* Whether the bytes of @spec come over the network. */
bool source_is_remote(const char *spec);

/* The name under which versions of @spec are cached: scheme, host, port, path and query without
 * user info, fragment and the parameters of signed URLs. malloc()ed. */
int source_key(const char *spec, char **ret, struct err *e);

/* The last part of @spec without query and suffixes of formats and compressions: "debian-12" for
 * https://host/debian-12.qcow2?x=y. malloc()ed; never empty, never with a slash. */
int source_name(const char *spec, char **ret, struct err *e);

/* Resolves @name (relative, no scheme, no "..", not absolute) against @spec's own prefix:
 * "https://h/d/a.qcow2" + "b.raw" gives "https://h/d/b.raw". -EINVAL for anything else. malloc()ed.
 */
int source_sibling(const char *spec, const char *name, char **ret, struct err *e);

#endif
