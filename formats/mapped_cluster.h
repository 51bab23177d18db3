/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of compressed clusters. */
#ifndef FORMATS_MAPPED_CLUSTER_H
#define FORMATS_MAPPED_CLUSTER_H

#include "core/err.h"
#include "formats/mapped.h"

/* Runs that one call takes. */
#define MAPPED_CLUSTER_RUNS 64U

/* Decompressed clusters of which only a part was wanted are kept, up to so many bytes. */
#define MAPPED_CLUSTERS_MAX MIB(16)

/*
 * Reads @n (at most MAPPED_CLUSTER_RUNS) COMPRESSED runs, each beginning where the one before ends,
 * into @buf. Streams that are neighbours in the file are read together. A cluster that is wanted
 * whole is decompressed into @buf; of one that is wanted in part, the rest is kept for whoever
 * comes next, and readers that come at the same time decompress it once. @age is
 * memo_age() of the clusters before the runs were looked up.
 */
int mapped_cluster_read(struct mapped *m, const struct run *runs, unsigned int n, uint64_t age,
	uint8_t *buf, struct err *e);

/* Whether that needs no byte of the file: it came by already. */
bool mapped_cluster_kept(const struct mapped *m, const struct run *run);

#endif
