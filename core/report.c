/* SPDX-License-Identifier: Apache-2.0 */
/* A growable list of facts. */
#include "core/report.h"

#include <stdlib.h>
#include <string.h>

static struct report_item *append(struct report *r, enum report_kind kind, const char *key)
{
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 32;
		struct report_item *items = reallocarray(r->items, room, sizeof(*items));

		if (!items) {
			return NULL;
		}
		r->items = items;
		r->room = room;
	}
	r->items[r->count] = (struct report_item){ .kind = kind, .key = key };
	return &r->items[r->count++];
}

void report_layer(struct report *r, const char *name)
{
	append(r, REPORT_LAYER, name);
}

void report_u64(struct report *r, const char *key, uint64_t value)
{
	struct report_item *item = append(r, REPORT_U64, key);

	if (item) {
		item->number = value;
	}
}

void report_bool(struct report *r, const char *key, bool value)
{
	struct report_item *item = append(r, REPORT_BOOL, key);

	if (item) {
		item->number = value;
	}
}

void report_text(struct report *r, const char *key, const char *value)
{
	char *copy = strdup(value);
	struct report_item *item = copy ? append(r, REPORT_TEXT, key) : NULL;

	if (item) {
		item->text = copy;
	} else {
		free(copy);
	}
}

const struct report_item *report_find(const struct report *r, const char *layer, const char *key)
{
	const char *at = "";

	for (size_t i = 0; i < r->count; i++) {
		const struct report_item *item = &r->items[i];

		if (item->kind == REPORT_LAYER) {
			at = item->key;
		} else if (strcmp(item->key, key) == 0 && (!layer || strcmp(at, layer) == 0)) {
			return item;
		}
	}
	return NULL;
}

void report_clear(struct report *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->items[i].text);
	}
	free(r->items);
	*r = REPORT_INIT;
}
