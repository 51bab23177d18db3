/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression of single clusters. Decompressors keep state and working memory, so they are kept
 * in a pool: a thread takes one, uses it alone, and gives it back.
 */
#ifndef FORMATS_CODEC_H
#define FORMATS_CODEC_H

#include <stddef.h>
#include <stdint.h>

enum codec_kind {
	CODEC_DEFLATE, /* RFC 1951, without header or checksum */
	CODEC_ZLIB,    /* RFC 1950; the checksum is verified */
	CODEC_ZSTD,    /* RFC 8878 */
};

struct codec;
struct codec_decoder;

/* -ENOMEM or 0. */
int codec_new(enum codec_kind kind, size_t cluster_size, struct codec **ret);

/* All decoders were given back. NULL is nothing. */
void codec_free(struct codec *c);

/* Thread-safe, as is giving back. NULL: out of memory. Waits while so many are in use that their
 * buffers would take too much of it; who holds one must not wait for who wants one. */
struct codec_decoder *codec_take(struct codec *c);
void codec_give(struct codec *c, struct codec_decoder *d);

/* A buffer of at least @n bytes for compressed input that lives as long as the decoder is taken and
 * until the next call; NULL: out of memory. */
uint8_t *codec_decoder_room(struct codec_decoder *d, size_t n);

/* Decompresses the stream that begins at @in and ends somewhere within @len bytes to one whole
 * cluster at @out. A longer stream is cut there, but of kind ZLIB refused; one that has at least
 * @need bytes is filled up with zeros; -EBADMSG when it is shorter or broken. */
int codec_decoder_run(
	struct codec_decoder *d, const uint8_t *in, size_t len, uint8_t *out, size_t need);

#endif
