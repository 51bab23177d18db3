/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of frames and blocks: RFC 8878, sections 3.1.1.1, 3.1.1.2 and 3.1.2. No I/O. */
#ifndef FORMATS_ZST_FRAME_H
#define FORMATS_ZST_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define ZST_FRAME_HEAD_MAX   18U
#define ZST_FRAME_BLOCK_HEAD 3U
#define ZST_FRAME_WINDOW_MAX ((uint64_t)128 << 20)
/* A block of 4 bytes may stand for 128 KiB; nothing expands more. */
#define ZST_FRAME_EXPANSION 32768U

#define ZST_FRAME_SKIP_MAGIC 0x184d2a50U /* to ...5f */

struct zst_frame {
	bool skippable;
	uint64_t len;     /* of the header; of a skippable frame, of all of it */
	uint64_t content; /* bytes that it decodes to; UINT64_MAX: it does not say */
	uint64_t window;
	bool checksum; /* 4 bytes behind the last block */
};

/* The first @n bytes of a frame at @off of the file, ZST_FRAME_HEAD_MAX of them or all that there
 * are. -EBADMSG: none; -ENOTSUP: one that needs a dictionary or a window that is too large. */
int zst_frame_parse(
	const uint8_t *head, size_t n, uint64_t off, struct zst_frame *ret, struct err *e);

/* Of the ZST_FRAME_BLOCK_HEAD bytes at @head: how many bytes the block has behind them, and
 * whether it is the frame's last. */
uint32_t zst_frame_block(const uint8_t *head, bool *ret_last);

#endif
