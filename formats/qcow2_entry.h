/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one entry of an L1 or L2 table says. Pure arithmetic on words that were read from the file
 * and are not trusted. Source of the rules: QEMU, docs/interop/qcow2.txt, "Cluster mapping",
 * "Extended L2 entries"; where programs in the field are laxer than the text, QEMU 7.2's behaviour.
 */
#ifndef FORMATS_QCOW2_ENTRY_H
#define FORMATS_QCOW2_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/extent.h"
#include "formats/mapped.h"
#include "formats/qcow2_header.h"

/* Numbers that follow from the header. */
struct qcow2_geometry {
	uint32_t version;
	uint32_t cluster_bits;
	uint32_t entry_bits;      /* log2 of the size of an L2 entry: 3, or 4 when extended */
	uint32_t l2_bits;         /* log2 of the entries of an L2 table */
	uint32_t subcluster_bits; /* log2 of the size of a subcluster; cluster_bits if none */
	uint64_t cluster_size;
	uint64_t host_size; /* of the file */
	uint64_t l1_offset;
	uint64_t l1_bytes; /* of the part in use */
};

void qcow2_geometry_init(
	struct qcow2_geometry *g, const struct qcow2_header *h, uint64_t host_size);

/* A part of one cluster that is all of one kind. */
struct qcow2_piece {
	enum run_kind kind;
	uint64_t length; /* from the asked place to the end of the part */

	/* DATA: of the asked byte. ZERO and UNALLOCATED: the same where space is reserved, else
	 * EXTENT_NO_HOST. COMPRESSED: where the stream begins. */
	uint64_t host;
	uint64_t host_length; /* COMPRESSED: the stream is no longer than that, and within the file
			       */
	bool odd;             /* reserved bits are set, which is ignored */
};

/* The L2 table that an L1 entry points to; 0: none. -EBADMSG: unaligned, beyond the end of the
 * file, or on the L1 table. */
int qcow2_entry_l1(const struct qcow2_geometry *g, uint64_t entry, uint64_t *ret_l2, struct err *e);

/* Where the L2 table that an L1 entry points to ends, or the stream of a compressed L2 entry, when
 * it begins beyond the end of the file; else 0. */
uint64_t qcow2_entry_l1_beyond(const struct qcow2_geometry *g, uint64_t entry);
uint64_t qcow2_entry_l2_beyond(const struct qcow2_geometry *g, uint64_t entry);

/* What is at @in_cluster of the cluster with L2 entry @entry and, if L2 entries are extended,
 * subcluster bitmap @bitmap. -EBADMSG: the entry cannot be true. That DATA lies within the file is
 * for the caller to check: the last cluster may be cut behind the last byte that counts. */
int qcow2_entry_l2(const struct qcow2_geometry *g, uint64_t entry, uint64_t bitmap,
	uint64_t in_cluster, struct qcow2_piece *ret, struct err *e);

#endif
