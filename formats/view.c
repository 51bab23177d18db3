/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for the disk from the top layer down. */
#include "formats/view.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "formats/layer.h"

#define DISK_DIR "/disk"
/* Hard links that lead to hard links. */
#define HOPS_MAX 8U
/* Of the names in a message. */
#define NAMES_ROOM 160U

struct view {
	const struct view_opts *opts;
	struct layer **layers; /* NULL: not opened yet */
};

/* What one search looks for, and what it has found. */
struct search {
	const char *member; /* NULL: the only one in DISK_DIR */
	struct tree *tree;
	struct tree_found found;
	char path[TREE_PATH_MAX]; /* of what was found */
	char names[NAMES_ROOM];   /* in DISK_DIR */
};

enum verdict {
	NOTHING_YET, /* lower layers may have it */
	CANDIDATE,   /* found, but lower layers may have another */
	FOUND,
	FAILED, /* with an error */
};

static bool is_file(const struct tree_found *f)
{
	return f->kind == TREE_FILE || f->kind == TREE_HARDLINK;
}

/* --- judging what is there so far --- */

static enum verdict no_disk(struct search *s, struct err *e)
{
	struct tree_found root;
	const char *first;
	bool more;

	s->names[0] = '\0';
	if (tree_find(s->tree, "/", &root) == TREE_IS) {
		tree_list(s->tree, &root, s->names, sizeof(s->names), &first, &more);
	}
	err_set(e, -EBADMSG,
		"the image has no file in " DISK_DIR
		", so it is no containerDisk (it has: %s); --member PATH picks a file",
		s->names[0] ? s->names : "nothing");
	return FAILED;
}

static enum verdict judge_member(struct search *s, struct err *e)
{
	switch (tree_find(s->tree, s->member, &s->found)) {
	case TREE_MAYBE:
		return NOTHING_YET;
	case TREE_CIRCLES:
		err_set(e, -EBADMSG, "%s: too many symbolic links in the image", s->member);
		return FAILED;
	case TREE_IS_NOT:
		err_set(e, -ENOENT, "there is no file %s in the image", s->member);
		return FAILED;
	case TREE_IS:
		break;
	}
	if (!is_file(&s->found)) {
		err_set(e, -EBADMSG, "%s is no regular file in the image", s->member);
		return FAILED;
	}
	snprintf(s->path, sizeof(s->path), "%s", s->member);
	return FOUND;
}

/* @name is the only one in the directory so far. */
static enum verdict judge_only(struct search *s, const char *name, bool more, struct err *e)
{
	enum tree_answer answer;

	snprintf(s->path, sizeof(s->path), DISK_DIR "/%s", name);
	answer = tree_find(s->tree, s->path, &s->found);
	if (answer == TREE_MAYBE) {
		return NOTHING_YET;
	}
	if (answer != TREE_IS || !is_file(&s->found)) {
		err_set(e, -EBADMSG, "%s, the only thing in " DISK_DIR ", is no file of the image",
			s->path);
		return FAILED;
	}
	return more ? CANDIDATE : FOUND;
}

static enum verdict judge_disk(struct search *s, struct err *e)
{
	enum tree_answer answer = tree_find(s->tree, DISK_DIR, &s->found);
	const char *first = NULL;
	bool more = false;
	size_t count;

	if (answer == TREE_MAYBE) {
		return NOTHING_YET;
	}
	if (answer != TREE_IS || s->found.kind != TREE_DIR) {
		return no_disk(s, e);
	}
	count = tree_list(s->tree, &s->found, s->names, sizeof(s->names), &first, &more);
	if (count > 1) {
		err_set(e, -EBADMSG,
			"the image has %zu files in " DISK_DIR
			", and a containerDisk has one: %s; --member " DISK_DIR "/NAME picks one",
			count, s->names);
		return FAILED;
	}
	if (count == 1) {
		return judge_only(s, first, more, e);
	}
	return more ? NOTHING_YET : no_disk(s, e);
}

static enum verdict judge(struct search *s, struct err *e)
{
	return s->member ? judge_member(s, e) : judge_disk(s, e);
}

/* --- going through the layers --- */

static int need_layer(struct view *v, size_t i, struct err *e)
{
	struct layer *l = NULL;
	int r;

	if (v->layers[i]) {
		return 0;
	}
	r = v->opts->open(v->opts->ctx, i, &l, e);
	if (r == 0 && !layer_is_archive(l)) {
		layer_close(l);
		r = err_set(e, -ENOTSUP, "it is no tar archive");
	}
	if (r < 0) {
		return err_wrap(e, r, "layer %zu of %zu", i + 1, v->opts->layers);
	}
	v->layers[i] = l;
	return 0;
}

/* In the middle of a layer nothing is certain yet. */
static bool seems_found(struct search *s)
{
	enum verdict verdict = judge(s, NULL);

	return verdict == FOUND || verdict == CANDIDATE;
}

/* Adds what layer @i has to the tree. */
static int add_layer(struct view *v, struct search *s, size_t i, bool satisfied, struct err *e)
{
	CLEANUP(layer_walk_freep) struct layer_walk *w = NULL;
	struct tree_entry entry;
	int r = layer_walk_new(v->layers[i], &w, e);

	if (r < 0) {
		return r;
	}
	if (satisfied) {
		layer_walk_satisfied(w);
	}
	tree_begin(s->tree, i);
	while ((r = layer_walk_next(w, &entry, e)) > 0) {
		r = tree_add(s->tree, &entry, e);
		if (r < 0) {
			break;
		}
		if (!satisfied && entry.kind != TREE_DIR && seems_found(s)) {
			satisfied = true;
			layer_walk_satisfied(w);
		}
	}
	return r < 0 ? err_wrap(e, r, "layer %zu of %zu", i + 1, v->opts->layers) : 0;
}

/* Goes on with layer @i, and judges what is there then. */
static int search_layer(
	struct view *v, struct search *s, size_t i, enum verdict *verdict, struct err *e)
{
	bool satisfied = *verdict == CANDIDATE;
	struct err why = { 0 };
	int r = need_layer(v, i, &why);

	if (r == -ENOTSUP && satisfied) {
		log_debug("%s", why.text);
		return 0;
	}
	if (r < 0) {
		return err_set(e, r, "%s", why.text);
	}
	r = add_layer(v, s, i, satisfied, e);
	if (r < 0) {
		return r;
	}
	*verdict = judge(s, &why);
	return *verdict == FAILED ? err_set(e, why.code, "%s", why.text) : 0;
}

/* Searches in the layers from @top down to the base. */
static int search(struct view *v, size_t top, struct search *s, struct err *e)
{
	enum verdict verdict = NOTHING_YET;
	int r = 0;

	for (size_t i = top + 1; r == 0 && i-- > 0 && verdict != FOUND;) {
		r = search_layer(v, s, i, &verdict, e);
	}
	assert(r < 0 || verdict == FOUND || verdict == CANDIDATE);
	return r;
}

/* The file that @member is in the layers up to *top, which becomes the one that has it. A hard link
 * leads on to another name in the layers up to its own. */
static int find_file(struct view *v, struct search *s, struct err *e)
{
	size_t top = v->opts->layers - 1;
	char link[TREE_PATH_MAX];

	s->member = v->opts->member;
	for (unsigned int hop = 0; hop <= HOPS_MAX; hop++) {
		int r = tree_new(&s->tree) < 0 ? err_set(e, -ENOMEM, "out of memory")
					       : search(v, top, s, e);

		if (r == 0 && s->found.kind == TREE_HARDLINK) {
			snprintf(link, sizeof(link), "%s", s->found.link);
		}
		tree_free(s->tree);
		s->tree = NULL;
		if (r < 0) {
			return hop > 0 ? err_wrap(e, r, "a hard link") : r;
		}
		if (s->found.kind == TREE_FILE) {
			return 0;
		}
		top = s->found.layer;
		s->member = link;
	}
	return err_set(e, -EBADMSG, "%s: too many hard links in the image", s->path);
}

int view_open(const struct view_opts *opts, struct image **ret, struct err *e)
{
	struct view v = { .opts = opts };
	struct search *s = calloc(1, sizeof(*s));
	int r = 0;

	if (opts->layers == 0) {
		r = err_set(e, -EBADMSG, "the image has no layers");
	} else {
		v.layers = calloc(opts->layers, sizeof(struct layer *));
	}
	if (r == 0 && (!s || !v.layers)) {
		r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0) {
		r = find_file(&v, s, e);
	}
	if (r == 0) {
		r = layer_file_open(v.layers[s->found.layer], s->found.ref, s->path, ret, e);
	}
	if (r == 0) {
		v.layers[s->found.layer] = NULL;
	}
	for (size_t i = 0; v.layers && i < opts->layers; i++) {
		layer_close(v.layers[i]);
	}
	free(v.layers);
	free(s);
	return r;
}

static int lend_archive(void *ctx, size_t i, struct layer **ret, struct err *e)
{
	(void)i;
	return layer_of_archive(ctx, ret, e);
}

int view_member_open(struct image *archive, const char *member, struct image **ret, struct err *e)
{
	const struct view_opts opts = {
		.layers = 1,
		.open = lend_archive,
		.ctx = archive,
		.member = member,
	};

	return view_open(&opts, ret, e);
}
