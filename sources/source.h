/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where bytes come from: a SOURCE as a user writes it becomes an image.
 *
 *   https://...  http://...        sources/http.c
 *   /path  ./path  file://...      sources/file.c
 *
 * One row a scheme in source.c. struct net is what all remote sources of a process share: the
 * thread that drives the transfers, its connections, DNS and TLS sessions.
 */
#ifndef SOURCES_SOURCE_H
#define SOURCES_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
