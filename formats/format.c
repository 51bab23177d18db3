/* SPDX-License-Identifier: Apache-2.0 */
/* The table of formats: one row each, the first whose recogniser agrees wins. */
#include "formats/format.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/probe.h"
#include "formats/qcow2.h"
#include "formats/raw.h"
#include "formats/vdi.h"
#include "formats/vhd.h"
#include "formats/vhdx.h"
#include "formats/vmdk.h"

/* A smaller thing is no disk: it has not even one sector. */
#define SMALLEST_DISK 512U

struct format {
	const char *name;
	probe_fn *probe; /* NULL: fits everything; the last row */

	/* NULL: recognised, so that it is not mistaken for a disk, and refused. */
	int (*open)(struct image *below, const struct format_opts *opts, struct image **ret,
		struct err *e);
	const char *refusal; /* NULL: "format NAME is not supported by this version" */
	int code;            /* with `refusal` */
};

static const struct format formats[] = {
	{ "qcow2", probe_qcow2, qcow2_open, NULL, 0 },
	{ "qcow", probe_qcow, NULL, "format qcow (version 1) is not supported, only qcow2",
		-ENOTSUP },
	{ "qed", probe_qed, NULL, NULL, 0 },
	{ "vmdk", probe_vmdk, vmdk_open, NULL, 0 },
	{ "vhdx", probe_vhdx, vhdx_open, NULL, 0 },
	{ "vhd", probe_vhd, vhd_open, NULL, 0 },
	{ "vdi", probe_vdi, vdi_open, NULL, 0 },
	{ "parallels", probe_parallels, NULL, NULL, 0 },
	{ "gzip", probe_gzip, NULL, NULL, 0 },
	{ "xz", probe_xz, NULL, NULL, 0 },
	{ "zstd", probe_zstd, NULL, NULL, 0 },
	{ "bzip2", probe_bzip2, NULL, NULL, 0 },
	{ "lzma", probe_lzma, NULL, NULL, 0 },
	{ "lz4", probe_lz4, NULL, NULL, 0 },
	{ "zip", probe_zip, NULL, NULL, 0 },
	{ "7z", probe_7z, NULL, NULL, 0 },
	{ "tar", probe_tar, NULL, NULL, 0 },
	{ "html", probe_html, NULL, "this is a web page, not a disk image", -EBADMSG },
	{ "xml", probe_xml, NULL, "this is an XML document, not a disk image", -EBADMSG },
	{ "raw", NULL, raw_open, NULL, 0 },
};

static const struct format *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strcmp(formats[i].name, name) == 0) {
			return &formats[i];
		}
	}
	return NULL;
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
	struct probe_view v = { .head = head, .len = min_u64(img->size, PROBE_HEAD) };
	const struct format *f;
	int r = image_read_at(img, head, v.len, 0, e);

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
static int choose(struct image *below, const struct format_opts *opts, const struct format **ret,
	struct err *e)
{
	const struct format *f = NULL;
	int r;

	if (opts->format) {
		f = find(opts->format);
		if (!f || !f->open) {
			return err_set(e, -ENOTSUP, "format %s is not supported, only %s",
				opts->format, format_names());
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

int format_open(
	struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	const struct format *f = NULL;
	int r = choose(below, opts, &f, e);

	if (r < 0) {
		return r;
	}
	assert(f);
	return f->open(below, opts, ret, e);
}

bool format_is_known(const char *name)
{
	const struct format *f = find(name);

	return f && f->open;
}

const char *format_names(void)
{
	return "raw, qcow2, vmdk, vhd, vhdx, vdi";
}
