/* SPDX-License-Identifier: Apache-2.0 */
/* A fixed disk is a raw one with a footer; a dynamic one has a table of blocks. */
#include "formats/vhd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/blocks.h"
#include "formats/mapped.h"
#include "formats/vhd_header.h"

#define BLOCK_FREE 0xffffffffU

struct vhd {
	struct mapped m;
	struct vhd_header header;
	struct blocks blocks;
};

static int decode(const struct mapped *m, const uint8_t *entry, enum run_kind *ret_kind,
	uint64_t *ret_host, struct err *e)
{
	const struct vhd *v = (const struct vhd *)m;
	uint32_t sector = load_be32(entry);

	(void)e;
	if (sector == BLOCK_FREE) {
		*ret_kind = RUN_ZERO;
	} else {
		*ret_kind = RUN_DATA;
		*ret_host = (uint64_t)sector * 512 + v->header.bitmap;
	}
	return 0;
}

static int map_dynamic(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	const struct vhd *v = (const struct vhd *)m;
	int r = blocks_map(m, &v->blocks, off, len, wait, ret, e);

	return r < 0 && r != -EAGAIN ? err_wrap(e, r, "vhd") : r;
}

static int map_fixed(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	(void)m;
	(void)wait;
	(void)e;
	*ret = (struct run){ .kind = RUN_DATA, .offset = off, .length = len, .host = off };
	return 0;
}

static const struct mapped_ops dynamic_mapping = { .map = map_dynamic };
static const struct mapped_ops fixed_mapping = { .map = map_fixed };

static void vhd_free(struct vhd *v)
{
	mapped_clear(&v->m);
	free(v);
}

static void vhd_destroy(struct image *img)
{
	image_fini(img);
	vhd_free((struct vhd *)img);
}

/* A fixed disk has what its file has. */
static int vhd_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	uint64_t n = 0;
	int r;

	if (((struct vhd *)img)->header.dynamic) {
		return mapped_allocated(img, ret, e);
	}
	r = image_allocated(img->below, &n, e);
	if (r == 0) {
		*ret = min_u64(n, img->size);
	}
	return r;
}

static void vhd_report(struct image *img, struct report *r)
{
	struct vhd *v = (struct vhd *)img;

	report_text(r, "subformat", v->header.dynamic ? "dynamic" : "fixed");
	report_text(r, "creator", v->header.creator);
	if (v->header.dynamic) {
		report_u64(r, "block_size", v->header.block_size);
		report_u64(r, "tables_read", v->m.tables.loads);
	}
}

static const struct image_ops vhd_ops = {
	.name = "vhd",
	.read_at = mapped_read_at,
	.extent_at = mapped_extent_at,
	.prefetch = mapped_prefetch,
	.allocated = vhd_allocated,
	.report = vhd_report,
	.interrupt = mapped_interrupt,
	.listen = mapped_listen,
	.forget = mapped_forget,
	.destroy = vhd_destroy,
};

static int read_tail(struct image *file, uint8_t *buf, struct err *e)
{
	if (file->flags & IMAGE_SIZE_PROVISIONAL) {
		return err_set(e, -ENOTSUP,
			"the footer of this vhd stands at the end of the file, and how long the "
			"decompressed file is is not known");
	}
	return image_read_at(file, buf, VHD_FOOTER, file->size - VHD_FOOTER, e);
}

/* A dynamic disk has its footer at the beginning, too. */
static int read_footer(struct image *file, struct vhd_header *ret, struct err *e)
{
	uint8_t buf[VHD_FOOTER];
	bool at_head;
	int r;

	if (file->size < VHD_FOOTER) {
		return err_set(e, -EBADMSG, "not a vhd image: the file is too small");
	}
	r = image_read_at(file, buf, sizeof(buf), 0, e);
	at_head = r == 0 && vhd_header_is_footer(buf);
	if (r == 0 && !at_head) {
		r = read_tail(file, buf, e);
	}
	r = r < 0 ? r : vhd_header_footer(buf, ret, e);
	if (r < 0) {
		return r;
	}
	if (at_head != ret->dynamic) {
		return err_set(e, -EBADMSG,
			"vhd header: the footer of a %s disk at the %s of the file",
			ret->dynamic ? "dynamic" : "fixed", at_head ? "beginning" : "end");
	}
	if (!ret->dynamic && ret->size > file->size - VHD_FOOTER) {
		return err_set(e, -EBADMSG,
			"the file is truncated: it has %" PRIu64 " bytes for a disk of %" PRIu64,
			file->size - VHD_FOOTER, ret->size);
	}
	return 0;
}

static int read_dynamic(struct image *file, struct vhd_header *h, struct err *e)
{
	uint8_t buf[VHD_DYNAMIC];
	int r;

	if (!range_within(h->dynamic_at, sizeof(buf), file->size)) {
		return err_set(e, -EBADMSG,
			"vhd header: the dynamic header lies beyond the end of the file");
	}
	r = image_read_at(file, buf, sizeof(buf), h->dynamic_at, e);
	return r < 0 ? r : vhd_header_dynamic(buf, file->size, h, e);
}

static int init_parts(struct vhd *v, struct image *below, struct err *e)
{
	const struct vhd_header *h = &v->header;

	v->blocks = (struct blocks){
		.table = h->table,
		.end = h->size,
		.entry_size = 4,
		.block_size = h->block_size,
		.decode = decode,
	};
	v->m.cluster_size = h->dynamic ? h->block_size : 4096;
	v->m.table_span = TABLES_PAGE / 4 * h->block_size;
	if (mapped_init(&v->m, h->dynamic ? &dynamic_mapping : &fixed_mapping, below,
		    TABLES_PAGES_MAX) < 0 ||
		mapped_init_image(&v->m, &vhd_ops, below, h->size) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (h->dynamic) {
		image_prefetch(below, h->table, min_u64(h->blocks * 4, TABLES_PAGE));
	}
	return 0;
}

int vhd_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct vhd *v = calloc(1, sizeof(*v));
	int r;

	(void)opts;
	if (!v) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = read_footer(below, &v->header, e);
	if (r == 0 && v->header.dynamic) {
		r = read_dynamic(below, &v->header, e);
	}
	if (r == 0) {
		r = init_parts(v, below, e);
	}
	if (r < 0) {
		vhd_free(v);
		return r;
	}
	*ret = &v->m.img;
	return 0;
}
