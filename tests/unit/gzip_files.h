/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip files of every kind, made with zlib of bytes that are known, and the checks that all tests
 * of the decoder need.
 */
#ifndef TESTS_UNIT_GZIP_FILES_H
#define TESTS_UNIT_GZIP_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/image.h"
#include "tests/unit/fake_blobs.h"
#include "tests/unit/fake_image.h"

/* What the large files hold. */
#define GZF_PLAIN MIB(13)

uint64_t gzf_random(uint64_t *state);

/* Text, zeros and noise in turn, so that blocks and ratios differ. malloc()ed. */
uint8_t *gzf_plain(size_t n, uint64_t seed);

struct gz {
	uint8_t *p;
	size_t n;
	size_t room;
};

struct member {
	int level;
	int strategy;
	size_t flush; /* a full flush after so many bytes, as pigz -i makes; 0: none */
	bool fields;  /* name, comment, extra, CRC */
};

enum kind {
	SINGLE,
	MEMBERS,
	BGZF,
	FLUSHED,
	STORED,
	HUFFMAN,
	FIXED,
	PADDED,
	KINDS,
};

extern const char *const gzf_kind_names[KINDS];

void gzf_bytes(struct gz *z, const void *p, size_t n);
void gzf_member(struct gz *z, const uint8_t *p, size_t n, struct member m);
void gzf_bgzf(struct gz *z, const uint8_t *p, size_t n);

/* @p of @n bytes as a file of that kind. */
struct gz gzf_make(enum kind kind, const uint8_t *p, size_t n);

/* For test groups: the large ones, made once. */
extern uint8_t *gzf_big_plain;
extern struct gz gzf_big[KINDS];
int gzf_setup(void **state);
int gzf_teardown(void **state);

int gzf_try_open(const struct gz *z, const char *id, struct blobs *blobs, struct image **ret,
	struct fake_image **ret_fake);

/* The same, and it must succeed. */
struct image *gzf_open(const struct gz *z, struct blobs *blobs, struct fake_image **ret_fake);

/* Compares a stream with the plain bytes. */
struct checker {
	const uint8_t *plain;
	size_t len;
	uint64_t next;
	uint64_t stop_at; /* 0: never */
	bool wrong;
};

int gzf_sink(void *ctx, uint64_t off, const void *buf, size_t n);

void gzf_stream_all(struct image *img, const uint8_t *plain, size_t n);
void gzf_check_read(struct image *img, const uint8_t *plain, uint64_t off, size_t n);

/* The units tile the image; each one by itself holds what it should. */
void gzf_check_units(struct image *img, const uint8_t *plain, size_t n);

/* Seek points that are known. */
uint64_t gzf_points(struct image *img);

#endif
