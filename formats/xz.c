/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of an .xz file, decoded one by one. */
#include "formats/xz.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "formats/decoded.h"
#include "formats/xz_index.h"

/* A chunk of LZMA2 takes 6 bytes or more and holds 2 MiB at most: nothing expands more than that,
 * and an index that says so lies. */
#define EXPANSION_MAX ((uint64_t)1 << 19)

struct xz {
	struct decoded d;
	lzma_index *index; /* constant */
};

struct xz_cursor {
	struct cursor c;
	lzma_index_iter iter; /* the block that is decoded, or the next one */
	uint64_t end;         /* the unit's, in decoded bytes */
	bool begun;           /* the block's header was read */
	bool done;            /* the last block of the unit was */
	lzma_stream strm;
	lzma_block block;
	lzma_filter filters[LZMA_FILTERS_MAX + 1];
};

static int xz_start(struct decoded *d, const struct unit *unit, struct cursor **ret, struct err *e)
{
	struct xz *xz = (struct xz *)d;
	struct xz_cursor *x = malloc(sizeof(*x));

	if (!x) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	x->strm = (lzma_stream)LZMA_STREAM_INIT;
	x->end = unit[1].out;
	x->begun = false;
	x->done = false;
	lzma_index_iter_init(&x->iter, xz->index);
	/* true would mean that there is no such block */
	if (lzma_index_iter_locate(&x->iter, unit->out)) {
		abort();
	}
	*ret = &x->c;
	return 0;
}

static void xz_end(struct cursor *c)
{
	struct xz_cursor *x = (struct xz_cursor *)c;

	lzma_end(&x->strm);
	free(x);
}

static int corrupt(const struct xz_cursor *x, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG, "xz: block %" PRIu64 " at offset %" PRIu64 " is corrupt: %s",
		(uint64_t)x->iter.block.number_in_file,
		(uint64_t)x->iter.block.compressed_file_offset, what);
}

static int explain(const struct xz_cursor *x, lzma_ret code, struct err *e)
{
	switch ((int)code) {
	case LZMA_MEM_ERROR:
		return err_set(e, -ENOMEM, "out of memory");
	case LZMA_OPTIONS_ERROR:
		return err_set(e, -ENOTSUP,
			"xz: block %" PRIu64 " at offset %" PRIu64
			" uses filters that this liblzma does not know",
			(uint64_t)x->iter.block.number_in_file,
			(uint64_t)x->iter.block.compressed_file_offset);
	case LZMA_DATA_ERROR:
		return corrupt(x, "its data do not match their check or cannot be decoded", e);
	default:
		return corrupt(x, "it ends early or goes on too long", e);
	}
}

/* Whether the decoder's memory is within bounds; the filters are valid. */
static int check_memory(const struct xz_cursor *x, struct err *e)
{
	uint64_t need = lzma_raw_decoder_memusage(x->filters);

	if (need > DECODED_MEMORY_MAX) {
		return need == UINT64_MAX
			       ? explain(x, LZMA_OPTIONS_ERROR, e)
			       : err_set(e, -ENOTSUP,
					 "xz: block %" PRIu64 " needs %" PRIu64
					 " MiB of memory to decode, more than the limit of %" PRIu64
					 " MiB",
					 (uint64_t)x->iter.block.number_in_file,
					 div_round_up(need, MIB(1)), DECODED_MEMORY_MAX >> 20);
	}
	return 0;
}

/* The header's own sizes, where it has some, must be those of the index; those that it has not are
 * taken from there, so that the decoder holds the block to them. */
static lzma_ret adopt_sizes(struct xz_cursor *x)
{
	lzma_block *b = &x->block;

	if (b->uncompressed_size != LZMA_VLI_UNKNOWN &&
		b->uncompressed_size != x->iter.block.uncompressed_size) {
		return LZMA_DATA_ERROR;
	}
	b->uncompressed_size = x->iter.block.uncompressed_size;
	return lzma_block_compressed_size(b, x->iter.block.unpadded_size);
}

static int init_decoder(struct xz_cursor *x, struct err *e)
{
	int r = check_memory(x, e);
	lzma_ret code;

	if (r < 0) {
		return r;
	}
	if (adopt_sizes(x) != LZMA_OK) {
		return corrupt(x, "its header contradicts the index", e);
	}
	code = lzma_block_decoder(&x->strm, &x->block);
	return code == LZMA_OK ? 0 : explain(x, code, e);
}

static int begin_block(struct xz_cursor *x, struct err *e)
{
	uint64_t at = x->iter.block.compressed_file_offset;
	const uint8_t *head = NULL;
	lzma_ret code;
	int r = feed_skip(x->c.feed, at - feed_offset(x->c.feed), e);

	if (r == 0) {
		r = feed_need(x->c.feed, 1, &head, e);
	}
	if (r < 0) {
		return r;
	}
	assert(head);
	if (head[0] == 0) {
		return corrupt(x, "there is an index in its place", e);
	}
	x->block = (lzma_block){
		.version = 1,
		.check = x->iter.stream.flags->check,
		.filters = x->filters,
		.header_size = lzma_block_header_size_decode(head[0]),
	};
	r = feed_need(x->c.feed, x->block.header_size, &head, e);
	if (r < 0) {
		return r;
	}
	code = lzma_block_header_decode(&x->block, NULL, head);
	if (code != LZMA_OK) {
		return code == LZMA_DATA_ERROR
			       ? corrupt(x, "its header does not match its check", e)
			       : explain(x, code, e);
	}
	feed_take(x->c.feed, x->block.header_size);
	r = init_decoder(x, e);
	/* the decoder copied what it needs */
	lzma_filters_free(x->filters, NULL);
	x->begun = r == 0;
	return r;
}

/* The block was found right; on to the one behind it. */
static void end_block(struct xz_cursor *x)
{
	uint64_t end = x->iter.block.uncompressed_file_offset + x->iter.block.uncompressed_size;

	x->begun = false;
	x->done = end == x->end || lzma_index_iter_next(&x->iter, LZMA_INDEX_ITER_NONEMPTY_BLOCK);
}

/* Feeds the decoder until the buffer is full or the block ends. */
static int decode(struct xz_cursor *x, struct err *e)
{
	while (x->strm.avail_out > 0) {
		const uint8_t *in;
		size_t n;
		lzma_ret code;
		int r = feed_peek(x->c.feed, &in, &n, e);

		if (r < 0) {
			return r;
		}
		x->strm.next_in = in;
		x->strm.avail_in = n;
		code = lzma_code(&x->strm, LZMA_RUN);
		feed_take(x->c.feed, n - x->strm.avail_in);
		if (code == LZMA_STREAM_END) {
			end_block(x);
			return 0;
		}
		if (code != LZMA_OK) {
			return explain(x, code, e);
		}
	}
	return 0;
}

static int step_block(struct xz_cursor *x, size_t *ret_n, struct err *e)
{
	size_t room;
	int r = cursor_room(&x->c, x->iter.block.uncompressed_size, &room, e);

	if (r == 0) {
		x->strm.next_out = x->c.out;
		x->strm.avail_out = room;
		r = decode(x, e);
		*ret_n = room - x->strm.avail_out;
	}
	return r;
}

static int xz_step(struct cursor *c, size_t *ret_n, struct err *e)
{
	struct xz_cursor *x = (struct xz_cursor *)c;
	size_t n = 0;

	while (n == 0 && !x->done) {
		int r = x->begun ? 0 : begin_block(x, e);

		if (r == 0) {
			r = step_block(x, &n, e);
		}
		if (r < 0) {
			return r;
		}
	}
	*ret_n = n;
	return 0;
}

static const struct decoder_ops xz_decoder = {
	.start = xz_start,
	.step = xz_step,
	.end = xz_end,
};

static void xz_destroy(struct image *img)
{
	struct xz *xz = (struct xz *)img;

	decoded_fini(&xz->d);
	lzma_index_end(xz->index, NULL);
	free(xz);
}

static const struct image_ops xz_ops = {
	.name = "xz",
	.read_at = decoded_read_at,
	.stream_at = decoded_stream_at,
	.unit_at = decoded_unit_at,
	.prove = decoded_prove,
	.report = decoded_report,
	.interrupt = decoded_interrupt,
	.destroy = xz_destroy,
};

/* Checks that this liblzma can verify are those that the format defines. */
static int check_checks(const lzma_index *index, struct err *e)
{
	uint32_t used = lzma_index_checks(index);

	for (unsigned int i = 0; i <= LZMA_CHECK_ID_MAX; i++) {
		if ((used & (1U << i)) && !lzma_check_is_supported((lzma_check)i)) {
			return err_set(
				e, -ENOTSUP, "xz: an integrity check of unknown kind (%u)", i);
		}
	}
	return 0;
}

static int add_blocks(struct xz *xz, uint64_t file_size, struct err *e)
{
	uint64_t size = lzma_index_uncompressed_size(xz->index);
	uint64_t end = 0;
	lzma_index_iter iter;

	if (size / EXPANSION_MAX > file_size) {
		return err_set(e, -EBADMSG,
			"xz: the index claims %" PRIu64 " bytes in a file of %" PRIu64, size,
			file_size);
	}
	lzma_index_iter_init(&iter, xz->index);
	while (!lzma_index_iter_next(&iter, LZMA_INDEX_ITER_NONEMPTY_BLOCK)) {
		int r = decoded_add(&xz->d, iter.block.compressed_file_offset,
			iter.block.uncompressed_file_offset, 0, e);

		if (r < 0) {
			return r;
		}
		end = iter.block.compressed_file_offset + iter.block.total_size;
	}
	return decoded_finish(&xz->d, end, size, e);
}

int xz_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct xz *xz = calloc(1, sizeof(*xz));
	int r;

	(void)opts;
	if (!xz) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = decoded_init(&xz->d, &xz_ops, &xz_decoder, below, e);
	if (r < 0) {
		free(xz);
		return r;
	}
	r = xz_index_read(below, &xz->index, e);
	if (r == 0) {
		r = check_checks(xz->index, e);
	}
	if (r == 0) {
		r = add_blocks(xz, below->size, e);
	}
	if (r < 0) {
		xz->d.img.borrows_below = true;
		xz_destroy(&xz->d.img);
		return r;
	}
	*ret = &xz->d.img;
	return 0;
}
