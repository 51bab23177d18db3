/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a VHDX: headers, log, regions, metadata; and reads its block allocation table. */
#include "formats/vhdx.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "formats/blocks.h"
#include "formats/mapped.h"
#include "formats/vhdx_header.h"
#include "formats/vhdx_log.h"

#define STATE_MASK  7U
#define OFFSET_MASK (~(MIB(1) - 1))

/* Section 2.5.1.1; 5 is "unmapped" of a draft, which QEMU knows, too. */
enum state {
	NOT_PRESENT = 0,
	UNDEFINED = 1,
	ZERO = 2,
	UNMAPPED = 3,
	UNMAPPED_DRAFT = 5,
	FULLY_PRESENT = 6,
};

struct vhdx {
	struct mapped m;
	struct vhdx_metadata metadata;
	struct vhdx_regions regions;
	bool replayed; /* `below` is a vhdx-log */
};

static int decode(const struct mapped *m, const uint8_t *entry, enum run_kind *ret_kind,
	uint64_t *ret_host, struct err *e)
{
	uint64_t word = load_le64(entry);

	(void)m;
	switch (word & STATE_MASK) {
	case NOT_PRESENT:
	case UNDEFINED:
	case UNMAPPED:
	case UNMAPPED_DRAFT:
		*ret_kind = RUN_UNALLOCATED;
		return 0;
	case ZERO:
		*ret_kind = RUN_ZERO;
		return 0;
	case FULLY_PRESENT:
		break;
	default:
		return err_set(e, -EBADMSG, "a block in impossible state %u",
			(unsigned)(word & STATE_MASK));
	}
	if ((word & OFFSET_MASK) < VHDX_HEADERS_SIZE) {
		return err_set(e, -EBADMSG, "a block within the header");
	}
	*ret_kind = RUN_DATA;
	*ret_host = word & OFFSET_MASK;
	return 0;
}

/* Behind the entries of a chunk of blocks stands one of their sector bitmap, which only matters for
 * differencing disks: each chunk is a table of its own. */
static int vhdx_map(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	const struct vhdx *v = (const struct vhdx *)m;
	uint64_t span = v->metadata.chunk * v->metadata.block_size;
	struct blocks b = {
		.table = v->regions.bat + off / span * (v->metadata.chunk + 1) * 8,
		.start = off - off % span,
		.end = off - off % span + span,
		.entry_size = 8,
		.block_size = v->metadata.block_size,
		.decode = decode,
	};
	int r = blocks_map(m, &b, off, len, wait, ret, e);

	return r < 0 && r != -EAGAIN ? err_wrap(e, r, "vhdx") : r;
}

static const struct mapped_ops vhdx_mapping = { .map = vhdx_map };

static void vhdx_free(struct vhdx *v)
{
	mapped_clear(&v->m);
	free(v);
}

static void vhdx_destroy(struct image *img)
{
	image_fini(img);
	vhdx_free((struct vhdx *)img);
}

static void vhdx_report(struct image *img, struct report *r)
{
	struct vhdx *v = (struct vhdx *)img;

	report_text(r, "subformat", v->metadata.fixed ? "fixed" : "dynamic");
	report_u64(r, "block_size", v->metadata.block_size);
	report_u64(r, "sector_size", v->metadata.sector);
	report_bool(r, "log_replayed", v->replayed);
	report_u64(r, "tables_read", v->m.tables.loads);
}

static const struct image_ops vhdx_ops = {
	.name = "vhdx",
	.read_at = mapped_read_at,
	.extent_at = mapped_extent_at,
	.prefetch = mapped_prefetch,
	.allocated = mapped_allocated,
	.report = vhdx_report,
	.interrupt = mapped_interrupt,
	.listen = mapped_listen,
	.forget = mapped_forget,
	.destroy = vhdx_destroy,
};

static int read_header(struct image *file, struct vhdx_header *ret, struct err *e)
{
	uint8_t id[8];
	uint8_t first[VHDX_HEADER_SIZE];
	uint8_t second[VHDX_HEADER_SIZE];
	int r;

	if (file->size < VHDX_HEADERS_SIZE) {
		return err_set(e, -EBADMSG, "vhdx: the file ends within the header");
	}
	image_prefetch(file, VHDX_HEADER_1, VHDX_REGIONS_1 + VHDX_TABLE_SIZE - VHDX_HEADER_1);
	r = image_read_at(file, id, sizeof(id), 0, e);
	if (r == 0 && memcmp(id, "vhdxfile", 8) != 0) {
		r = err_set(e, -EBADMSG, "not a vhdx image: no signature at its beginning");
	}
	if (r == 0) {
		r = image_read_at(file, first, sizeof(first), VHDX_HEADER_1, e);
	}
	if (r == 0) {
		r = image_read_at(file, second, sizeof(second), VHDX_HEADER_2, e);
	}
	return r < 0 ? r : vhdx_header_choose(first, second, ret, e);
}

/* The second table is there for when the first is broken. */
static int read_regions(struct image *file, uint8_t *buf, struct vhdx_regions *ret, struct err *e)
{
	struct err first = { 0 };
	int r = image_read_at(file, buf, VHDX_TABLE_SIZE, VHDX_REGIONS_1, e);

	if (r < 0) {
		return r;
	}
	r = vhdx_header_regions(buf, file->size, ret, &first);
	if (r == -EBADMSG && image_read_at(file, buf, VHDX_TABLE_SIZE, VHDX_REGIONS_2, e) == 0 &&
		vhdx_header_regions(buf, file->size, ret, NULL) == 0) {
		return 0;
	}
	if (r < 0 && e) {
		*e = first;
	}
	return r;
}

static int read_metadata(struct image *file, const struct vhdx_regions *g, uint8_t *buf,
	struct vhdx_metadata *ret, struct err *e)
{
	uint8_t items[VHDX_ITEMS][8] = { 0 };
	uint32_t at[VHDX_ITEMS];
	int r;

	if (g->metadata_length < VHDX_TABLE_SIZE) {
		return err_set(e, -EBADMSG, "vhdx: the region of metadata is too small");
	}
	r = image_read_at(file, buf, VHDX_TABLE_SIZE, g->metadata, e);
	if (r == 0) {
		r = vhdx_header_items(buf, g->metadata_length, at, e);
	}
	for (int i = 0; r == 0 && i < VHDX_ITEMS; i++) {
		r = image_read_at(
			file, items[i], i == VHDX_ITEM_SECTOR ? 4 : 8, g->metadata + at[i], e);
	}
	return r < 0 ? r : vhdx_header_metadata((const uint8_t(*)[8])items, ret, e);
}

static int read_all(struct vhdx *v, struct image *file, struct err *e)
{
	CLEANUP_FREE uint8_t *buf = malloc(VHDX_TABLE_SIZE);
	int r;

	if (!buf) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = read_regions(file, buf, &v->regions, e);
	if (r == 0) {
		r = read_metadata(file, &v->regions, buf, &v->metadata, e);
	}
	if (r == 0 && v->metadata.bat_entries > v->regions.bat_length / 8) {
		r = err_set(e, -EBADMSG,
			"vhdx: the block allocation table is too small for the size of the disk "
			"(%" PRIu64 ")",
			v->regions.bat_length);
	}
	return r;
}

static int init_parts(struct vhdx *v, struct image *file, struct err *e)
{
	v->m.cluster_size = v->metadata.block_size;
	v->m.table_span = TABLES_PAGE / 8 * (uint64_t)v->metadata.block_size;
	if (mapped_init(&v->m, &vhdx_mapping, file, TABLES_PAGES_MAX) < 0 ||
		mapped_init_image(&v->m, &vhdx_ops, file, v->metadata.size) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	image_prefetch(file, v->regions.bat, min_u64(v->metadata.bat_entries * 8, TABLES_PAGE));
	return 0;
}

static int open_over(struct image *file, struct vhdx **ret, struct err *e)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	int r;

	if (!v) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = read_all(v, file, e);
	if (r == 0) {
		r = init_parts(v, file, e);
	}
	if (r < 0) {
		vhdx_free(v);
		return r;
	}
	*ret = v;
	return 0;
}

int vhdx_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct image *file = below;
	struct vhdx_header h;
	struct vhdx *v = NULL;
	int r = read_header(below, &h, e);

	(void)opts;
	if (r == 0 && h.dirty) {
		r = vhdx_log_open(below, &h, &file, e);
	}
	if (r < 0) {
		return r;
	}
	r = open_over(file, &v, e);
	if (r < 0) {
		if (file != below) {
			image_close(file);
		}
		return r;
	}
	assert(v);
	if (file != below) {
		file->borrows_below = false;
		v->replayed = true;
	}
	*ret = &v->m.img;
	return 0;
}
