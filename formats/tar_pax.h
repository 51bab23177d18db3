/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a PAX extended header, "LENGTH KEYWORD=VALUE\n" each: those that say what an entry
 * is called, how large it is and where its holes are. Source of the rules: POSIX.1-2017, pax, "pax
 * Header Block"; GNU tar manual, "PAX Format, Versions 0.0, 0.1, 1.0" for GNU.sparse.
 */
#ifndef FORMATS_TAR_PAX_H
#define FORMATS_TAR_PAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "formats/tar_map.h"

/* No extended header is larger. */
#define TAR_PAX_MAX 1048576U

struct tar_pax {
	char *path; /* owned; NULL: not said */
	char *link;
	bool has_size;
	uint64_t size; /* of what is stored in the archive */

	/* GNU.sparse */
	char *sparse_name;
	bool has_real_size;
	uint64_t real_size;
	uint64_t major, minor; /* 1.0: the map stands before the data */
	bool has_map;
	struct tar_map map; /* 0.0 and 0.1; `host` of its pieces is not filled */
	bool has_piece;     /* 0.0: the offset of a piece whose length has not come */
	uint64_t piece;
};

/* Adds what @len bytes of records say to @pax (zeroed at first): later records win, an empty value
 * takes back what was said. -EBADMSG, -ENOMEM. @pax is to be cleared in any case. */
int tar_pax_parse(const char *buf, size_t len, struct tar_pax *pax, struct err *e);

/* A global header (type g): programs do not agree on what it does to the entries behind it.
 * Records of no consequence are ignored, others are refused with -ENOTSUP. */
int tar_pax_check_global(const char *buf, size_t len, struct err *e);

void tar_pax_clear(struct tar_pax *pax);

#endif
