/* SPDX-License-Identifier: Apache-2.0 */
/* liblzma knows the way through the file; what it asks for is read through a small window. */
#include "formats/xz_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/cleanup.h"

/* One read. */
#define WINDOW 65536U
/* After a seek, so many bytes before the place are read along: that is where liblzma goes next. */
#define BEFORE 49152U

struct window {
	struct image *img;
	uint64_t off;
	size_t len;
	uint64_t total; /* read so far */
	uint8_t buf[WINDOW];
};

static int load(struct window *w, uint64_t off, struct err *e)
{
	size_t n = min_u64(WINDOW, w->img->size - off);
	int r;

	w->total += n;
	if (w->total > XZ_INDEX_READ_MAX) {
		return err_set(e, -ENOTSUP,
			"xz: more than %" PRIu64
			" MiB of indexes and padding, near offset %" PRIu64,
			XZ_INDEX_READ_MAX >> 20, off);
	}
	r = image_read_at(w->img, w->buf, n, off, e);
	if (r == 0) {
		w->off = off;
		w->len = n;
	}
	return r;
}

/* The place that was asked for, and what stands before it, unless it is here already. */
static int seek(struct window *w, uint64_t to, lzma_stream *strm, struct err *e)
{
	uint64_t off = to > BEFORE ? to - BEFORE : 0;
	int r = 0;

	if (to > w->img->size) {
		return err_set(
			e, -EBADMSG, "xz: an index points past the end, to offset %" PRIu64, to);
	}
	if (w->img->size - off < WINDOW) {
		off = w->img->size > WINDOW ? w->img->size - WINDOW : 0;
	}
	if (to < w->off || to - w->off > w->len) {
		r = load(w, off, e);
	}
	if (r == 0) {
		strm->next_in = w->buf + (to - w->off);
		strm->avail_in = w->off + w->len - to;
	}
	return r;
}

/* The bytes behind those in the window. */
static int advance(struct window *w, lzma_stream *strm, struct err *e)
{
	int r = load(w, w->off + w->len, e);

	if (r == 0) {
		strm->next_in = w->buf;
		strm->avail_in = w->len;
	}
	return r;
}

static int explain(lzma_ret code, const struct window *w, struct err *e)
{
	switch ((int)code) {
	case LZMA_MEM_ERROR:
		return err_set(e, -ENOMEM, "out of memory");
	case LZMA_MEMLIMIT_ERROR:
		return err_set(e, -ENOTSUP,
			"xz: the index of its blocks needs more than %" PRIu64 " MiB of memory",
			XZ_INDEX_MEMORY >> 20);
	case LZMA_OPTIONS_ERROR:
		return err_set(e, -ENOTSUP,
			"xz: a version of the format that this liblzma does not know, within %u "
			"bytes of offset %" PRIu64,
			WINDOW, w->off);
	default:
		return err_set(e, -EBADMSG,
			"xz: no valid index at the end, offset %" PRIu64
			": the file is truncated or corrupt",
			w->img->size);
	}
}

static int run(struct window *w, lzma_stream *strm, struct err *e)
{
	for (;;) {
		lzma_ret code = lzma_code(strm, LZMA_RUN);
		int r = 0;

		if (code == LZMA_STREAM_END) {
			return 0;
		}
		if (code == LZMA_SEEK_NEEDED) {
			r = seek(w, strm->seek_pos, strm, e);
		} else if (code != LZMA_OK) {
			return explain(code, w, e);
		} else if (strm->avail_in == 0) {
			if (w->off + w->len >= w->img->size) {
				return explain(LZMA_DATA_ERROR, w, e);
			}
			r = advance(w, strm, e);
		}
		if (r < 0) {
			return r;
		}
	}
}

int xz_index_read(struct image *img, lzma_index **ret, struct err *e)
{
	CLEANUP_FREE struct window *w = malloc(sizeof(*w));
	lzma_stream strm = LZMA_STREAM_INIT;
	lzma_index *index = NULL;
	int r;

	if (!w || lzma_file_info_decoder(&strm, &index, XZ_INDEX_MEMORY, img->size) != LZMA_OK) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->img = img;
	w->total = 0;
	r = load(w, 0, e);
	if (r == 0) {
		strm.next_in = w->buf;
		strm.avail_in = w->len;
		r = run(w, &strm, e);
	}
	lzma_end(&strm);
	if (r == 0) {
		*ret = index;
	}
	return r;
}
