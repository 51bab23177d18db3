/* SPDX-License-Identifier: Apache-2.0 */
/* Decodes entries of L1 and L2 tables. */
#include "formats/qcow2_entry.h"

#include <errno.h>
#include <inttypes.h>

#include "core/bytes.h"

#define OFFSET_MASK     0x00fffffffffffe00ULL
#define L2_RESERVED     0x3f000000000001feULL
#define FLAG_COPIED     (1ULL << 63)
#define FLAG_COMPRESSED (1ULL << 62)
#define FLAG_ZERO       (1ULL << 0)
#define SUBCLUSTERS     32U

void qcow2_geometry_init(struct qcow2_geometry *g, const struct qcow2_header *h, uint64_t host_size)
{
	*g = (struct qcow2_geometry){
		.version = h->version,
		.cluster_bits = h->cluster_bits,
		.entry_bits = h->extended_l2 ? 4 : 3,
		.l2_bits = h->cluster_bits - (h->extended_l2 ? 4 : 3),
		.subcluster_bits = h->cluster_bits - (h->extended_l2 ? 5 : 0),
		.cluster_size = 1ULL << h->cluster_bits,
		.host_size = host_size,
		.l1_offset = h->l1_offset,
		.l1_bytes = h->l1_entries * 8,
	};
}

int qcow2_entry_l1(const struct qcow2_geometry *g, uint64_t entry, uint64_t *ret_l2, struct err *e)
{
	uint64_t l2 = entry & OFFSET_MASK;

	if (l2 & (g->cluster_size - 1)) {
		return err_set(e, -EBADMSG, "L2 table at unaligned offset %" PRIu64, l2);
	}
	if (l2 >= g->host_size) {
		return err_set(e, -EBADMSG,
			"L2 table at offset %" PRIu64 ", beyond the end of the file (%" PRIu64
			" bytes)",
			l2, g->host_size);
	}
	if (l2 && l2 < g->l1_offset + g->l1_bytes && g->l1_offset < l2 + g->cluster_size) {
		return err_set(
			e, -EBADMSG, "L2 table at offset %" PRIu64 " overlaps the L1 table", l2);
	}
	*ret_l2 = l2;
	return 0;
}

uint64_t qcow2_entry_l1_beyond(const struct qcow2_geometry *g, uint64_t entry)
{
	uint64_t l2 = entry & OFFSET_MASK;

	return l2 >= g->host_size && l2 % g->cluster_size == 0 ? l2 + g->cluster_size : 0;
}

/* "Compressed Clusters Descriptor": the offset's width depends on the size of clusters. */
static void split_compressed(
	const struct qcow2_geometry *g, uint64_t entry, uint64_t *ret_host, uint64_t *ret_length)
{
	uint32_t width = 62 - (g->cluster_bits - 8);
	uint64_t sectors = (entry & (FLAG_COMPRESSED - 1)) >> width;

	*ret_host = entry & ((1ULL << width) - 1);
	*ret_length = (sectors + 1) * 512 - *ret_host % 512;
}

uint64_t qcow2_entry_l2_beyond(const struct qcow2_geometry *g, uint64_t entry)
{
	uint64_t host;
	uint64_t length;

	split_compressed(g, entry, &host, &length);
	return entry & FLAG_COMPRESSED && host >= g->host_size ? host + length : 0;
}

static int compressed_piece(const struct qcow2_geometry *g, uint64_t entry, uint64_t in_cluster,
	struct qcow2_piece *ret, struct err *e)
{
	uint64_t host;
	uint64_t length;

	split_compressed(g, entry, &host, &length);
	if (host < g->cluster_size) {
		return err_set(e, -EBADMSG,
			"compressed cluster at offset %" PRIu64 ", within the header", host);
	}
	if (host >= g->host_size) {
		return err_set(e, -EBADMSG,
			"compressed cluster at offset %" PRIu64
			", beyond the end of the file (%" PRIu64 " bytes)",
			host, g->host_size);
	}
	if (host >= g->l1_offset && host < g->l1_offset + g->l1_bytes) {
		return err_set(e, -EBADMSG,
			"compressed cluster at offset %" PRIu64 ", within the L1 table", host);
	}
	*ret = (struct qcow2_piece){
		.kind = RUN_COMPRESSED,
		.length = g->cluster_size - in_cluster,
		.host = host,
		.host_length = min_u64(length, g->host_size - host),
		.odd = entry & FLAG_COPIED,
	};
	return 0;
}

/* The bits of one subcluster as a number that is equal for equal kinds. */
static unsigned int subcluster_bits(uint64_t bitmap, unsigned int i)
{
	return (unsigned int)(((bitmap >> i) & 1) | (((bitmap >> (i + 32)) & 1) << 1));
}

static int subcluster_piece(const struct qcow2_geometry *g, uint64_t host, uint64_t bitmap,
	uint64_t in_cluster, struct qcow2_piece *ret, struct err *e)
{
	static const enum run_kind kinds[] = { RUN_UNALLOCATED, RUN_DATA, RUN_ZERO };
	unsigned int first = (unsigned int)(in_cluster >> g->subcluster_bits);
	unsigned int bits = subcluster_bits(bitmap, first);
	unsigned int end = first + 1;

	if ((bitmap & (bitmap >> 32) & UINT32_MAX) != 0) {
		return err_set(e, -EBADMSG,
			"subclusters both allocated and zero (bitmap %016" PRIx64 ")", bitmap);
	}
	if (!host && (bitmap & UINT32_MAX) != 0) {
		return err_set(e, -EBADMSG,
			"subclusters allocated in a cluster that is not (bitmap %016" PRIx64 ")",
			bitmap);
	}
	while (end < SUBCLUSTERS && subcluster_bits(bitmap, end) == bits) {
		end++;
	}
	*ret = (struct qcow2_piece){
		.kind = kinds[bits],
		.length = ((uint64_t)end << g->subcluster_bits) - in_cluster,
		.host = host ? host + in_cluster : EXTENT_NO_HOST,
	};
	return 0;
}

static int plain_piece(const struct qcow2_geometry *g, uint64_t host, bool zero,
	uint64_t in_cluster, struct qcow2_piece *ret, struct err *e)
{
	enum run_kind kind = host ? RUN_DATA : RUN_UNALLOCATED;

	if (zero && g->version < 3) {
		return err_set(e, -EBADMSG, "a zero cluster in an image of version 2");
	}
	*ret = (struct qcow2_piece){
		.kind = zero ? RUN_ZERO : kind,
		.length = g->cluster_size - in_cluster,
		.host = host ? host + in_cluster : EXTENT_NO_HOST,
	};
	return 0;
}

int qcow2_entry_l2(const struct qcow2_geometry *g, uint64_t entry, uint64_t bitmap,
	uint64_t in_cluster, struct qcow2_piece *ret, struct err *e)
{
	uint64_t host = entry & OFFSET_MASK;
	int r;

	if (entry & FLAG_COMPRESSED) {
		return compressed_piece(g, entry, in_cluster, ret, e);
	}
	if (host & (g->cluster_size - 1)) {
		return err_set(e, -EBADMSG, "data cluster at unaligned offset %" PRIu64, host);
	}
	if (g->entry_bits == 4) {
		r = subcluster_piece(g, host, bitmap, in_cluster, ret, e);
	} else {
		r = plain_piece(g, host, entry & FLAG_ZERO, in_cluster, ret, e);
	}
	if (r == 0) {
		ret->odd = entry & L2_RESERVED;
	}
	return r;
}
