/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table that has one entry for each block of a disk, in order: VDI's block map, the allocation
 * tables of VHD and VHDX, one grain table of a VMDK. The entries stay in the file and are paged in;
 * a format says what one of them means.
 */
#ifndef FORMATS_BLOCKS_H
#define FORMATS_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "formats/mapped.h"

struct blocks {
	uint64_t table;      /* where in the file the first entry is; aligned to entries */
	uint64_t start;      /* the first byte of the disk that the first entry speaks for */
	uint64_t end;        /* behind the last byte that the table speaks for */
	size_t entry_size;   /* 4 or 8 */
	uint64_t block_size; /* a power of two */

	/* What @entry says of a whole block. *ret_host: of its first byte, or of the stream of a
	 * COMPRESSED one; not looked at for ZERO and UNALLOCATED. That it is in the file is for the
	 * caller to see. -EBADMSG: the entry cannot be true. */
	int (*decode)(const struct mapped *m, const uint8_t *entry, enum run_kind *ret_kind,
		uint64_t *ret_host, struct err *e);
};

/* As map of struct mapped_ops, for @off in [start, end) and @len that may reach further. The
 * host_length of a COMPRESSED run is what lies between it and the next block's, if that is behind
 * it in the file, else all that is left of the file. */
int blocks_map(struct mapped *m, const struct blocks *b, uint64_t off, uint64_t len, bool wait,
	struct run *ret, struct err *e);

#endif
