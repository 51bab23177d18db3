/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the JSON of a layer's table of contents: parsing ends, within bounds, and what comes
 * out of it is safe to compute with. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "formats/toc.h"

#define DATA_END 1000000U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_file(const struct toc *t, const struct toc_file *f)
{
	uint64_t at = 0;

	assert(f->first + f->count <= t->chunk_count);
	for (size_t i = f->first; i < f->first + f->count; i++) {
		const struct toc_chunk *c = &t->chunks[i];

		assert(c->offset == at && c->size > 0);
		at += c->size;
		if (c->host != UINT64_MAX) {
			assert(range_within(c->host, c->stored, DATA_END) && c->stored > 0);
			assert(c->size <= TOC_CHUNK_MAX && c->inner <= TOC_CHUNK_MAX);
		}
	}
	assert(at == f->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct toc t = { 0 };
	struct err e = { 0 };
	int r = toc_parse((const char *)data, len, DATA_END, &t, &e);

	if (r < 0) {
		assert((r == -EBADMSG || r == -ENOTSUP) && e.code == r && e.text[0]);
		return 0;
	}
	for (size_t i = 0; i < t.entry_count; i++) {
		assert(t.text[t.entries[i].name + strlen(t.text + t.entries[i].name)] == '\0');
		if (t.entries[i].kind == TREE_FILE) {
			assert(t.entries[i].file < t.file_count);
			check_file(&t, &t.files[t.entries[i].file]);
		}
	}
	toc_clear(&t);
	return 0;
}
