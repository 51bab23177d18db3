/* SPDX-License-Identifier: Apache-2.0 */
/* One part of the header after the other, byte by byte where it matters. */
#include "formats/gzip_header.h"

#include <errno.h>
#include <libdeflate.h>
#include <string.h>

#include "core/bytes.h"

#define FIXED_LEN 10U

/* RFC 1952 section 2.3.1 */
#define FLAG_HCRC     0x02U
#define FLAG_EXTRA    0x04U
#define FLAG_NAME     0x08U
#define FLAG_COMMENT  0x10U
#define FLAG_RESERVED 0xe0U

#define METHOD_DEFLATE 8U

void gzip_header_init(struct gzip_header *h)
{
	*h = (struct gzip_header){ .part = GZIP_HEADER_FIXED };
}

/* The flag that says that @part is there. */
static unsigned int flag_of(enum gzip_header_part part)
{
	switch (part) {
	case GZIP_HEADER_EXTRA_LEN:
	case GZIP_HEADER_EXTRA:
		return FLAG_EXTRA;
	case GZIP_HEADER_NAME:
		return FLAG_NAME;
	case GZIP_HEADER_COMMENT:
		return FLAG_COMMENT;
	case GZIP_HEADER_CRC:
		return FLAG_HCRC;
	case GZIP_HEADER_FIXED:
	case GZIP_HEADER_DONE:
		break;
	}
	return 0;
}

static bool is_there(const struct gzip_header *h, enum gzip_header_part part)
{
	return part == GZIP_HEADER_DONE ||
	       (h->flags & flag_of(part) && !(part == GZIP_HEADER_EXTRA && h->extra_len == 0));
}

static void next_part(struct gzip_header *h)
{
	h->have = 0;
	do {
		h->part++;
	} while (!is_there(h, h->part));
}

static int check_fixed(struct gzip_header *h, uint8_t byte, struct err *e)
{
	switch (h->have) {
	case 0:
		return byte == GZIP_ID1 ? 0 : err_set(e, -EBADMSG, "no gzip header");
	case 1:
		return byte == GZIP_ID2 ? 0 : err_set(e, -EBADMSG, "no gzip header");
	case 2:
		return byte == METHOD_DEFLATE ? 0
					      : err_set(e, -EBADMSG,
							"the gzip header names the unknown "
							"compression method %u",
							byte);
	case 3:
		h->flags = byte;
		return byte & FLAG_RESERVED
			       ? err_set(e, -EBADMSG, "the gzip header has unknown flags (%#x)",
					 byte)
			       : 0;
	default: /* time, hints, operating system: anything goes */
		return 0;
	}
}

static int end_crc(struct gzip_header *h, struct err *e)
{
	if (h->crc_stored != (h->crc & 0xffff)) {
		return err_set(e, -EBADMSG,
			"the checksum of the gzip header is %04x, not %04x as it says",
			h->crc & 0xffff, h->crc_stored);
	}
	next_part(h);
	return 0;
}

/* One byte of a part of fixed length. */
static int take_byte(struct gzip_header *h, uint8_t byte, struct err *e)
{
	int r = h->part == GZIP_HEADER_FIXED ? check_fixed(h, byte, e) : 0;

	if (r < 0) {
		return r;
	}
	if (h->part == GZIP_HEADER_EXTRA_LEN) {
		h->extra_len |= (uint16_t)(byte << (8 * h->have));
	} else if (h->part == GZIP_HEADER_CRC) {
		h->crc_stored |= (uint16_t)(byte << (8 * h->have));
	}
	h->have++;
	if (h->part == GZIP_HEADER_CRC) {
		return h->have == 2 ? end_crc(h, e) : 0;
	}
	h->crc = libdeflate_crc32(h->crc, &byte, 1);
	if (h->have == (h->part == GZIP_HEADER_FIXED ? FIXED_LEN : 2)) {
		next_part(h);
	}
	return 0;
}

/* As much of a part of variable length as there is. */
static size_t take_run(struct gzip_header *h, const uint8_t *p, size_t n)
{
	const uint8_t *end;
	bool whole;

	if (h->part == GZIP_HEADER_EXTRA) {
		n = min_u64(n, h->extra_len - h->have);
		h->have += (unsigned int)n;
		whole = h->have == h->extra_len;
	} else {
		end = memchr(p, 0, n);
		whole = end != NULL;
		n = end ? (size_t)(end - p) + 1 : n;
	}
	h->crc = libdeflate_crc32(h->crc, p, n);
	if (whole) {
		next_part(h);
	}
	return n;
}

int gzip_header_feed(
	struct gzip_header *h, const uint8_t *p, size_t n, size_t *ret_used, struct err *e)
{
	size_t at = 0;

	while (at < n && h->part != GZIP_HEADER_DONE) {
		if (h->part == GZIP_HEADER_EXTRA || h->part == GZIP_HEADER_NAME ||
			h->part == GZIP_HEADER_COMMENT) {
			at += take_run(h, p + at, n - at);
		} else {
			int r = take_byte(h, p[at], e);

			if (r < 0) {
				return r;
			}
			at++;
		}
	}
	*ret_used = at;
	return h->part == GZIP_HEADER_DONE;
}
