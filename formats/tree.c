/* SPDX-License-Identifier: Apache-2.0 */
/* A hash of nodes by parent and name; rules of layers at each addition. */
#include "formats/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"
#define META     ".wh..wh."

struct tree_node {
	struct tree_node *parent;
	struct tree_node *chain; /* of the hash bucket */
	struct tree_node *child; /* the first of the directory's */
	struct tree_node *last;  /* the last of them */
	struct tree_node *next;  /* of the parent's */
	struct tree_node *made;  /* the one made before, to free all */
	enum tree_kind kind;
	size_t layer; /* that said so */
	size_t floor; /* of DIR: what layers below that have in it does not count */
	uint64_t ref;
	char *link;
	char name[];
};

struct tree {
	struct tree_node *root;
	struct tree_node *last_made;
	struct tree_node **buckets;
	size_t bucket_count; /* a power of two */
	size_t nodes;
	uint64_t text; /* bytes of names and links */
	size_t layer;  /* that entries are added to */
};

#define FIRST_BUCKETS 256U

static size_t hash(const struct tree_node *parent, const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL ^ (uintptr_t)parent;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3ULL;
	}
	return h ^ h >> 29;
}

static struct tree_node *child_of(
	const struct tree *t, const struct tree_node *dir, const char *name, size_t len)
{
	struct tree_node *n = t->buckets[hash(dir, name, len) & (t->bucket_count - 1)];

	while (n && (n->parent != dir || strncmp(n->name, name, len) != 0 || n->name[len])) {
		n = n->chain;
	}
	return n;
}

static void hang(struct tree *t, struct tree_node *n)
{
	size_t i = hash(n->parent, n->name, strlen(n->name)) & (t->bucket_count - 1);

	n->chain = t->buckets[i];
	t->buckets[i] = n;
}

/* Twice as many buckets. Without memory it stays slower. */
static void grow(struct tree *t)
{
	struct tree_node **more = calloc(2 * t->bucket_count, sizeof(struct tree_node *));

	if (!more) {
		return;
	}
	free(t->buckets);
	t->buckets = more;
	t->bucket_count *= 2;
	for (struct tree_node *n = t->last_made; n; n = n->made) {
		hang(t, n);
	}
}

static int count_text(struct tree *t, size_t len, struct err *e)
{
	t->text += len;
	if (t->text > TREE_TEXT_MAX) {
		return err_set(e, -EBADMSG, "the layers have names of more than %llu bytes in all",
			(unsigned long long)TREE_TEXT_MAX);
	}
	return 0;
}

static int make(struct tree *t, struct tree_node *dir, const char *name, size_t len,
	struct tree_node **ret, struct err *e)
{
	struct tree_node *n;
	int r = count_text(t, len, e);

	if (r < 0) {
		return r;
	}
	if (t->nodes == TREE_NODES_MAX) {
		return err_set(
			e, -EBADMSG, "the layers have more than %u files in all", TREE_NODES_MAX);
	}
	n = calloc(1, sizeof(*n) + len + 1);
	if (!n) {
		return err_set(e, -ENOMEM, "out of memory");
	}
	memcpy(n->name, name, len);
	n->parent = dir;
	n->layer = t->layer;
	n->made = t->last_made;
	t->last_made = n;
	*(dir->child ? &dir->last->next : &dir->child) = n;
	dir->last = n;
	hang(t, n);
	if (++t->nodes > t->bucket_count) {
		grow(t);
	}
	*ret = n;
	return 0;
}

int tree_new(struct tree **ret)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (t) {
		t->root = calloc(1, sizeof(*t->root) + 1);
		t->buckets = calloc(FIRST_BUCKETS, sizeof(struct tree_node *));
		t->bucket_count = FIRST_BUCKETS;
	}
	if (!t || !t->root || !t->buckets) {
		tree_free(t);
		return -ENOMEM;
	}
	t->root->kind = TREE_DIR;
	t->root->layer = SIZE_MAX;
	t->layer = SIZE_MAX;
	*ret = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t) {
		return;
	}
	while (t->last_made) {
		struct tree_node *n = t->last_made;

		t->last_made = n->made;
		free(n->link);
		free(n);
	}
	free(t->root);
	free(t->buckets);
	free(t);
}

void tree_freep(struct tree **t)
{
	tree_free(*t);
}

void tree_begin(struct tree *t, size_t layer)
{
	t->layer = layer;
}

/* --- paths --- */

/* @a, a slash and @b without "", "." and "..", which never lead out of the root. False: too long.
 * @ret begins with a slash unless it is empty. May be @a. */
static bool clean(const char *a, const char *b, char ret[TREE_PATH_MAX])
{
	char out[TREE_PATH_MAX];
	size_t n = 0;
	const char *p = a;

	for (;;) {
		size_t len;

		p += strspn(p, "/");
		if (!*p && b) {
			p = b;
			b = NULL;
			continue;
		}
		len = strcspn(p, "/");
		if (len == 0) {
			break;
		}
		if (len == 2 && memcmp(p, "..", 2) == 0) {
			while (n > 0 && out[--n] != '/') {
			}
		} else if (len > 1 || *p != '.') {
			if (n + len + 2 > TREE_PATH_MAX) {
				return false;
			}
			out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len;
	}
	out[n] = '\0';
	memcpy(ret, out, n + 1);
	return true;
}

/* @node's path, then the target of its link, then @rest. */
static bool follow(const struct tree_node *node, const char *rest, char ret[TREE_PATH_MAX])
{
	char path[TREE_PATH_MAX] = "";
	size_t at = TREE_PATH_MAX - 1;

	if (node->link[0] == '/') {
		return clean(node->link, rest, ret);
	}
	path[at] = '\0';
	for (const struct tree_node *d = node->parent; d->parent; d = d->parent) {
		size_t n = strlen(d->name);

		if (n + 1 > at) {
			return false;
		}
		at -= n;
		memcpy(path + at, d->name, n);
		path[--at] = '/';
	}
	return clean(path + at, node->link, path) && clean(path, rest, ret);
}

/* --- adding --- */

/* Whether the layer that is being added to cannot add to @dir. */
static bool closed(const struct tree *t, const struct tree_node *dir)
{
	return t->layer < dir->floor;
}

static void raise_floor(const struct tree *t, struct tree_node *dir)
{
	if (dir->floor < t->layer) {
		dir->floor = t->layer;
	}
}

/* What is in @n, a directory of this layer, is gone. */
static void empty(struct tree_node *n)
{
	for (struct tree_node *c = n->child; c; c = c->next) {
		c->kind = TREE_GONE;
	}
}

/* @n, which is of this layer, is a directory from now on. */
static void become_dir(const struct tree *t, struct tree_node *n)
{
	if (n->kind != TREE_DIR) {
		n->kind = TREE_DIR;
		raise_floor(t, n);
	}
}

/* Steps into the directory @name of *dir, which is made if nobody has said anything of it. 1:
 * entered; 0: what this layer has there is hidden; 2: there is a link in the way, *dir. */
static int enter(
	struct tree *t, struct tree_node **dir, const char *name, size_t len, struct err *e)
{
	struct tree_node *n = child_of(t, *dir, name, len);
	int r;

	if (!n) {
		if (closed(t, *dir)) {
			return 0;
		}
		r = make(t, *dir, name, len, &n, e);
		if (r < 0) {
			return r;
		}
	} else if (n->layer == t->layer && n->kind == TREE_SYMLINK) {
		*dir = n;
		return 2;
	} else if (n->layer == t->layer) {
		become_dir(t, n);
	} else if (n->kind != TREE_DIR) {
		return 0;
	}
	*dir = n;
	return closed(t, n) ? 0 : 1;
}

/* The directory of @path, which is cleaned; *name is what is behind it. Links of this very layer
 * are followed, as they are when it is unpacked. 1: found; 0: hidden. */
static int enter_parents(struct tree *t, char path[TREE_PATH_MAX], struct tree_node **ret,
	const char **name, struct err *e)
{
	struct tree_node *dir = t->root;
	const char *p = path + 1;
	unsigned int links = 0;
	const char *slash;

	while ((slash = strchr(p, '/'))) {
		int r = enter(t, &dir, p, (size_t)(slash - p), e);

		if (r <= 0) {
			return r;
		}
		p = slash + 1;
		if (r == 2) {
			if (++links > TREE_LINKS_MAX || !follow(dir, slash, path) || !path[0]) {
				return 0;
			}
			dir = t->root;
			p = path + 1;
		}
	}
	*ret = dir;
	*name = p;
	return 1;
}

static int white_out(struct tree *t, struct tree_node *dir, const char *name, struct err *e)
{
	struct tree_node *n = child_of(t, dir, name, strlen(name));
	int r;

	if (n) {
		if (n->kind == TREE_DIR) {
			raise_floor(t, n);
		}
		return 0;
	}
	r = make(t, dir, name, strlen(name), &n, e);
	if (r == 0) {
		n->kind = TREE_GONE;
	}
	return r;
}

static int fill_in(
	struct tree *t, struct tree_node *n, const struct tree_entry *entry, struct err *e)
{
	char *link = NULL;

	if (entry->kind == TREE_SYMLINK || entry->kind == TREE_HARDLINK) {
		int r = count_text(t, strlen(entry->link), e);

		if (r < 0) {
			return r;
		}
		link = strdup(entry->link);
		if (!link) {
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	if (n->kind == TREE_DIR) {
		empty(n);
	}
	free(n->link);
	n->link = link;
	n->kind = entry->kind;
	n->ref = entry->ref;
	return 0;
}

static int add_in(struct tree *t, struct tree_node *dir, const char *name,
	const struct tree_entry *entry, struct err *e)
{
	struct tree_node *n = child_of(t, dir, name, strlen(name));
	int r = 0;

	if (n && n->layer != t->layer) {
		/* A file between two directories parts them. */
		if (n->kind == TREE_DIR && entry->kind != TREE_DIR) {
			raise_floor(t, n);
		}
		return 0;
	}
	if (n && entry->kind == TREE_DIR) {
		become_dir(t, n);
		return 0;
	}
	if (!n) {
		r = make(t, dir, name, strlen(name), &n, e);
	}
	if (r == 0 && entry->kind != TREE_DIR) {
		r = fill_in(t, n, entry, e);
	}
	return r;
}

int tree_add(struct tree *t, const struct tree_entry *entry, struct err *e)
{
	struct tree_node *dir = NULL;
	const char *name = NULL;
	char path[TREE_PATH_MAX];
	int r;

	if (!clean(entry->name, NULL, path)) {
		return err_set(e, -EBADMSG, "a name in a layer has more than %u bytes: %.60s...",
			TREE_PATH_MAX, entry->name);
	}
	if (!path[0]) {
		return 0; /* the root */
	}
	r = enter_parents(t, path, &dir, &name, e);
	if (r <= 0) {
		return r;
	}
	if (strcmp(name, OPAQUE) == 0) {
		raise_floor(t, dir);
		return 0;
	}
	if (strncmp(name, META, strlen(META)) == 0) {
		return 0; /* of aufs, for itself */
	}
	if (closed(t, dir)) {
		return 0;
	}
	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0) {
		return name[4] ? white_out(t, dir, name + 4, e) : 0;
	}
	return add_in(t, dir, name, entry, e);
}

/* --- looking --- */

/* Whether lower layers may have something in @dir that is not there so far. */
static bool open_below(const struct tree *t, const struct tree_node *dir)
{
	return t->layer > dir->floor;
}

enum tree_answer tree_find(const struct tree *t, const char *path, struct tree_found *ret)
{
	const struct tree_node *n = t->root;
	char buf[TREE_PATH_MAX];
	const char *p = buf;
	unsigned int links = 0;

	if (!clean(path, NULL, buf)) {
		return TREE_IS_NOT;
	}
	while (*p) {
		size_t len = strcspn(++p, "/");
		const struct tree_node *dir = n;

		if (dir->kind != TREE_DIR) {
			return TREE_IS_NOT;
		}
		n = child_of(t, dir, p, len);
		if (!n) {
			return open_below(t, dir) ? TREE_MAYBE : TREE_IS_NOT;
		}
		p += len;
		if (n->kind == TREE_GONE) {
			return TREE_IS_NOT;
		}
		if (n->kind == TREE_SYMLINK) {
			if (++links > TREE_LINKS_MAX) {
				return TREE_CIRCLES;
			}
			if (!follow(n, p, buf)) {
				return TREE_IS_NOT;
			}
			n = t->root;
			p = buf;
		}
	}
	*ret = (struct tree_found){
		.kind = n->kind, .layer = n->layer, .ref = n->ref, .link = n->link, .node = n
	};
	return TREE_IS;
}

size_t tree_list(const struct tree *t, const struct tree_found *dir, char *text, size_t room,
	const char **ret_first, bool *more)
{
	size_t count = 0;
	size_t used = 0;

	*text = '\0';
	for (const struct tree_node *n = dir->node->child; n; n = n->next) {
		if (n->kind == TREE_GONE) {
			continue;
		}
		if (count++ == 0) {
			*ret_first = n->name;
		}
		if (used < room) {
			used += (size_t)snprintf(
				text + used, room - used, "%s%s", count > 1 ? ", " : "", n->name);
		}
	}
	*more = open_below(t, dir->node);
	return count;
}
