/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a mapped image: made, named, freed. */
#include "formats/mapped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/cleanup.h"
#include "formats/mapped_cluster.h"

int mapped_init(struct mapped *m, const struct mapped_ops *ops, struct image *file, size_t memory)
{
	m->map = ops;
	m->allocated = UINT64_MAX;
	return tables_init(&m->tables, file, memory);
}

int mapped_use_codec(struct mapped *m, enum codec_kind kind)
{
	int r = codec_new(kind, m->cluster_size, &m->codec);

	return r < 0 ? r : memo_new(m->cluster_size, MAPPED_CLUSTERS_MAX, &m->clusters);
}

int mapped_init_image(
	struct mapped *m, const struct image_ops *ops, struct image *file, uint64_t size)
{
	unsigned int back = m->backing ? m->backing->flags : file->flags;
	CLEANUP_FREE char *id = NULL;
	int n;

	n = m->backing ? asprintf(&id, "%s(%s over %s)", ops->name, file->id, m->backing->id)
		       : asprintf(&id, "%s(%s)", ops->name, file->id);
	if (n < 0) {
		id = NULL;
		return -ENOMEM;
	}
	if (image_init(&m->img, ops, file, size, id) < 0) {
		return -ENOMEM;
	}
	m->img.block = (uint32_t)min_u64(m->cluster_size, GIB(1));
	m->img.flags =
		(file->flags & back & IMAGE_LOCAL) | ((file->flags | back) & IMAGE_UNVERSIONED);
	return 0;
}

/* The chain below is the caller's; the backing file is another one. */
void mapped_interrupt(struct image *img)
{
	struct mapped *m = (struct mapped *)img;

	if (m->backing) {
		image_interrupt(m->backing);
	}
}

void mapped_listen(struct image *img, image_withdrawn_fn *fn, void *ctx)
{
	image_listen(((struct mapped *)img)->backing, fn, ctx);
}

/* Clusters last: they are made by what the tables say. */
void mapped_forget(struct image *img)
{
	struct mapped *m = (struct mapped *)img;

	image_forget(m->backing);
	tables_forget(&m->tables);
	if (m->tails) {
		tails_forget(m->tails);
	}
	if (m->clusters) {
		memo_forget(m->clusters);
	}
}

/* Once is enough: the names of a long chain would crowd out what went wrong. */
int mapped_backing_failed(const struct mapped *m, int code, struct err *e)
{
	static const char words[] = "backing file \"";

	if (e && strncmp(e->text, words, sizeof(words) - 1) == 0) {
		return code;
	}
	return err_wrap(e, code, "%s%s\"", words, m->backing_name);
}

int mapped_prove(struct image *img, struct err *e)
{
	struct mapped *m = (struct mapped *)img;
	int r = m->backing ? image_prove(m->backing, e) : 0;

	return r < 0 ? mapped_backing_failed(m, r, e) : 0;
}

bool mapped_owes_proof(const struct image *img)
{
	const struct mapped *m = (const struct mapped *)img;

	return m->backing && image_owes_proof(m->backing);
}

void mapped_clear(struct mapped *m)
{
	image_close(m->backing);
	memo_free(m->clusters);
	tails_free(m->tails);
	codec_free(m->codec);
	tables_clear(&m->tables);
}
