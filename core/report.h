/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the layers tell about themselves: an ordered list of (layer, key, value), filled by
 * image_report() and turned into JSON or a table by tools/. Keys are snake_case and stable: `status
 * --json` and `info --json` print them as they are; a key ends in its unit where it has one
 * (_bytes, _ms). Not thread-safe: one report, one thread. Running out of memory drops an item.
 */
#ifndef CORE_REPORT_H
#define CORE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum report_kind {
	REPORT_LAYER, /* a new layer begins; `key` is its name */
	REPORT_U64,
	REPORT_BOOL,
	REPORT_TEXT,
};

struct report_item {
	enum report_kind kind;
	const char *key; /* a literal */
	uint64_t number; /* REPORT_U64, REPORT_BOOL */
	char *text;      /* REPORT_TEXT; owned by the report */
};

struct report {
	struct report_item *items;
	size_t count;
	size_t room;
};

#define REPORT_INIT ((struct report){ NULL, 0, 0 })

void report_layer(struct report *r, const char *name);
void report_u64(struct report *r, const char *key, uint64_t value);
void report_bool(struct report *r, const char *key, bool value);
void report_text(struct report *r, const char *key, const char *value);

/* The first item with @key in a layer called @layer (any layer when NULL), or NULL. */
const struct report_item *report_find(const struct report *r, const char *layer, const char *key);

void report_clear(struct report *r);

#endif
