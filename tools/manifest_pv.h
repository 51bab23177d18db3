/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which PersistentVolume serves which volume: each serves one at most. As in a cluster, who names a
 * PersistentVolume (or is named by its claimRef) gets it; who asks for a class and a size gets the
 * smallest that fits.
 */
#ifndef TOOLS_MANIFEST_PV_H
#define TOOLS_MANIFEST_PV_H

#include "tools/manifest_spec.h"

struct manifest_pvs {
	struct manifest_pv *list;
	const struct manifest_object **takers; /* who got each; NULL: nobody yet */
	size_t count;
};

/* All PersistentVolumes of @m. */
int manifest_pvs_load(const struct manifest *m, struct manifest_pvs *ret, struct err *e);
void manifest_pvs_clear(struct manifest_pvs *pvs);

/* Gives @taker what it names, or what names it; *ret is NULL when there is no such. Call it for all
 * takers before manifest_pvs_match() for any. -EINVAL: what it names cannot be had. */
int manifest_pvs_reserve(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const struct manifest_pv **ret, struct err *e);

/* Gives @taker the PersistentVolume @name that it has had in an earlier run, if that is still there
 * and nobody took it; *ret is NULL otherwise. */
void manifest_pvs_keep(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const char *name, const struct manifest_pv **ret);

/* Gives @taker the smallest one that fits and is free. -EINVAL: none. */
int manifest_pvs_match(struct manifest_pvs *pvs, const struct manifest_object *taker,
	const struct manifest_claim *claim, const struct manifest_pv **ret, struct err *e);

/* The one that serves the claim @ns/@name, or NULL. */
const struct manifest_pv *manifest_pvs_find(
	const struct manifest_pvs *pvs, const struct manifest *m, const char *ns, const char *name);

#endif
