/* SPDX-License-Identifier: Apache-2.0 */
/* Reports turned into JSON. */
#include "tools/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"

json_t *json_u64(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

json_t *json_text(const char *text)
{
	CLEANUP_FREE char *copy = NULL;
	json_t *s = json_string(text);

	if (s) {
		return s;
	}
	copy = strdup(text);
	for (char *p = copy; p && *p; p++) {
		if ((unsigned char)*p >= 0x80) {
			*p = '?';
		}
	}
	return copy ? json_string(copy) : NULL;
}

static json_t *item_value(const struct report_item *item)
{
	switch (item->kind) {
	case REPORT_U64:
		return json_u64(item->number);
	case REPORT_BOOL:
		return json_boolean(item->number);
	case REPORT_TEXT:
		return json_text(item->text);
	case REPORT_LAYER:
		break;
	}
	return NULL;
}

json_t *json_layers(const struct report *r)
{
	json_t *layers = json_array();
	json_t *layer = NULL; /* borrowed from the array */

	for (size_t i = 0; layers && i < r->count; i++) {
		const struct report_item *item = &r->items[i];

		if (item->kind == REPORT_LAYER) {
			layer = json_object();
			json_object_set_new(layer, "name", json_text(item->key));
			json_array_append_new(layers, layer);
		} else {
			json_object_set_new(layer, item->key, item_value(item));
		}
	}
	return layers;
}

json_t *json_image(struct image *image, const char *name, const char *source)
{
	CLEANUP(report_clear) struct report r = REPORT_INIT;

	image_report(image, &r);
	return json_pack("{s:o, s:o, s:o, s:o}", "name", json_text(name), "source",
		json_text(source), "size", json_u64(image->size), "layers", json_layers(&r));
}

int json_print(json_t *root, FILE *out)
{
	int r = root ? json_dumpf(root, out, JSON_INDENT(2)) : -1;

	json_decref(root);
	return r < 0 || fputc('\n', out) == EOF ? -EIO : 0;
}
