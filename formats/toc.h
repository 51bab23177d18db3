/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of contents of a layer that was compressed in pieces, so that any piece can be had
 * alone: JSON, {"version":1,"entries":[{"name","type","size","offset",...}]}. This file knows what
 * it says; toc_find.h where it is. Sources of the rules: stargz-snapshotter, docs/estargz.md; for
 * zstd:chunked the same with "endOffset" and "chunkType", as containers/storage writes it.
 */
#ifndef FORMATS_TOC_H
#define FORMATS_TOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/err.h"
#include "formats/tree.h"

/* What is decoded at once is no larger, and neither is what it is stored as. */
#define TOC_CHUNK_MAX MIB(64)

#define TOC_DIGEST 32U

/* A run of a file's bytes that was compressed as one. */
struct toc_chunk {
	uint64_t offset; /* in the file */
	uint64_t size;   /* never 0 */
	uint64_t host;   /* where its stream begins in the layer; UINT64_MAX: it is all zeros */
	uint64_t inner;  /* so many bytes of what the stream decodes to come before it */
	uint64_t stored; /* the stream is no longer than that, and within the layer */
	uint8_t digest[TOC_DIGEST]; /* SHA-256 of its bytes; not of zeros */
};

struct toc_file {
	uint64_t size;
	size_t first; /* chunk */
	size_t count; /* of chunks, which tile the file */
};

struct toc_entry {
	enum tree_kind kind;
	size_t name; /* where it begins in `text` */
	size_t link; /* likewise, of SYMLINK and HARDLINK */
	size_t file; /* of FILE: the index in `files` */
};

struct toc {
	struct toc_entry *entries;
	size_t entry_count;
	struct toc_file *files;
	size_t file_count;
	struct toc_chunk *chunks;
	size_t chunk_count;
	char *text;
	char id[2 * TOC_DIGEST + 1]; /* names the table: its digest in hex; toc_find()'s */

	/* toc.c's */
	size_t entry_room, file_room, chunk_room, text_len, text_room;
};

/* Parses @len bytes of JSON about a layer whose compressed data ends at @data_end. -EBADMSG: it
 * cannot be true; -ENOTSUP: it lacks what is needed (a digest for each chunk, chunks of bounded
 * size); -ENOMEM. @ret is to be cleared after success. */
int toc_parse(const char *json, size_t len, uint64_t data_end, struct toc *ret, struct err *e);

void toc_clear(struct toc *t);

/* "sha256:HEX" -> bytes; false: it is no such thing. */
bool toc_digest(const char *text, uint8_t ret[TOC_DIGEST]);

#endif
