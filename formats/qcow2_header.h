/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first cluster of a qcow2 image: header, header extensions, backing file name. Everything is
 * validated here, once, so that the rest of the reader computes with numbers that cannot overflow.
 * Source of all rules: QEMU, docs/interop/qcow2.txt, "Header" and "Header extensions".
 */
#ifndef FORMATS_QCOW2_HEADER_H
#define FORMATS_QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* A first reading of so many bytes nearly always holds all of it. */
#define QCOW2_HEAD 65536U

#define QCOW2_NAME_MAX         1023U
#define QCOW2_MIN_CLUSTER_BITS 9U
#define QCOW2_MAX_CLUSTER_BITS 21U

enum qcow2_compression {
	QCOW2_ZLIB, /* raw deflate, without header or checksum */
	QCOW2_ZSTD,
};

struct qcow2_header {
	uint32_t version; /* 2 or 3 */
	uint32_t cluster_bits;
	uint64_t size;       /* of the guest's disk; at most INT64_MAX less one cluster */
	uint64_t l1_offset;  /* aligned to clusters; the needed part of the table is in the file */
	uint64_t l1_entries; /* needed for `size`; the table in the file may have more */
	bool extended_l2;
	bool dirty;   /* refcounts may be wrong; no matter for reading */
	bool corrupt; /* the writer noticed inconsistencies */
	enum qcow2_compression compression;
	char backing[QCOW2_NAME_MAX + 1]; /* empty: none */
	char backing_format[16];          /* empty: not named */
};

/*
 * Parses the first @len bytes of a file of @file_size. Returns 0 and fills *ret; or, when the
 * header reaches further than @len, how many bytes it needs (at most 2 MiB and at most @file_size);
 * or -EBADMSG (breaks the rules) or -ENOTSUP (a feature we refuse, named).
 */
int qcow2_header_parse(const uint8_t *buf, size_t len, uint64_t file_size, struct qcow2_header *ret,
	struct err *e);

/* For messages: @name without what may be secret in it (user info and query of a URL, the inside of
 * a json: description), as one line of valid UTF-8. *ret is NUL-terminated, cut to @room. */
void qcow2_header_safe_name(const char *name, char *ret, size_t room);

#endif
