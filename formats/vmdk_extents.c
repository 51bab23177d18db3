/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation finds the part and hands on to its file. */
#include "formats/vmdk_extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/report.h"
#include "formats/qcow2_header.h"

struct part {
	uint64_t start;      /* of the disk */
	uint64_t size;       /* bytes */
	uint64_t offset;     /* in `image` */
	struct image *image; /* NULL: zeros; owned */
	char *name;          /* what the descriptor calls it, fit to be shown; owned */
	bool flat;
};

struct joined {
	struct image img; /* `below` is the file of the descriptor */
	char type[64];
	struct part *parts; /* in order, without gaps */
	size_t count;
};

static struct part *part_at(struct joined *j, uint64_t off)
{
	size_t low = 0;
	size_t high = j->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (j->parts[middle].start <= off) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return &j->parts[low];
}

static int part_failed(const struct part *p, int code, struct err *e)
{
	return err_wrap(e, code, "extent file \"%s\"", p->name);
}

static int joined_read_at(struct image *img, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct joined *j = (struct joined *)img;
	uint8_t *to = buf;

	while (len > 0) {
		struct part *p = part_at(j, off);
		size_t n = min_u64(len, p->start + p->size - off);
		int r = 0;

		if (p->image) {
			r = image_read_at(p->image, to, n, p->offset + (off - p->start), e);
		} else {
			memset(to, 0, n);
		}
		if (r < 0) {
			return part_failed(p, r, e);
		}
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

/* A hole of a flat file is space of the disk that was never written. */
static int joined_extent_at(struct image *img, uint64_t off, struct extent *ret, struct err *e)
{
	struct part *p = part_at((struct joined *)img, off);
	struct extent x = {
		.offset = off,
		.length = p->start + p->size - off,
		.zero = true,
		.host = EXTENT_NO_HOST,
	};
	int r;

	if (p->image) {
		r = image_extent_at(p->image, p->offset + (off - p->start), &x, e);
		if (r < 0) {
			return part_failed(p, r, e);
		}
		x.offset = off;
		x.length = min_u64(x.length, p->start + p->size - off);
		x.hole_below = x.hole_below || (p->flat && x.zero);
	}
	*ret = x;
	return 0;
}

static void joined_prefetch(struct image *img, uint64_t off, uint64_t len)
{
	while (len > 0) {
		struct part *p = part_at((struct joined *)img, off);
		uint64_t n = min_u64(len, p->start + p->size - off);

		if (p->image) {
			image_prefetch(p->image, p->offset + (off - p->start), n);
		}
		off += n;
		len -= n;
	}
}

static int joined_prove(struct image *img, struct err *e)
{
	struct joined *j = (struct joined *)img;

	for (size_t i = 0; i < j->count; i++) {
		int r = j->parts[i].image ? image_prove(j->parts[i].image, e) : 0;

		if (r < 0) {
			return part_failed(&j->parts[i], r, e);
		}
	}
	return 0;
}

static bool joined_owes_proof(const struct image *img)
{
	const struct joined *j = (const struct joined *)img;
	bool owes = false;

	for (size_t i = 0; !owes && i < j->count; i++) {
		owes = j->parts[i].image && image_owes_proof(j->parts[i].image);
	}
	return owes;
}

static int joined_allocated(struct image *img, uint64_t *ret, struct err *e)
{
	struct joined *j = (struct joined *)img;
	uint64_t sum = 0;

	for (size_t i = 0; i < j->count; i++) {
		uint64_t n = 0;
		int r = j->parts[i].image ? image_allocated(j->parts[i].image, &n, e) : 0;

		if (r < 0) {
			return part_failed(&j->parts[i], r, e);
		}
		sum += min_u64(n, j->parts[i].size);
	}
	*ret = sum;
	return 0;
}

static void joined_report(struct image *img, struct report *r)
{
	struct joined *j = (struct joined *)img;

	report_text(r, "subformat", j->type);
	report_u64(r, "extents", j->count);
}

static void joined_interrupt(struct image *img)
{
	struct joined *j = (struct joined *)img;

	for (size_t i = 0; i < j->count; i++) {
		if (j->parts[i].image) {
			image_interrupt(j->parts[i].image);
		}
	}
}

static void joined_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	struct joined *j = (struct joined *)img;

	for (size_t i = 0; i < j->count; i++) {
		image_listen(j->parts[i].image, fn, ctx);
	}
}

static void joined_forget(struct image *img)
{
	struct joined *j = (struct joined *)img;

	for (size_t i = 0; i < j->count; i++) {
		image_forget(j->parts[i].image);
	}
}

static void joined_free(struct joined *j)
{
	for (size_t i = 0; i < j->count; i++) {
		image_close(j->parts[i].image);
		free(j->parts[i].name);
	}
	free(j->parts);
	free(j);
}

static void joined_destroy(struct image *img)
{
	image_fini(img);
	joined_free((struct joined *)img);
}

static const struct image_ops joined_ops = {
	.name = "vmdk",
	.read_at = joined_read_at,
	.extent_at = joined_extent_at,
	.prefetch = joined_prefetch,
	.prove = joined_prove,
	.owes_proof = joined_owes_proof,
	.allocated = joined_allocated,
	.report = joined_report,
	.interrupt = joined_interrupt,
	.listen = joined_listen,
	.forget = joined_forget,
	.destroy = joined_destroy,
};

/* What the descriptor promises must be there; a sparse extent is of exactly that size. */
static int check_size(const struct vmdk_extent *x, const struct image *image, struct err *e)
{
	bool right = x->kind == VMDK_SPARSE ? image->size == x->size
					    : range_within(x->offset, x->size, image->size);

	return right ? 0
		     : err_set(e, -EBADMSG,
			       "the descriptor says that it holds %" PRIu64 " bytes%s, but it has "
			       "%" PRIu64,
			       x->size, x->offset ? " behind an offset" : "", image->size);
}

static int open_part(
	const struct vmdk_extent *x, const struct format_opts *opts, struct part *p, struct err *e)
{
	char safe[256];
	int r;

	*p = (struct part){
		.start = p->start,
		.size = x->size,
		.offset = x->offset,
		.flat = x->kind == VMDK_FLAT,
	};
	if (x->kind == VMDK_ZEROS) {
		return 0;
	}
	qcow2_header_safe_name(x->name, safe, sizeof(safe));
	p->name = strdup(safe);
	if (!p->name) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	r = opts->open_backing(opts->ctx, x->name, x->kind == VMDK_FLAT ? "raw" : "vmdk",
		opts->depth + 1, &p->image, e);
	r = r < 0 ? r : check_size(x, p->image, e);
	return r < 0 ? part_failed(p, r, e) : 0;
}

/* Names the bytes of all files together. */
static char *make_id(const struct joined *j, const struct image *below)
{
	char *id = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&id, &size);

	if (!f) {
		return NULL;
	}
	fprintf(f, "vmdk(%s", below->id);
	for (size_t i = 0; i < j->count; i++) {
		fprintf(f, "; %s", j->parts[i].image ? j->parts[i].image->id : "zeros");
	}
	fputc(')', f);
	if (fclose(f) != 0) {
		free(id);
		return NULL;
	}
	return id;
}

static int init_image(struct joined *j, struct image *below, uint64_t size, struct err *e)
{
	CLEANUP_FREE char *id = make_id(j, below);
	unsigned int flags = below->flags;

	if (!id || image_init(&j->img, &joined_ops, below, size, id) < 0) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < j->count; i++) {
		unsigned int more = j->parts[i].image ? j->parts[i].image->flags : IMAGE_LOCAL;

		flags = (flags & more & IMAGE_LOCAL) | ((flags | more) & IMAGE_UNVERSIONED);
	}
	j->img.flags = flags;
	return 0;
}

int vmdk_extents_open(struct image *below, const struct format_opts *opts,
	const struct vmdk_descriptor *d, struct image **ret, struct err *e)
{
	struct joined *j = calloc(1, sizeof(*j));
	int r = 0;

	if (!j) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(j->type, d->type, sizeof(j->type));
	j->parts = calloc(d->count, sizeof(*j->parts));
	if (!j->parts) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	for (uint64_t at = 0; r == 0 && j->count < d->count; at += d->extents[j->count++].size) {
		j->parts[j->count].start = at;
		r = open_part(&d->extents[j->count], opts, &j->parts[j->count], e);
	}
	r = r < 0 ? r : init_image(j, below, d->size, e);
	if (r < 0) {
		joined_free(j);
		return r;
	}
	*ret = &j->img;
	return 0;
}
