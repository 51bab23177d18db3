/* SPDX-License-Identifier: Apache-2.0 */
/* One map of blocks, and the blocks. */
#include "formats/vdi.h"

#include <errno.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/report.h"
#include "formats/blocks.h"
#include "formats/mapped.h"
#include "formats/vdi_header.h"

#define BLOCK_FREE      0xffffffffU /* never written */
#define BLOCK_DISCARDED 0xfffffffeU /* zeros */

struct vdi {
	struct mapped m;
	struct vdi_header header;
	struct blocks blocks;
};

static int decode(const struct mapped *m, const uint8_t *entry, enum run_kind *ret_kind,
	uint64_t *ret_host, struct err *e)
{
	const struct vdi *v = (const struct vdi *)m;
	uint32_t block = load_le32(entry);

	(void)e;
	if (block == BLOCK_FREE || block == BLOCK_DISCARDED) {
		*ret_kind = RUN_ZERO;
	} else {
		*ret_kind = RUN_DATA;
		*ret_host = v->header.data + block * v->header.block_size;
	}
	return 0;
}

static int vdi_map(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	const struct vdi *v = (const struct vdi *)m;
	int r = blocks_map(m, &v->blocks, off, len, wait, ret, e);

	return r < 0 && r != -EAGAIN ? err_wrap(e, r, "vdi") : r;
}

static const struct mapped_ops vdi_mapping = { .map = vdi_map };

static void vdi_free(struct vdi *v)
{
	mapped_clear(&v->m);
	free(v);
}

static void vdi_destroy(struct image *img)
{
	image_fini(img);
	vdi_free((struct vdi *)img);
}

static void vdi_report(struct image *img, struct report *r)
{
	struct vdi *v = (struct vdi *)img;

	report_text(r, "subformat", v->header.fixed ? "static" : "dynamic");
	report_u64(r, "block_size", v->header.block_size);
	report_u64(r, "tables_read", v->m.tables.loads);
}

static const struct image_ops vdi_ops = {
	.name = "vdi",
	.read_at = mapped_read_at,
	.extent_at = mapped_extent_at,
	.prefetch = mapped_prefetch,
	.allocated = mapped_allocated,
	.report = vdi_report,
	.interrupt = mapped_interrupt,
	.listen = mapped_listen,
	.forget = mapped_forget,
	.destroy = vdi_destroy,
};

static int init_parts(struct vdi *v, struct image *below, struct err *e)
{
	const struct vdi_header *h = &v->header;

	v->blocks = (struct blocks){
		.table = h->map,
		.end = h->size,
		.entry_size = 4,
		.block_size = h->block_size,
		.decode = decode,
	};
	v->m.cluster_size = h->block_size;
	v->m.table_span = TABLES_PAGE / 4 * h->block_size;
	if (mapped_init(&v->m, &vdi_mapping, below, TABLES_PAGES_MAX) < 0 ||
		mapped_init_image(&v->m, &vdi_ops, below, h->size) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	image_prefetch(below, h->map, min_u64(h->blocks * 4, TABLES_PAGE));
	return 0;
}

int vdi_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	uint8_t head[VDI_HEADER];
	size_t n = min_u64(below->size, sizeof(head));
	struct vdi *v = calloc(1, sizeof(*v));
	int r;

	(void)opts;
	if (!v) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(below, head, n, 0, e);
	if (r == 0) {
		r = vdi_header_parse(head, n, below->size, &v->header, e);
	}
	if (r == 0) {
		r = init_parts(v, below, e);
	}
	if (r < 0) {
		vdi_free(v);
		return r;
	}
	*ret = &v->m.img;
	return 0;
}
