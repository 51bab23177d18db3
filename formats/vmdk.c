/* SPDX-License-Identifier: Apache-2.0 */
/* A sparse extent: grain directory, grain tables, grains. */
#include "formats/vmdk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "formats/blocks.h"
#include "formats/mapped.h"
#include "formats/qcow2_header.h"
#include "formats/vmdk_descriptor.h"
#include "formats/vmdk_extents.h"
#include "formats/vmdk_header.h"

/* Before each stream: where its bytes belong (a sector of the disk), and how long it is. */
#define MARKER_SIZE 12U

/* In place of the place of a grain, where the header admits it. */
#define ZERO_GRAIN 1U

/* A directory up to this size is read at open. */
#define DIRECTORY_SMALL KIB(256)

/* Of tables, for one of perhaps many extents of a disk. */
#define EXTENT_PAGES_MAX KIB(256)

struct vmdk {
	struct mapped m;
	struct vmdk_header header;
};

static int decode(const struct mapped *m, const uint8_t *entry, enum run_kind *ret_kind,
	uint64_t *ret_host, struct err *e)
{
	const struct vmdk *v = (const struct vmdk *)m;
	uint32_t sector = load_le32(entry);

	(void)e;
	if (sector == 0) {
		*ret_kind = RUN_UNALLOCATED;
	} else if (sector == ZERO_GRAIN && v->header.zero_grains) {
		*ret_kind = RUN_ZERO;
	} else {
		*ret_kind = v->header.compressed ? RUN_COMPRESSED : RUN_DATA;
		*ret_host = (uint64_t)sector * VMDK_SECTOR;
	}
	return 0;
}

/* The grain table for @off in *ret_table. When there is none it is 0, and *ret is the run that a
 * page of the directory shows to be empty. */
static int map_directory(struct vmdk *v, uint64_t off, uint64_t len, bool wait, uint64_t *ret_table,
	struct run *ret, struct err *e)
{
	uint64_t span = v->m.table_span;
	uint64_t end = off - off % span + span;
	struct table_words w;
	int r = tables_get(&v->m.tables, v->header.directory + off / span * 4, 4, wait, &w, e);

	if (r < 0) {
		return r == -EAGAIN ? r : err_wrap(e, r, "vmdk: guest offset %" PRIu64, off);
	}
	*ret_table = (uint64_t)load_le32(w.at) * VMDK_SECTOR;
	for (size_t i = 4; *ret_table == 0 && i + 4 <= w.bytes && end < off + len; i += 4) {
		if (load_le32(w.at + i) != 0) {
			break;
		}
		end += span;
	}
	tables_put(&v->m.tables, &w);
	*ret = (struct run){
		.kind = RUN_UNALLOCATED,
		.offset = off,
		.length = min_u64(end - off, len),
		.host = EXTENT_NO_HOST,
	};
	return 0;
}

/* No stream is longer than two grains (QEMU's rule, too); most are shorter than one. What comes
 * next in the file tells more. */
static void bound_stream(const struct vmdk *v, struct run *run)
{
	run->host_length = min_u64(run->host_length, v->header.grain_size + VMDK_SECTOR);
}

static int vmdk_map(
	struct mapped *m, uint64_t off, uint64_t len, bool wait, struct run *ret, struct err *e)
{
	struct vmdk *v = (struct vmdk *)m;
	struct blocks b = {
		.start = off - off % m->table_span,
		.entry_size = 4,
		.block_size = v->header.grain_size,
		.decode = decode,
	};
	struct run run;
	int r = map_directory(v, off, len, wait, &b.table, &run, e);

	if (r == 0 && b.table != 0) {
		b.end = b.start + m->table_span;
		r = blocks_map(m, &b, off, len, wait, &run, e);
		if (r < 0) {
			return r == -EAGAIN ? r : err_wrap(e, r, "vmdk");
		}
		if (run.kind == RUN_COMPRESSED) {
			bound_stream(v, &run);
		}
	}
	if (r == 0) {
		*ret = run;
	}
	return r;
}

static int vmdk_frame(struct mapped *m, const struct run *run, const uint8_t *in, size_t have,
	size_t *ret_skip, size_t *ret_len, struct err *e)
{
	const struct vmdk *v = (const struct vmdk *)m;
	uint64_t left = m->img.below->size - run->host;
	uint64_t most = 2 * v->header.grain_size;

	if (!v->header.markers) {
		*ret_skip = 0;
		*ret_len = min_u64(left, most);
		return 0;
	}
	if (have <= MARKER_SIZE) {
		return err_set(e, -EBADMSG, "the marker of a grain at offset %" PRIu64 " is cut",
			run->host);
	}
	if (load_le64(in) != round_down(run->offset, m->cluster_size) / VMDK_SECTOR) {
		return err_set(e, -EBADMSG,
			"what stands at offset %" PRIu64 " is not this grain, says its marker",
			run->host);
	}
	if (load_le32(in + 8) == 0 || load_le32(in + 8) > most) {
		return err_set(e, -EBADMSG,
			"the marker at offset %" PRIu64 " says an impossible length of %" PRIu32,
			run->host, load_le32(in + 8));
	}
	if (load_le32(in + 8) > left - MARKER_SIZE) {
		return err_set(e, -EBADMSG, "the file ends within the grain at offset %" PRIu64,
			run->host);
	}
	*ret_skip = MARKER_SIZE;
	*ret_len = load_le32(in + 8);
	return 0;
}

static const struct mapped_ops vmdk_mapping = { .map = vmdk_map, .frame = vmdk_frame };

static void vmdk_free(struct vmdk *v)
{
	mapped_clear(&v->m);
	free(v);
}

static void vmdk_destroy(struct image *img)
{
	image_fini(img);
	vmdk_free((struct vmdk *)img);
}

static void vmdk_report(struct image *img, struct report *r)
{
	struct vmdk *v = (struct vmdk *)img;

	report_text(r, "subformat", v->header.compressed ? "streamOptimized" : "monolithicSparse");
	report_u64(r, "version", v->header.version);
	report_u64(r, "grain_size", v->header.grain_size);
	report_u64(r, "tables_read", v->m.tables.loads);
}

static const struct image_ops vmdk_ops = {
	.name = "vmdk",
	.read_at = mapped_read_at,
	.extent_at = mapped_extent_at,
	.prefetch = mapped_prefetch,
	.allocated = mapped_allocated,
	.report = vmdk_report,
	.interrupt = mapped_interrupt,
	.listen = mapped_listen,
	.forget = mapped_forget,
	.destroy = vmdk_destroy,
};

/* Where the end of the file is not known, neither is what stands there. */
static int read_footer(struct image *file, struct vmdk_header *h, struct err *e)
{
	uint8_t buf[VMDK_FOOTER];
	uint64_t size = round_down(file->size, VMDK_SECTOR);
	int r;

	if (file->flags & IMAGE_SIZE_PROVISIONAL) {
		return err_set(e, -ENOTSUP,
			"the grain directory of this vmdk stands at the end of the file, and how "
			"long the decompressed file is is not known");
	}
	if (size < VMDK_FOOTER + VMDK_SECTOR) {
		return err_set(e, -EBADMSG, "vmdk: the file ends within the header");
	}
	r = image_read_at(file, buf, sizeof(buf), size - sizeof(buf), e);
	return r < 0 ? r : vmdk_header_footer(buf, size, h, e);
}

static int load_directory(struct vmdk *v, struct image *file, struct err *e)
{
	uint64_t bytes = v->header.tables * 4;

	if (bytes > DIRECTORY_SMALL) {
		image_prefetch(file, v->header.directory, DIRECTORY_SMALL);
		return 0;
	}
	return tables_preload(&v->m.tables, v->header.directory, bytes, e);
}

static int init_parts(struct vmdk *v, struct image *below, size_t memory, struct err *e)
{
	struct mapped *m = &v->m;

	m->cluster_size = v->header.grain_size;
	m->table_span = v->header.grain_size * v->header.grains_per_table;
	m->short_tail = true;
	if (mapped_init(m, &vmdk_mapping, below, memory) < 0 ||
		(v->header.compressed && mapped_use_codec(m, CODEC_ZLIB) < 0)) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

static int open_sparse(struct image *below, const struct vmdk_header *h,
	const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	int r;

	if (!v) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	v->header = *h;
	r = h->footer ? read_footer(below, &v->header, e) : 0;
	if (r == 0) {
		r = init_parts(v, below, opts->depth > 0 ? EXTENT_PAGES_MAX : TABLES_PAGES_MAX, e);
	}
	if (r == 0) {
		r = load_directory(v, below, e);
	}
	if (r == 0) {
		r = mapped_init_image(&v->m, &vmdk_ops, below, v->header.size);
		r = r < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	}
	if (r < 0) {
		vmdk_free(v);
		return r;
	}
	*ret = &v->m.img;
	return 0;
}

static int refuse_extents(const struct vmdk_descriptor *d, struct err *e)
{
	char safe[256] = "";

	for (size_t i = 0; i < d->count && !safe[0]; i++) {
		if (d->extents[i].name) {
			qcow2_header_safe_name(d->extents[i].name, safe, sizeof(safe));
		}
	}
	return err_set(e, -ENOTSUP,
		"the vmdk is only a description: its bytes are in other files (\"%s\"%s), which "
		"are not opened without --allow-backing",
		safe, d->count > 1 ? " and others" : "");
}

/* The text at @off; whether it is all of the image, or the sparse extent's @below own. */
static int read_descriptor(struct image *below, uint64_t off, uint64_t len, bool with_extents,
	struct vmdk_descriptor *ret, struct err *e)
{
	size_t n = min_u64(min_u64(len, below->size - off), VMDK_DESCRIPTOR_MAX);
	CLEANUP_FREE char *text = malloc(n + 1);
	int r;

	*ret = (struct vmdk_descriptor){ 0 };
	if (!text) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = image_read_at(below, text, n, off, e);
	return r < 0 ? r : vmdk_descriptor_parse(text, n, with_extents, ret, e);
}

static int open_described(struct image *below, uint64_t off, uint64_t len,
	const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct vmdk_descriptor d;
	int r = read_descriptor(below, off, len, true, &d, e);

	if (r == 0 && opts->depth > 0) {
		r = err_set(e, -ENOTSUP,
			"a vmdk that itself is only a description cannot be part of another image");
	} else if (r == 0 && !opts->open_backing) {
		r = refuse_extents(&d, e);
	} else if (r == 0) {
		r = vmdk_extents_open(below, opts, &d, ret, e);
	}
	vmdk_descriptor_clear(&d);
	return r;
}

/* A sparse extent's own descriptor says whether there is a parent. */
static int check_parent(struct image *below, const struct vmdk_header *h, struct err *e)
{
	struct vmdk_descriptor d;
	int r;

	if (h->descriptor == 0 || h->descriptor_length == 0) {
		return 0;
	}
	r = read_descriptor(below, h->descriptor, h->descriptor_length, false, &d, e);
	vmdk_descriptor_clear(&d);
	return r;
}

int vmdk_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	uint8_t head[VMDK_SECTOR] = { 0 };
	size_t n = min_u64(below->size, sizeof(head));
	struct vmdk_header h;
	int r = image_read_at(below, head, n, 0, e);

	if (r < 0) {
		return r;
	}
	if (n > 0 && head[0] == '#') {
		return open_described(below, 0, below->size, opts, ret, e);
	}
	r = vmdk_header_parse(head, n, below->size, &h, e);
	if (r < 0) {
		return r;
	}
	if (h.size == 0) {
		return open_described(below, h.descriptor, h.descriptor_length, opts, ret, e);
	}
	r = check_parent(below, &h, e);
	return r < 0 ? r : open_sparse(below, &h, opts, ret, e);
}
