/* SPDX-License-Identifier: Apache-2.0 */
/* From a reference to the keys of objects. */
#include "tools/cache_image.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/image_records.h"

struct keys {
	char **list;
	size_t count;
};

static int append(struct keys *k, char *key)
{
	char **more = key ? reallocarray(k->list, k->count + 1, sizeof(*more)) : NULL;

	if (!more) {
		free(key);
		return -ENOMEM;
	}
	k->list = more;
	k->list[k->count++] = key;
	return 0;
}

static void clear(struct keys *k)
{
	for (size_t i = 0; i < k->count; i++) {
		free(k->list[i]);
	}
	free(k->list);
}

static int note(void *ctx, const char *key, bool record)
{
	return append(ctx, record ? image_records_key(key) : strdup(key));
}

char *cache_image_key_of(const char *id)
{
	size_t origin = strncmp(id, "http", 4) == 0 ? strcspn(id, " ") : strlen(id);
	const char *digest = id + origin + 1;
	size_t n = id[origin] ? strcspn(digest, "+") : 0;
	char *key = NULL;

	if (n == 0) {
		return strdup(id);
	}
	return asprintf(&key, "%.*s from %.*s%s", (int)n, digest, (int)origin, id, digest + n) < 0
		       ? NULL
		       : key;
}

struct search {
	const struct keys *wanted;
	const char *behind; /* what may stand behind a wanted key */
	struct keys found;
};

/* The object itself; of a blob also what was decoded of it, "DIGEST+gzip", and the same of another
 * registry, "DIGEST from https://host". */
static bool belongs(const char *key, const char *wanted, const char *behind)
{
	size_t n = strlen(wanted);

	return strncmp(key, wanted, n) == 0 && (!key[n] || strchr(behind, key[n]));
}

static int match(void *ctx, const struct cache_entry *entry)
{
	struct search *s = ctx;

	for (size_t i = 0; i < s->wanted->count; i++) {
		if (belongs(entry->key, s->wanted->list[i], s->behind)) {
			return append(&s->found, strdup(entry->key));
		}
	}
	return 0;
}

static int drop_all(struct cache *c, const struct keys *k, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < k->count; i++) {
		struct err why = { 0 };
		int n = cache_drop(c, k->list[i], &why);

		if (n < 0 && n != -ENOENT && r == 0) {
			r = err_set(e, n, "%s", why.text);
		}
	}
	return r;
}

void cache_image_drop_blob(struct cache *c, const char *key, const char *id)
{
	struct keys wanted = { 0 };
	struct search s = { .wanted = &wanted, .behind = "+" };

	if (append(&wanted, strdup(key)) == 0 && append(&wanted, cache_image_key_of(id)) == 0 &&
		cache_list(c, match, &s, NULL) == 0) {
		(void)drop_all(c, &s.found, NULL);
	}
	clear(&wanted);
	clear(&s.found);
}

int cache_image_drop(struct cache *c, const char *source, struct err *e)
{
	const struct source_records records = image_records(c);
	struct keys wanted = { 0 };
	struct search s = { .wanted = &wanted, .behind = "+ " };
	int r = source_image_known(&records, source, note, &wanted, e);

	if (r == 0) {
		r = cache_list(c, match, &s, e);
	} else if (r == -ENOMEM) {
		err_set(e, r, "out of memory");
	}
	if (r == 0) {
		r = drop_all(c, &s.found, e);
	}
	clear(&wanted);
	clear(&s.found);
	return r;
}
