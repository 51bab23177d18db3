/* SPDX-License-Identifier: Apache-2.0 */
/* A blob that tells in its report which image it is a layer of. */
#ifndef SOURCES_BLOB_FACTS_H
#define SOURCES_BLOB_FACTS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/image.h"
#include "sources/source.h"

/* Over @below, which it takes over on success, and whose id it has unless @id is not NULL. What
 * @facts says is copied. */
int blob_facts_open(struct image *below, const struct source_facts *facts, size_t layer,
	const char *id, struct image **ret, struct err *e);

/* Calls @fn before bytes are fetched through the image below @top that is such a blob; false: there
 * is none. It must return soon. NULL: no more, and no call is under way when this returns. */
typedef void blob_fetch_fn(void *ctx);
bool blob_facts_listen(struct image *top, blob_fetch_fn *fn, void *ctx);

#endif
