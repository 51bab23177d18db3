/* SPDX-License-Identifier: Apache-2.0 */
/* One face for archives and tables of contents. */
#include "formats/layer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "formats/chunked.h"
#include "formats/tar_header.h"
#include "formats/tar_member.h"
#include "formats/tar_walk.h"
#include "formats/toc_find.h"

/* What tar writes at once when it is not told otherwise: 20 blocks. */
#define EMPTY_MAX (20 * TAR_BLOCK)

struct layer {
	struct image *image; /* the archive, or with a table the blob; owned unless borrowed */
	bool borrowed;
	bool archive;
	bool has_toc;
	enum toc_kind kind;
	struct toc toc;
	bool (*sha256)(const void *buf, size_t len, uint8_t ret[TOC_DIGEST]);
};

struct layer_walk {
	struct layer *layer;
	struct tar_walk *tar; /* NULL: by the table */
	size_t next;          /* entry of the table */
	bool decoded;
	bool satisfied;
	uint64_t header;    /* of the last entry */
	uint64_t mark;      /* where the walk was when it was satisfied */
	unsigned int reads; /* likewise */
};

bool layer_is_decoded(struct image *img)
{
	for (; img; img = img->below) {
		uint64_t off = 0;
		uint64_t len = 0;

		if (img->size > 0 && image_unit_at(img, 0, &off, &len, NULL) == 0 && len > 0) {
			return true;
		}
	}
	return false;
}

/* With its table of contents, if it has one that can be used. */
static int open_toc(
	struct layer *l, struct image *blob, const struct layer_opts *opts, struct err *e)
{
	struct err why = { 0 };
	int r = opts->sha256 ? toc_find(blob, opts, &l->toc, &l->kind, &why) : -ENOENT;

	if (r == -ENOENT || r == -ENOTSUP) {
		log_debug("layer %s: %s", blob->id, why.text);
		return 0;
	}
	if (r < 0) {
		return err_set(e, r, "%s", why.text);
	}
	l->has_toc = true;
	l->archive = true;
	l->image = blob;
	l->sha256 = opts->sha256;
	return 0;
}

/* An archive of nothing is only the zeros that end every archive: two blocks, or as many as tar
 * writes at once. A disk is larger than that. */
static bool is_empty(struct image *image)
{
	uint8_t all[EMPTY_MAX + 1];
	size_t len = 0;

	return image->size > 0 && image_read_head(image, all, sizeof(all), &len, NULL) == 0 &&
	       len > 0 && len <= EMPTY_MAX && len % TAR_BLOCK == 0 && is_zero(all, len);
}

int layer_open(struct image *blob, const struct layer_opts *opts, struct layer **ret, struct err *e)
{
	struct layer *l = calloc(1, sizeof(*l));
	int r = l ? open_toc(l, blob, opts, e) : err_set(e, -ENOMEM, "out of memory");

	if (r == 0 && !l->has_toc) {
		r = format_unpack(blob, opts->format, &l->image, &l->archive, e);
	}
	if (r < 0) {
		free(l);
		return r;
	}
	l->archive = l->archive || is_empty(l->image);
	*ret = l;
	return 0;
}

int layer_of_archive(struct image *image, struct layer **ret, struct err *e)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (!l) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	l->image = image;
	l->archive = true;
	l->borrowed = true;
	*ret = l;
	return 0;
}

bool layer_is_archive(const struct layer *l)
{
	return l->archive;
}

struct image *layer_take_image(struct layer *l)
{
	struct image *image = l->image;

	l->image = NULL;
	layer_close(l);
	return image;
}

void layer_close(struct layer *l)
{
	if (l) {
		toc_clear(&l->toc);
		image_close(l->borrowed ? NULL : l->image);
		free(l);
	}
}

int layer_walk_new(struct layer *l, struct layer_walk **ret, struct err *e)
{
	struct layer_walk *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->layer = l;
	if (!l->has_toc) {
		w->decoded = layer_is_decoded(l->image);
		r = tar_walk_new(l->image, 0, &w->tar, e);
	}
	if (r < 0) {
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static enum tree_kind kind_of(enum tar_kind kind)
{
	static const enum tree_kind kinds[] = {
		[TAR_FILE] = TREE_FILE,
		[TAR_DIR] = TREE_DIR,
		[TAR_SYMLINK] = TREE_SYMLINK,
		[TAR_HARDLINK] = TREE_HARDLINK,
		[TAR_OTHER] = TREE_OTHER,
	};

	return kinds[kind];
}

static bool too_far(const struct layer_walk *w)
{
	if (!w->satisfied) {
		return false;
	}
	return w->decoded ? tar_walk_at(w->tar) - w->mark > LAYER_LOOK_ON
			  : tar_walk_reads(w->tar) - w->reads >= LAYER_LOOK_ON_READS;
}

static int next_in_toc(struct layer_walk *w, struct tree_entry *ret)
{
	const struct toc *toc = &w->layer->toc;
	const struct toc_entry *entry;

	if (w->next == toc->entry_count) {
		return 0;
	}
	entry = &toc->entries[w->next++];
	*ret = (struct tree_entry){
		.kind = entry->kind,
		.name = toc->text + entry->name,
		.link = toc->text + entry->link,
		.ref = entry->file,
	};
	return 1;
}

int layer_walk_next(struct layer_walk *w, struct tree_entry *ret, struct err *e)
{
	const struct tar_entry *entry = NULL;
	int r;

	if (!w->tar) {
		return next_in_toc(w, ret);
	}
	if (too_far(w)) {
		return 0;
	}
	r = tar_walk_next(w->tar, &entry, e);
	if (r <= 0) {
		return r;
	}
	w->header = entry->header;
	*ret = (struct tree_entry){
		.kind = kind_of(entry->kind),
		.name = entry->name,
		.link = entry->link,
		.ref = entry->header,
	};
	return 1;
}

void layer_walk_satisfied(struct layer_walk *w)
{
	w->satisfied = true;
	w->mark = w->header;
	w->reads = w->tar ? tar_walk_reads(w->tar) : 0;
}

void layer_walk_free(struct layer_walk *w)
{
	if (w) {
		tar_walk_free(w->tar);
		free(w);
	}
}

void layer_walk_freep(struct layer_walk **w)
{
	layer_walk_free(*w);
}

static int open_in_tar(
	struct layer *l, uint64_t ref, const char *name, struct image **ret, struct err *e)
{
	struct tar_walk *w = NULL;
	const struct tar_entry *entry = NULL;
	struct tar_map map = { 0 };
	int r = tar_walk_new(l->image, ref, &w, e);

	if (r < 0) {
		return r;
	}
	r = tar_walk_next(w, &entry, e);
	assert(r <= 0 || entry->kind == TAR_FILE);
	if (r == 0) {
		r = err_set(e, -EBADMSG, "the tar archive ends where a file was");
	}
	if (r > 0) {
		map = tar_walk_take_map(w);
		r = tar_member_open(l->image, &map, name, ret, e);
	}
	tar_map_clear(&map);
	tar_walk_free(w);
	return r;
}

int layer_file_open(
	struct layer *l, uint64_t ref, const char *name, struct image **ret, struct err *e)
{
	const struct chunked_opts opts = {
		.kind = l->kind,
		.toc = &l->toc,
		.file = l->has_toc ? &l->toc.files[ref] : NULL,
		.name = name,
		.sha256 = l->sha256,
	};
	int r = l->has_toc ? chunked_open(l->image, &opts, ret, e)
			   : open_in_tar(l, ref, name, ret, e);

	if (r == 0) {
		l->image = NULL;
		layer_close(l);
	}
	return r;
}
