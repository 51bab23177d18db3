/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression of single clusters. Decompressors keep state and working memory, so they are kept
 * in a pool: a thread takes one, uses it alone, and gives it back.
 */
#ifndef FORMATS_QCOW2_DECODE_H
#define FORMATS_QCOW2_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "formats/qcow2_header.h"

struct qcow2_codec;
struct qcow2_decoder;

/* -ENOMEM or 0. */
int qcow2_codec_new(
	enum qcow2_compression compression, size_t cluster_size, struct qcow2_codec **ret);

/* All decoders were given back. NULL is nothing. */
void qcow2_codec_free(struct qcow2_codec *c);

/* Thread-safe, as is giving back. NULL: out of memory. Waits while so many are in use that their
 * buffers would take too much of it; who holds one must not wait for who wants one. */
struct qcow2_decoder *qcow2_codec_take(struct qcow2_codec *c);
void qcow2_codec_give(struct qcow2_codec *c, struct qcow2_decoder *d);

/* A buffer of at least @n bytes for compressed input that lives as long as the decoder is taken and
 * until the next call; NULL: out of memory. */
uint8_t *qcow2_decoder_room(struct qcow2_decoder *d, size_t n);

/* Decompresses the stream that begins at @in and ends somewhere within @len bytes to one whole
 * cluster at @out. A longer stream is cut there; -EBADMSG when it is shorter or broken. */
int qcow2_decoder_run(struct qcow2_decoder *d, const uint8_t *in, size_t len, uint8_t *out);

#endif
