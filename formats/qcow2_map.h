/* SPDX-License-Identifier: Apache-2.0 */
/* From guest ranges to runs of one kind. */
#ifndef FORMATS_QCOW2_MAP_H
#define FORMATS_QCOW2_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "formats/qcow2.h"

struct qcow2_run {
	enum qcow2_kind kind;
	uint64_t offset; /* guest */
	uint64_t length; /* never 0 */

	/* DATA: of the first byte; all of the run lies in the file, contiguous. ZERO and
	 * UNALLOCATED: the same where space is reserved (perhaps beyond the end of the file), else
	 * EXTENT_NO_HOST. COMPRESSED: where the stream begins; the run is of one cluster. */
	uint64_t host;
	uint64_t host_length; /* COMPRESSED: of the stream, at most */
};

/*
 * The run at @off, of at most @len bytes (not 0; the range is within the image). It may end earlier
 * than it could: at the end of a page of a table. -EBADMSG: a table is broken there, or the data
 * lie beyond the end of the file. With @wait false never reads: -EAGAIN (without text) when a table
 * is not here, which is then asked for with image_prefetch().
 */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, bool wait, struct qcow2_run *ret,
	struct err *e);

#endif
