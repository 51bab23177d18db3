/* SPDX-License-Identifier: Apache-2.0 */
/* Builds trees from libyaml's events. */
#include "tools/yamltree.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/bytes.h"
#include "core/cleanup.h"

#define DEPTH_MAX  64
#define NODES_MAX  200000
#define ANCHOR_MAX 256

/* An anchor names the last node that was given it (YAML 1.1, section 3.2.2.2). */
struct anchor {
	char *name;
	struct yamltree_node *node;
};

struct builder {
	yaml_parser_t parser;
	struct yamltree tree;

	struct yamltree_node *open[DEPTH_MAX]; /* lists and maps that have not ended */
	size_t depth;

	struct anchor anchors[ANCHOR_MAX];
	size_t anchor_count;
};

/* Errors begin with their line; yamltree_parse() puts the path in front. */
static int refuse(unsigned int line, const char *why, struct err *e)
{
	return err_set(e, -EINVAL, "%u: %s", line, why);
}

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

/* Makes room for one more behind @count items: the room doubles whenever it is full. */
static int grow(struct yamltree_node ***items, size_t count)
{
	struct yamltree_node **more;

	if (count && !is_pow2(count)) {
		return 0;
	}
	more = reallocarray(*items, count ? count * 2 : 1, sizeof(**items));
	if (!more) {
		return -ENOMEM;
	}
	*items = more;
	return 0;
}

static struct yamltree_node *new_node(struct builder *b, enum yamltree_kind kind, unsigned int line)
{
	struct yamltree_node *node;

	if (grow(&b->tree.nodes, b->tree.node_count) < 0) {
		return NULL;
	}
	node = calloc(1, sizeof(*node));
	if (node) {
		node->kind = kind;
		node->line = line;
		b->tree.nodes[b->tree.node_count++] = node;
	}
	return node;
}

/* Keys are few in any map that means something; in one that does not, this must not take long. */
#define KEYS_MAX 512

static int check_key(
	const struct yamltree_node *map, const struct yamltree_node *key, struct err *e)
{
	if (key->kind != YAMLTREE_SCALAR) {
		return refuse(key->line, "a key must be a word", e);
	}
	if (key->plain && strcmp(key->text, "<<") == 0) {
		return refuse(key->line, "merge keys (<<) are not supported", e);
	}
	if (map->count >= KEYS_MAX * (size_t)2) {
		return refuse(key->line, "too many keys in one mapping", e);
	}
	for (size_t i = 0; i + 1 < map->count; i += 2) {
		if (strcmp(map->items[i]->text, key->text) == 0) {
			return err_set(e, -EINVAL,
				"%u: a key stands twice in one mapping, first in line %u",
				key->line, map->items[i]->line);
		}
	}
	return 0;
}

/* Puts @node where the document goes on: into the innermost open list or map, or at its root. */
static int place(struct builder *b, struct yamltree_node *node, struct err *e)
{
	struct yamltree_node *parent = b->depth ? b->open[b->depth - 1] : NULL;

	if (!parent) {
		if (grow(&b->tree.documents, b->tree.count) < 0) {
			return out_of_memory(e);
		}
		b->tree.documents[b->tree.count++] = node;
		return 0;
	}
	if (parent->kind == YAMLTREE_MAP && parent->count % 2 == 0) {
		int r = check_key(parent, node, e);

		if (r < 0) {
			return r;
		}
	}
	if (grow(&parent->items, parent->count) < 0) {
		return out_of_memory(e);
	}
	parent->items[parent->count++] = node;
	return 0;
}

static int remember(
	struct builder *b, const yaml_char_t *name, struct yamltree_node *node, struct err *e)
{
	struct anchor *a = b->anchors;

	if (!name) {
		return 0;
	}
	while (a < b->anchors + b->anchor_count && strcmp(a->name, (const char *)name) != 0) {
		a++;
	}
	if (a == b->anchors + ANCHOR_MAX) {
		return refuse(node->line, "too many anchors", e);
	}
	if (a == b->anchors + b->anchor_count) {
		a->name = strdup((const char *)name);
		if (!a->name) {
			return out_of_memory(e);
		}
		b->anchor_count++;
	}
	a->node = node;
	return 0;
}

static void forget_anchors(struct builder *b)
{
	for (size_t i = 0; i < b->anchor_count; i++) {
		free(b->anchors[i].name);
	}
	b->anchor_count = 0;
}

static int on_alias(struct builder *b, const yaml_event_t *event, unsigned int line, struct err *e)
{
	const char *name = (const char *)event->data.alias.anchor;
	struct yamltree_node *node = NULL;

	for (size_t i = 0; i < b->anchor_count; i++) {
		if (strcmp(b->anchors[i].name, name) == 0) {
			node = b->anchors[i].node;
		}
	}
	if (!node) {
		return refuse(line, "an alias (*) without its anchor (&)", e);
	}
	for (size_t i = 0; i < b->depth; i++) {
		if (b->open[i] == node) {
			return refuse(line, "an alias (*) stands within what it names", e);
		}
	}
	return place(b, node, e);
}

static int on_scalar(struct builder *b, const yaml_event_t *event, unsigned int line, struct err *e)
{
	const char *value = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	struct yamltree_node *node = new_node(b, YAMLTREE_SCALAR, line);
	int r;

	if (!node) {
		return out_of_memory(e);
	}
	if (memchr(value, '\0', len)) {
		return refuse(line, "a value holds a NUL character", e);
	}
	node->text = strndup(value, len);
	if (!node->text) {
		return out_of_memory(e);
	}
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	r = remember(b, event->data.scalar.anchor, node, e);
	return r < 0 ? r : place(b, node, e);
}

static int on_start(struct builder *b, enum yamltree_kind kind, const yaml_char_t *anchor,
	unsigned int line, struct err *e)
{
	struct yamltree_node *node;
	int r;

	if (b->depth == DEPTH_MAX) {
		return refuse(line, "nested too deeply", e);
	}
	node = new_node(b, kind, line);
	if (!node) {
		return out_of_memory(e);
	}
	r = remember(b, anchor, node, e);
	if (r == 0) {
		r = place(b, node, e);
	}
	if (r == 0) {
		b->open[b->depth++] = node;
	}
	return r;
}

static int on_event(struct builder *b, const yaml_event_t *event, struct err *e)
{
	unsigned int line = (unsigned int)event->start_mark.line + 1;

	if (b->tree.node_count >= NODES_MAX) {
		return refuse(line, "too many values", e);
	}
	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return on_alias(b, event, line, e);
	case YAML_SCALAR_EVENT:
		return on_scalar(b, event, line, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(b, YAMLTREE_LIST, event->data.sequence_start.anchor, line, e);
	case YAML_MAPPING_START_EVENT:
		return on_start(b, YAMLTREE_MAP, event->data.mapping_start.anchor, line, e);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		assert(b->depth > 0);
		b->depth--;
		return 0;
	case YAML_DOCUMENT_END_EVENT:
		forget_anchors(b);
		return 0;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_START_EVENT:
		break;
	}
	return 0;
}

/* Libyaml's own words, which do not quote the input. */
static int parser_error(const struct builder *b, struct err *e)
{
	const yaml_parser_t *p = &b->parser;

	if (p->error == YAML_MEMORY_ERROR) {
		return out_of_memory(e);
	}
	return err_set(e, -EINVAL, "%zu: not YAML: %s", p->problem_mark.line + 1,
		p->problem ? p->problem : "cannot be read");
}

/* The pairs of a map are counted as such from here on. */
static void settle(struct yamltree *tree)
{
	for (size_t i = 0; i < tree->node_count; i++) {
		if (tree->nodes[i]->kind == YAMLTREE_MAP) {
			tree->nodes[i]->count /= 2;
		}
	}
}

static void drop_empty(struct yamltree *tree)
{
	size_t kept = 0;

	for (size_t i = 0; i < tree->count; i++) {
		if (!yamltree_is_null(tree->documents[i])) {
			tree->documents[kept++] = tree->documents[i];
		}
	}
	tree->count = kept;
}

static int put_path(const char *path, struct err *e)
{
	char text[ERR_TEXT_MAX];

	if (e) {
		snprintf(text, sizeof(text), "%s", e->text);
		err_set(e, -EINVAL, "%s:%s", path, text);
	}
	return -EINVAL;
}

int yamltree_parse(
	const char *path, const char *text, size_t len, struct yamltree *ret, struct err *e)
{
	struct builder b = { 0 };
	bool done = false;
	int r = 0;

	if (len > YAMLTREE_SIZE_MAX) {
		return err_set(e, -EINVAL, "%s:1: larger than 4Mi", path);
	}
	if (!yaml_parser_initialize(&b.parser)) {
		return out_of_memory(e);
	}
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, len);
	while (r == 0 && !done) {
		yaml_event_t event;

		if (!yaml_parser_parse(&b.parser, &event)) {
			r = parser_error(&b, e);
			break;
		}
		done = event.type == YAML_STREAM_END_EVENT;
		r = on_event(&b, &event, e);
		yaml_event_delete(&event);
	}
	forget_anchors(&b);
	yaml_parser_delete(&b.parser);
	if (r < 0) {
		yamltree_clear(&b.tree);
		return r == -EINVAL ? put_path(path, e) : r;
	}
	settle(&b.tree);
	drop_empty(&b.tree);
	*ret = b.tree;
	return 0;
}

void yamltree_clear(struct yamltree *tree)
{
	for (size_t i = 0; i < tree->node_count; i++) {
		struct yamltree_node *node = tree->nodes[i];

		free_secret(node->text);
		free(node->items);
		free(node);
	}
	free(tree->nodes);
	free(tree->documents);
	*tree = (struct yamltree){ 0 };
}

const struct yamltree_node *yamltree_get(const struct yamltree_node *map, const char *key)
{
	if (!map || map->kind != YAMLTREE_MAP) {
		return NULL;
	}
	for (size_t i = 0; i < map->count; i++) {
		if (strcmp(map->items[2 * i]->text, key) == 0) {
			const struct yamltree_node *value = map->items[2 * i + 1];

			return yamltree_is_null(value) ? NULL : value;
		}
	}
	return NULL;
}

bool yamltree_is_null(const struct yamltree_node *node)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

	if (!node) {
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(nulls) && node->kind == YAMLTREE_SCALAR && node->plain;
		i++) {
		if (strcmp(node->text, nulls[i]) == 0) {
			return true;
		}
	}
	return false;
}

const char *yamltree_text(const struct yamltree_node *node)
{
	return node && node->kind == YAMLTREE_SCALAR && !yamltree_is_null(node) ? node->text : NULL;
}
