/* SPDX-License-Identifier: Apache-2.0 */
/* The table of formats: one row each, the first whose recogniser agrees wins. */
#include "formats/format.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/gzip.h"
#include "formats/probe.h"
#include "formats/qcow2.h"
#include "formats/raw.h"
#include "formats/tar.h"
#include "formats/vdi.h"
#include "formats/vhd.h"
#include "formats/vhdx.h"
#include "formats/vmdk.h"
#include "formats/xz.h"
#include "formats/zst.h"

/* A smaller thing is no disk: it has not even one sector. */
#define SMALLEST_DISK 512U

/* Of what a container holds, so much at most is looked for by a disk format. */
#define ROOM_MOST (8 * GIB(1024))

struct format {
	const char *name;
	probe_fn *probe; /* NULL: fits everything; the last row */
	bool container;  /* what it holds is recognised anew */

	/* NULL: recognised, so that it is not mistaken for a disk, and refused. */
	int (*open)(struct image *below, const struct format_opts *opts, struct image **ret,
		struct err *e);
	const char *refusal; /* NULL: "format NAME is not supported by this version" */
	int code;            /* with `refusal` */
};

static const struct format formats[] = {
	{ "qcow2", probe_qcow2, false, qcow2_open, NULL, 0 },
	{ "qcow", probe_qcow, false, NULL, "format qcow (version 1) is not supported, only qcow2",
		-ENOTSUP },
	{ "qed", probe_qed, false, NULL, NULL, 0 },
	{ "vmdk", probe_vmdk, false, vmdk_open, NULL, 0 },
	{ "vhdx", probe_vhdx, false, vhdx_open, NULL, 0 },
	{ "vhd", probe_vhd, false, vhd_open, NULL, 0 },
	{ "vdi", probe_vdi, false, vdi_open, NULL, 0 },
	{ "parallels", probe_parallels, false, NULL, NULL, 0 },
	{ "gzip", probe_gzip, true, gzip_open, NULL, 0 },
	{ "xz", probe_xz, true, xz_open, NULL, 0 },
	{ "zstd", probe_zstd, true, zst_open, NULL, 0 },
	{ "bzip2", probe_bzip2, false, NULL, NULL, 0 },
	{ "lzma", probe_lzma, false, NULL, NULL, 0 },
	{ "lz4", probe_lz4, false, NULL, NULL, 0 },
	{ "zip", probe_zip, false, NULL, NULL, 0 },
	{ "7z", probe_7z, false, NULL, NULL, 0 },
	{ "tar", probe_tar, true, tar_open, NULL, 0 },
	{ "html", probe_html, false, NULL, "this is a web page, not a disk image", -EBADMSG },
	{ "xml", probe_xml, false, NULL, "this is an XML document, not a disk image", -EBADMSG },
	{ "raw", NULL, false, raw_open, NULL, 0 },
};

/* The format that the first part of @names, up to a '+', names. */
static const struct format *find(const char *names)
{
	size_t n = strcspn(names, "+");

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strncmp(formats[i].name, names, n) == 0 && !formats[i].name[n]) {
			return &formats[i];
		}
	}
	return NULL;
}

/* What stands behind the first part, or NULL. */
static const char *behind(const char *names)
{
	const char *plus = names ? strchr(names, '+') : NULL;

	return plus ? plus + 1 : NULL;
}

/* Only a fixed VHD has its magic at the end and nowhere else: whole sectors of disk and one more.
 * Where the tail costs a round trip, disks of whole MiB, which is what others are as a rule, are
 * spared its reading; as is always what must be decoded from its beginning for it. */
static bool tail_matters(struct image *img)
{
	uint64_t off;
	uint64_t len;

	if (img->size % 512 != 0 || img->size <= PROBE_HEAD ||
		(img->flags & IMAGE_SIZE_PROVISIONAL) ||
		(img->size % MIB(1) == 0 && !(img->flags & IMAGE_LOCAL))) {
		return false;
	}
	return image_unit_at(img, img->size - 512, &off, &len, NULL) == 0 && len <= MIB(64);
}

static const struct format *recognise(const struct probe_view *v)
{
	size_t i = 0;

	while (formats[i].probe && !formats[i].probe(v)) {
		i++;
	}
	return &formats[i];
}

static int probe(struct image *img, const struct format **ret, struct err *e)
{
	uint8_t head[PROBE_HEAD];
	uint8_t tail[512];
	struct probe_view v = { .head = head };
	const struct format *f;
	int r = image_read_head(img, head, sizeof(head), &v.len, e);

	if (r < 0) {
		return r;
	}
	f = recognise(&v);
	if (!f->probe && tail_matters(img)) {
		r = image_read_at(img, tail, sizeof(tail), img->size - sizeof(tail), e);
		if (r < 0) {
			return r;
		}
		v.tail = tail;
		f = recognise(&v);
	}
	*ret = f;
	return 0;
}

int format_probe(struct image *img, const char **ret, struct err *e)
{
	const struct format *f = NULL;
	int r = probe(img, &f, e);

	if (r == 0) {
		*ret = f->name;
	}
	return r;
}

static int refuse(const struct format *f, struct err *e)
{
	if (f->refusal) {
		return err_set(e, f->code, "%s (--format raw takes it as it is)", f->refusal);
	}
	return err_set(e, -ENOTSUP,
		"format %s is not supported by this version (--format raw takes it as it is)",
		f->name);
}

/* The format that the user or the bytes name. */
static int choose(struct image *below, const char *forced, const struct format **ret, struct err *e)
{
	const struct format *f = NULL;
	int r;

	if (forced) {
		f = find(forced);
		if (!f || !f->open) {
			return err_set(e, -ENOTSUP, "format %s is not supported, only %s", forced,
				format_names());
		}
		*ret = f;
		return 0;
	}
	r = probe(below, &f, e);
	if (r < 0) {
		return r;
	}
	if (!f->open) {
		return refuse(f, e);
	}
	if (!f->probe && below->size < SMALLEST_DISK) {
		return err_set(e, -EBADMSG,
			"%" PRIu64 " bytes are too small to be a disk image (--format raw takes "
			"them as they are)",
			below->size);
	}
	*ret = f;
	return 0;
}

/* A container in a container has its index at its end: where that is has to be known, whatever it
 * costs. */
static int find_end(struct image *decoded, struct err *e)
{
	uint64_t size;
	int r = image_stream_at(decoded, 0, decoded->size, image_sink_none, NULL, e);

	if (r == 0 && image_final_size(decoded, &size) < 0) {
		r = err_set(e, -EIO, "%s: the end was not found", decoded->ops->name);
	}
	if (r == 0) {
		decoded->size = size;
		decoded->bound = size;
		decoded->flags &= ~IMAGE_SIZE_PROVISIONAL;
	}
	return r;
}

/* What is in an archive is there already; it has nothing to keep. */
static bool is_archive(const struct format *f)
{
	return f->open == tar_open;
}

/* A disk format says itself how long it is, maybe longer than was guessed. No more than file
 * systems take as the size of the file that it is kept in. */
static int make_room(struct image *decoded, const char *forced, struct err *e)
{
	const struct format *f = NULL;
	int r;

	if (!(decoded->flags & IMAGE_SIZE_PROVISIONAL)) {
		return 0;
	}
	r = choose(decoded, forced, &f, e);
	if (r == 0 && f && f->container && !is_archive(f)) {
		r = find_end(decoded, e);
	} else if (r == 0 && f && f->probe) {
		decoded->size = min_u64(decoded->bound, max_u64(decoded->size, ROOM_MOST));
	}
	return r;
}

/* Opens a container over *image, and what keeps its content over that. *image is then the topmost
 * layer, also on failure, and opts the options for what is inside. */
static int enter(
	const struct format *f, struct format_opts *opts, struct image **image, struct err *e)
{
	struct image *decoded = NULL;
	struct image *kept = NULL;
	int r = f->open(*image, opts, &decoded, e);

	if (r < 0) {
		return r;
	}
	assert(decoded);
	*image = decoded;
	opts->format = behind(opts->format);
	if (is_archive(f)) {
		opts->blobs = tar_member_blobs(decoded, opts->blobs);
		opts->member = NULL;
		return 0;
	}
	opts->blobs = NULL;
	r = make_room(decoded, opts->format, e);
	if (r == 0 && opts->keep) {
		r = opts->keep(opts->ctx, decoded, f->name, &kept, &opts->blobs, e);
		*image = r == 0 ? kept : decoded;
	}
	return r;
}

static int enter_another(unsigned int *containers, const struct format *f, struct format_opts *opts,
	struct image **image, struct err *e)
{
	if (++*containers > FORMAT_CHAIN_MAX) {
		return err_set(
			e, -ENOTSUP, "more than %d containers in each other", FORMAT_CHAIN_MAX);
	}
	return enter(f, opts, image, e);
}

/* Closes the layers from @top down to, and not with, @below. */
static void close_above(struct image *top, struct image *below)
{
	struct image *last = top;

	if (top == below) {
		return;
	}
	while (last->below != below) {
		last = last->below;
	}
	last->borrows_below = true;
	image_close(top);
}

int format_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct format_opts mine = *opts;
	struct image *image = below;
	const struct format *f = NULL;
	unsigned int containers = 0;
	int r = choose(image, mine.format, &f, e);

	while (r == 0 && f->container) {
		r = enter_another(&containers, f, &mine, &image, e);
		r = r < 0 ? r : choose(image, mine.format, &f, e);
	}
	if (r == 0 && mine.member) {
		r = err_set(e, -ENOENT, "there is no tar archive in it that could have a file %s",
			mine.member);
	}
	if (r == 0) {
		r = f->open(image, &mine, ret, e);
	}
	if (r < 0) {
		close_above(image, below);
	}
	return r;
}

int format_unpack(struct image *below, const struct format_opts *opts, struct image **ret,
	bool *ret_archive, struct err *e)
{
	struct format_opts mine = *opts;
	struct image *image = below;
	const struct format *f = NULL;
	unsigned int containers = 0;
	int r;

	mine.format = NULL;
	r = probe(image, &f, e);
	while (r == 0 && f->container && !is_archive(f)) {
		r = f->open ? enter_another(&containers, f, &mine, &image, e) : refuse(f, e);
		r = r < 0 ? r : probe(image, &f, e);
	}
	if (r < 0) {
		close_above(image, below);
		return r;
	}
	*ret = image;
	*ret_archive = is_archive(f);
	return 0;
}

bool format_is_container(const char *name)
{
	const struct format *f = find(name);

	return f && f->container;
}

bool format_is_known(const char *name)
{
	const struct format *f = find(name);

	while (f && f->open && behind(name)) {
		if (!f->container) {
			return false; /* nothing is in a disk */
		}
		name = behind(name);
		f = find(name);
	}
	return f && f->open;
}

const char *format_names(void)
{
	return "raw, qcow2, vmdk, vhd, vhdx, vdi, gzip, xz, zstd, tar";
}
