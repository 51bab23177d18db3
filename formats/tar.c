/* SPDX-License-Identifier: Apache-2.0 */
/* Which file of an archive is the disk. */
#include "formats/tar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/layer.h"
#include "formats/tar_walk.h"

#define SECTOR 512U
/* A file without a disk format's signature is taken for a disk beside nothing else when smaller. */
#define SMALL_RAW  MIB(1)
#define NAMES_ROOM 200U
/* More files than that are no disks in an archive but somebody's file system. */
#define FILES_MAX 10000U

/* How much a file is a disk. */
enum rank {
	NO_DISK,
	MAY_BE, /* bytes that are no text */
	IS_DISK,
	RANKS
};

/* The files of one rank. */
struct candidates {
	unsigned int count;
	uint64_t header; /* of the last */
	char name[TREE_PATH_MAX];
	char names[NAMES_ROOM]; /* of all */
};

struct scan {
	struct image *archive;
	struct candidates of[RANKS];
};

/* Disks begin with code and tables, or zeros. */
static bool is_text(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] < 0x20 && !strchr("\t\n\r\f", p[i] ? p[i] : 1)) {
			return false;
		}
	}
	return true;
}

static int rank_raw(struct image *file, enum rank *ret, struct err *e)
{
	uint8_t head[SECTOR];
	int r = image_read_at(file, head, sizeof(head), 0, e);

	if (r == 0) {
		*ret = is_text(head, sizeof(head)) ? NO_DISK
		       : file->size < SMALL_RAW    ? MAY_BE
						   : IS_DISK;
	}
	return r;
}

static int rank_file(struct image *file, enum rank *ret, struct err *e)
{
	const char *format = NULL;
	int r;

	if (file->size < SECTOR) {
		*ret = NO_DISK;
		return 0;
	}
	r = format_probe(file, &format, e);
	if (r < 0) {
		return r;
	}
	if (strcmp(format, "raw") == 0) {
		return rank_raw(file, ret, e);
	}
	*ret = strcmp(format, "html") == 0 || strcmp(format, "xml") == 0 ? NO_DISK : IS_DISK;
	return 0;
}

static void note(struct candidates *c, const char *name, uint64_t header)
{
	size_t used = strlen(c->names);

	if (c->count > 0 && strcmp(c->name, name) == 0) {
		c->header = header; /* the last of one name wins */
		return;
	}
	snprintf(c->names + used, sizeof(c->names) - used, "%s%s", c->count ? ", " : "", name);
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->header = header;
	c->count++;
}

static int judge(struct scan *s, struct tar_walk *w, const struct tar_entry *entry, struct err *e)
{
	struct tar_map map = tar_walk_take_map(w);
	struct image *file = NULL;
	enum rank rank = NO_DISK;
	int r = tar_member_open(s->archive, &map, entry->name, &file, e);

	if (r == 0) {
		file->borrows_below = true;
		r = rank_file(file, &rank, e);
	}
	if (r == 0) {
		note(&s->of[rank], entry->name, entry->header);
	}
	image_close(file);
	tar_map_clear(&map);
	return r;
}

/* Looks at all files, or, of a compressed archive that has shown a disk, at those that are near. */
static int scan_files(struct scan *s, struct err *e)
{
	CLEANUP(tar_walk_freep) struct tar_walk *w = NULL;
	const struct candidates *disks = &s->of[IS_DISK];
	const struct tar_entry *entry = NULL;
	bool decoded = layer_is_decoded(s->archive);
	unsigned int files = 0;
	int r = tar_walk_new(s->archive, 0, &w, e);

	while (r == 0 && (r = tar_walk_next(w, &entry, e)) > 0) {
		r = 0;
		if (entry->kind == TAR_FILE) {
			r = ++files <= FILES_MAX
				    ? judge(s, w, entry, e)
				    : err_set(e, -EBADMSG,
					      "the tar archive has more than %u files, too many to "
					      "look for a disk among them; --member PATH picks one",
					      FILES_MAX);
		}
		if (decoded && disks->count > 0 && tar_walk_at(w) - disks->header > LAYER_LOOK_ON) {
			break;
		}
	}
	return r;
}

static int choose(struct scan *s, const struct candidates **ret, struct err *e)
{
	const struct candidates *c = &s->of[s->of[IS_DISK].count > 0 ? IS_DISK : MAY_BE];

	if (c->count > 1) {
		return err_set(e, -EBADMSG,
			"the tar archive has %u files that may be disks: %s; --member PATH picks "
			"one",
			c->count, c->names);
	}
	if (c->count == 0) {
		return err_set(e, -EBADMSG,
			"the tar archive has no file that is a disk image (it has: %s)",
			s->of[NO_DISK].count > 0 ? s->of[NO_DISK].names : "nothing");
	}
	*ret = c;
	return 0;
}

static int open_only(struct image *below, struct scan *s, struct image **ret, struct err *e)
{
	const struct candidates *c = NULL;
	struct layer *l = NULL;
	int r = scan_files(s, e);

	if (r == 0) {
		r = choose(s, &c, e);
	}
	if (r == 0) {
		r = layer_of_archive(below, &l, e);
	}
	if (r == 0) {
		r = layer_file_open(l, c->header, c->name, ret, e);
		if (r < 0) {
			layer_close(l);
		}
	}
	return r;
}

int tar_open(struct image *below, const struct format_opts *opts, struct image **ret, struct err *e)
{
	struct scan *s;
	int r;

	if (opts->member) {
		return view_member_open(below, opts->member, ret, e);
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->archive = below;
	r = open_only(below, s, ret, e);
	free(s);
	return r;
}
