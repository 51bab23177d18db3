/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/qcow2_entry.h"

#define COPIED     (1ULL << 63)
#define COMPRESSED (1ULL << 62)
#define HOST_SIZE  MIB(4)

static struct qcow2_geometry geometry(uint32_t cluster_bits, bool extended, uint32_t version)
{
	const struct qcow2_header h = {
		.version = version,
		.cluster_bits = cluster_bits,
		.l1_offset = 3ULL << cluster_bits,
		.l1_entries = 4,
		.extended_l2 = extended,
	};
	struct qcow2_geometry g;

	qcow2_geometry_init(&g, &h, HOST_SIZE);
	return g;
}

static void l1_entries_point_to_tables_or_nowhere(void **state)
{
	struct qcow2_geometry g = geometry(16, false, 3);
	uint64_t l2 = 1;

	(void)state;
	assert_int_equal(qcow2_entry_l1(&g, COPIED | 0x40000, &l2, NULL), 0);
	assert_int_equal(l2, 0x40000);
	assert_int_equal(qcow2_entry_l1(&g, 0, &l2, NULL), 0);
	assert_int_equal(l2, 0);
	/* Reserved bits are masked. */
	assert_int_equal(qcow2_entry_l1(&g, 0x7f000000000401ffULL, &l2, NULL), 0);
	assert_int_equal(l2, 0x40000);
	assert_int_equal(qcow2_entry_l1(&g, 0x40200, &l2, NULL), -EBADMSG);
	assert_int_equal(qcow2_entry_l1(&g, HOST_SIZE, &l2, NULL), -EBADMSG);
	assert_int_equal(qcow2_entry_l1(&g, 0x30000, &l2, NULL), -EBADMSG);
	assert_int_equal(l2, 0x40000);
}

static void what_begins_beyond_the_file_tells_where_it_ends(void **state)
{
	struct qcow2_geometry g = geometry(16, false, 3);
	const uint64_t compressed = 1ULL << 62;
	const uint32_t width = 62 - (16 - 8);

	(void)state;
	assert_int_equal(qcow2_entry_l1_beyond(&g, COPIED | 0x40000), 0);
	assert_int_equal(qcow2_entry_l1_beyond(&g, 0), 0);
	assert_int_equal(qcow2_entry_l1_beyond(&g, COPIED | HOST_SIZE), HOST_SIZE + 0x10000);
	assert_int_equal(qcow2_entry_l1_beyond(&g, HOST_SIZE + 512), 0);
	assert_int_equal(qcow2_entry_l2_beyond(&g, compressed | 0x50000), 0);
	assert_int_equal(
		qcow2_entry_l2_beyond(&g, compressed | 2ULL << width | (HOST_SIZE - 1)), 0);
	assert_int_equal(qcow2_entry_l2_beyond(&g, compressed | 2ULL << width | (HOST_SIZE + 10)),
		HOST_SIZE + 3 * 512);
	/* Of data, the run that it is in tells. */
	assert_int_equal(qcow2_entry_l2_beyond(&g, COPIED | HOST_SIZE), 0);
}

static void plain_entries_are_data_zero_or_nothing(void **state)
{
	struct qcow2_geometry g = geometry(16, false, 3);
	struct qcow2_piece p;

	(void)state;
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50000, 0, 0x1234, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_DATA);
	assert_int_equal(p.host, 0x51234);
	assert_int_equal(p.length, 0x10000 - 0x1234);
	assert_false(p.odd);
	assert_int_equal(qcow2_entry_l2(&g, 0x50001, 0, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_ZERO);
	assert_int_equal(p.host, 0x50000);
	assert_int_equal(qcow2_entry_l2(&g, 1, 0, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_ZERO);
	assert_true(p.host == EXTENT_NO_HOST);
	assert_int_equal(qcow2_entry_l2(&g, COPIED, 0, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_UNALLOCATED);
	assert_true(p.host == EXTENT_NO_HOST);
	assert_int_equal(qcow2_entry_l2(&g, 0x50002, 0, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_DATA);
	assert_true(p.odd);
	assert_int_equal(qcow2_entry_l2(&g, 0x50200, 0, 0, &p, NULL), -EBADMSG);
	g = geometry(16, false, 2);
	assert_int_equal(qcow2_entry_l2(&g, 0x50001, 0, 0, &p, NULL), -EBADMSG);
}

static void compressed_entries_keep_within_the_file(void **state)
{
	struct qcow2_geometry g = geometry(16, false, 3);
	uint32_t width = 62 - (16 - 8);
	struct qcow2_piece p;

	(void)state;
	assert_int_equal(
		qcow2_entry_l2(&g, COMPRESSED | 2ULL << width | 0x60123, 0, 0x8000, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_COMPRESSED);
	assert_int_equal(p.host, 0x60123);
	assert_int_equal(p.host_length, 3 * 512 - 0x123);
	assert_int_equal(p.length, 0x8000);
	/* Counted past the end of the file: up to the end. */
	assert_int_equal(qcow2_entry_l2(&g, COMPRESSED | 255ULL << width | (HOST_SIZE - 100), 0, 0,
				 &p, NULL),
		0);
	assert_int_equal(p.host_length, 100);
	assert_int_equal(qcow2_entry_l2(&g, COMPRESSED | HOST_SIZE, 0, 0, &p, NULL), -EBADMSG);
	assert_int_equal(qcow2_entry_l2(&g, COMPRESSED, 0, 0, &p, NULL), -EBADMSG);
	assert_int_equal(qcow2_entry_l2(&g, COMPRESSED | 0xffff, 0, 0, &p, NULL), -EBADMSG);
	assert_int_equal(qcow2_entry_l2(&g, COMPRESSED | 0x30008, 0, 0, &p, NULL), -EBADMSG);
}

static void compressed_fields_change_with_the_size_of_clusters(void **state)
{
	struct qcow2_piece p;

	(void)state;
	for (uint32_t bits = 9; bits <= 21; bits++) {
		struct qcow2_geometry g = geometry(bits, false, 3);
		uint32_t width = 62 - (bits - 8);
		uint64_t most = (1ULL << (bits - 8)) - 1;
		uint64_t entry = COMPRESSED | most << width | MIB(3);

		g.host_size = MIB(64);
		g.l1_offset = MIB(32);
		assert_int_equal(qcow2_entry_l2(&g, entry, 0, 0, &p, NULL), 0);
		assert_int_equal(p.host, MIB(3));
		assert_int_equal(p.host_length, (most + 1) * 512);
	}
}

static void subclusters_make_runs_of_one_kind(void **state)
{
	struct qcow2_geometry g = geometry(16, true, 3);
	/* Subclusters of 2 KiB: 0 and 1 data, 2 zero, 3 to 30 nothing, 31 data. */
	uint64_t bitmap = 3 | 1ULL << 31 | 1ULL << (32 + 2);
	struct qcow2_piece p;

	(void)state;
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50000, bitmap, 100, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_DATA);
	assert_int_equal(p.host, 0x50000 + 100);
	assert_int_equal(p.length, 4096 - 100);
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50000, bitmap, 4096, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_ZERO);
	assert_int_equal(p.length, 2048);
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50000, bitmap, 10000, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_UNALLOCATED);
	assert_int_equal(p.length, 31 * 2048 - 10000);
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50000, bitmap, 65535, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_DATA);
	assert_int_equal(p.length, 1);
	/* The zero flag of a normal entry means nothing, and is odd only as the reserved bit. */
	assert_int_equal(qcow2_entry_l2(&g, COPIED | 0x50001, bitmap, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_DATA);
	assert_int_equal(qcow2_entry_l2(&g, 0, 0, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_UNALLOCATED);
	assert_int_equal(p.length, 65536);
}

static void impossible_subclusters_are_refused(void **state)
{
	struct qcow2_geometry g = geometry(16, true, 3);
	struct qcow2_piece p;
	struct err e = { 0 };

	(void)state;
	/* Wherever one looks in the cluster. */
	assert_int_equal(qcow2_entry_l2(&g, 0x50000, 1ULL << 40 | 1 << 8, 0, &p, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "both allocated and zero"));
	assert_int_equal(qcow2_entry_l2(&g, COPIED, 1 << 8, 0, &p, &e), -EBADMSG);
	/* A compressed cluster has no bitmap. */
	assert_int_equal(
		qcow2_entry_l2(&g, COMPRESSED | 0x60000, 1ULL << 40 | 1 << 8, 0, &p, NULL), 0);
	assert_int_equal(p.kind, RUN_COMPRESSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(l1_entries_point_to_tables_or_nowhere),
		cmocka_unit_test(what_begins_beyond_the_file_tells_where_it_ends),
		cmocka_unit_test(plain_entries_are_data_zero_or_nothing),
		cmocka_unit_test(compressed_entries_keep_within_the_file),
		cmocka_unit_test(compressed_fields_change_with_the_size_of_clusters),
		cmocka_unit_test(subclusters_make_runs_of_one_kind),
		cmocka_unit_test(impossible_subclusters_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
